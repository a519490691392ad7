"""The server against the official OpenAI Python client.

Starts `octet serve` on a free port (or takes a running server with --url), talks to it as an
application would, and ends only the process that it started. Exit code 0: all checks passed; 1:
at least one failed, with one line for each.

    python openai_client_test.py --octet build/release/octet --model models/llama3_tiny_bf16
    python openai_client_test.py --url http://127.0.0.1:8000 --name tiny
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import traceback
import urllib.request

import openai

READY = re.compile(r"Octet is ready at (https?://\S+)")
START_SECONDS = 120
STOP_SECONDS = 60


class Server:
    """`octet serve` as a child process, ended by SIGTERM."""

    def __init__(self, octet, model):
        command = [octet, "serve", "--model", model, "--served-model-name", "tiny", "alias",
                   "--host", "127.0.0.1", "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True)
        self.lines = []
        self.url = None
        self.ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self.ready.wait(START_SECONDS) or self.url is None:
            self.stop()
            raise RuntimeError("the server did not get ready:\n" + "".join(self.lines[-20:]))

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            found = READY.search(line)
            if found:
                self.url = found.group(1)
                self.ready.set()
        self.ready.set()

    def stop(self):
        """The exit code after SIGTERM."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "none within %d s" % STOP_SECONDS


class Checks:
    """The checks; each method named check_* is one."""

    def __init__(self, url, name, folder=None):
        self.url = url
        self.folder = folder
        self.name = name
        self.client = openai.OpenAI(base_url=url + "/v1", api_key="none", timeout=120)

    def complete(self, **body):
        body = {"model": self.name, "prompt": "Once upon a time", "max_tokens": 12,
                "temperature": 0, **body}
        return self.client.completions.create(**body)

    def chat(self, **body):
        body = {"model": self.name, "max_completion_tokens": 12, "temperature": 0,
                "messages": [{"role": "user", "content": "Say hello."}], **body}
        return self.client.chat.completions.create(**body)

    def metric(self, name):
        with urllib.request.urlopen(self.url + "/metrics") as reply:
            for line in reply.read().decode().splitlines():
                if re.match(re.escape(name) + r"[ {]", line):
                    return float(line.rsplit(" ", 1)[1])
        raise AssertionError("no metric " + name)

    def check_chats_of_transformers(self):
        """The greedy answers of expected.json, where the model has them, up to the end of the turn; a thinking
        template also without thoughts."""
        for chat in json.loads((self.folder / "expected.json").read_text())["chat"] if self.folder else []:
            tools = {"tools": chat["tools"], "tool_choice": "none"} if "tools" in chat else {}
            answer = self.chat(messages=chat["messages"], max_completion_tokens=len(chat["answer_ids"]), **tools,
                               extra_body={"chat_template_kwargs": chat.get("chat_template_kwargs", {}),
                                           "repetition_penalty": 1})
            text = answer.choices[0].message.content
            assert chat["answer"].startswith(text), (chat["answer"], text)
            assert answer.choices[0].finish_reason == "stop" or text == chat["answer"], (chat["answer"], text)

    def check_models(self):
        models = self.client.models.list().data
        assert models[0].id == self.name, models
        assert models[0].max_model_len > 0
        assert self.client.models.retrieve(self.name).id == self.name

    def check_completion(self):
        answer = self.complete(extra_body={"ignore_eos": True})
        assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
        assert answer.usage.completion_tokens == 12
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
        assert answer.choices[0].finish_reason == "length"
        assert answer.choices[0].text

    def check_completion_stream(self):
        events = list(self.complete(stream=True, stream_options={"include_usage": True}))
        text = "".join(e.choices[0].text for e in events if e.choices)
        whole = self.complete()
        assert text == whole.choices[0].text, (text, whole.choices[0].text)
        assert events[-1].usage == whole.usage.model_copy(
            update={"prompt_tokens_details": events[-1].usage.prompt_tokens_details})
        assert events[-2].choices[0].finish_reason == whole.choices[0].finish_reason

    def check_prompt_list_and_logprobs(self):
        answer = self.complete(prompt=["Once", "Twice"], logprobs=3)
        assert [c.index for c in answer.choices] == [0, 1]
        for choice in answer.choices:
            assert len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs)
            assert all(v <= 0 for v in choice.logprobs.token_logprobs)

    def check_chat(self):
        answer = self.chat(logprobs=True, top_logprobs=2)
        message = answer.choices[0].message
        assert message.role == "assistant" and message.content is not None
        assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens
        assert all(len(t.top_logprobs) == 2 for t in answer.choices[0].logprobs.content)

    def check_chat_stream(self):
        events = list(self.chat(stream=True))
        assert events[0].choices[0].delta.role == "assistant"
        text = "".join(e.choices[0].delta.content or "" for e in events)
        assert text == self.chat().choices[0].message.content
        assert [e.choices[0].finish_reason for e in events if e.choices[0].finish_reason]

    def check_several_turns(self):
        first = self.chat().choices[0].message
        turns = [{"role": "user", "content": "Say hello."}, first.model_dump(exclude_none=True),
                 {"role": "user", "content": [{"type": "text", "text": "And again."}]}]
        assert self.chat(messages=turns).choices[0].message.role == "assistant"

    def check_tokenization(self):
        post = self.client.with_options(max_retries=0).post
        root = self.url
        tokens = post(root + "/tokenize", cast_to=object, body={"prompt": "Grüße 🎉"})
        assert tokens["count"] == len(tokens["tokens"])
        back = post(root + "/detokenize", cast_to=object, body={"tokens": tokens["tokens"]})
        assert back["prompt"].endswith("Grüße 🎉"), back
        by_ids = self.complete(prompt=tokens["tokens"])
        assert by_ids.usage.prompt_tokens == tokens["count"]

    def check_errors(self):
        def fails(kind, call):
            try:
                call()
            except kind as error:
                return error
            raise AssertionError("no %s" % kind.__name__)

        error = fails(openai.NotFoundError, lambda: self.complete(model="nope"))
        assert error.param == "model" and "does not exist" in str(error)
        error = fails(openai.BadRequestError, lambda: self.complete(temperature=-1))
        assert error.param == "temperature"
        for stream in (False, True):
            error = fails(openai.BadRequestError,
                          lambda: self.complete(max_tokens=10**7, stream=stream))
            assert "maximum context length" in str(error)
        fails(openai.BadRequestError, lambda: self.chat(messages=[]))
        fails(openai.BadRequestError, lambda: self.complete(suffix="end"))

    def check_concurrent_clients(self):
        """Eight clients, one of which goes away in the middle of its stream."""
        prompts = ["Prompt number %d" % i for i in range(8)]
        alone = [self.complete(prompt=p, max_tokens=24).choices[0].text for p in prompts]
        before = self.metric("vllm:kv_cache_usage_perc")

        def work(i):
            stream = self.complete(prompt=prompts[i], stream=True,
                                   max_tokens=400 if i == 3 else 24,
                                   extra_body={"ignore_eos": True} if i == 3 else None)
            text = ""
            for event in stream:
                text += event.choices[0].text
                if i == 3:
                    stream.close()
                    return None
            return text

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            texts = list(pool.map(work, range(8)))
        for i in range(8):
            assert i == 3 or texts[i] == alone[i], (i, texts[i], alone[i])
        until = time.monotonic() + 10
        while self.metric("vllm:num_requests_running") > 0 and time.monotonic() < until:
            time.sleep(0.05)
        assert self.metric("vllm:num_requests_running") == 0
        assert self.metric("vllm:kv_cache_usage_perc") == before

    def run(self):
        """How many checks failed."""
        failed = 0
        names = [n for n in dir(self) if n.startswith("check_")]
        for name in names:
            try:
                getattr(self, name)()
                print("passed:", name[6:].replace("_", " "))
            except Exception:  # whatever went wrong, the other checks go on
                failed += 1
                print("FAILED:", name[6:].replace("_", " "))
                traceback.print_exc(file=sys.stdout)
        print("%d passed, %d failed" % (len(names) - failed, failed))
        return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--octet", default="build/release/octet", help="the program")
    parser.add_argument("--model", default="models/llama3_tiny_bf16", help="a model folder")
    parser.add_argument("--url", help="a running server, instead of starting one")
    parser.add_argument("--name", default="tiny", help="the first served name of --url")
    arguments = parser.parse_args()
    if arguments.url:
        return 1 if Checks(arguments.url.rstrip("/"), arguments.name).run() else 0
    server = Server(arguments.octet, arguments.model)
    try:
        failed = Checks(server.url, "tiny", pathlib.Path(arguments.model)).run()
    finally:
        code = server.stop()
    if code != 0:
        print("FAILED: the server ended with exit code", code)
        print("".join(server.lines[-20:]))
    return 1 if failed or code != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
