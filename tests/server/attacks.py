"""Requests that are meant to cost a server much, for the tests beside this file: of the model that it serves, whose
vocabulary has 301 tokens at least."""

import json

ONE = {"model": "", "prompt": "On Monday", "max_tokens": 1, "temperature": 0}
HELLO = [{"role": "user", "content": "Hello!"}]


def completion(**more):
    return "/v1/completions", json.dumps(ONE | more)


def chat(messages, **more):
    return "/v1/chat/completions", json.dumps({"model": "", "max_tokens": 1, "messages": messages} | more)


def called(arguments):
    return chat([*HELLO, {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "f", "arguments": arguments}}]}, *HELLO])


# The worst of each kind, by size: about a second's work or less at four times the least size.
KINDS = {
    "members of the request": (20000, lambda n: completion(**{f"x{i}": 1 for i in range(n)})),
    "one member again and again": (20000, lambda n: (
        "/v1/completions", json.dumps(ONE)[:-1] + ', "user": "x"' * n + "}")),
    "objects in a list": (50000, lambda n: completion(user=[{"a": 1}] * n)),
    "logit_bias": (50000, lambda n: completion(logit_bias={str(i): 1 for i in range(n)})),
    "the same allowed token": (200000, lambda n: completion(allowed_token_ids=[300] * n)),
    "stop tokens": (200000, lambda n: completion(stop_token_ids=[300] * n, max_tokens=50)),
    "bad words": (1000, lambda n: completion(bad_words=[f"word{i}" for i in range(n)])),
    "long bad words": (100000, lambda n: completion(bad_words=["x" * n] * 4)),
    "stop strings": (100000, lambda n: completion(stop=["x" * n] * 16, max_tokens=50)),
    "a prompt that is too long": (250000, lambda n: completion(prompt="word " * n)),
    "a word without an end": (250000, lambda n: completion(prompt="x" * n)),
    "token ids": (200000, lambda n: completion(prompt=[300] * n)),
    "prompts": (128, lambda n: completion(prompt=["On Monday"] * n)),
    "answers": (128, lambda n: completion(n=n, temperature=1)),
    "messages": (1000, lambda n: chat(HELLO * n)),
    "members of a message": (20000, lambda n: chat([HELLO[0] | {f"x{i}": 1 for i in range(n)}])),
    "parts of a message": (5000, lambda n: chat([{"role": "user", "content": [{"type": "text", "text": "x"}] * n}])),
    "arguments of a call": (20000, lambda n: called(json.dumps({f"x{i}": 1 for i in range(n)}))),
    "tools": (500, lambda n: chat(HELLO, tools=[{"type": "function", "function": {"name": f"f{i}"}} for i in range(n)])),
    "variables of the template": (20000, lambda n: chat(HELLO, chat_template_kwargs={f"x{i}": 1 for i in range(n)})),
    "text to count": (250000, lambda n: ("/tokenize", json.dumps({"model": "", "prompt": "word " * n}))),
    "digits to count": (100000, lambda n: ("/tokenize", json.dumps({"model": "", "prompt": "7" * n, "return_token_strs": True}))),
    "spaces to count": (250000, lambda n: ("/tokenize", json.dumps({"model": "", "prompt": " " * n}))),
    "ids to spell": (100000, lambda n: ("/detokenize", json.dumps({"model": "", "tokens": [300] * n}))),
}
