"""What a request costs grows no faster than its size, and holds up nobody else.

    python tests/server/attack_test.py build/release/octet
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import threading
import time
import unittest

import serving

MODEL = serving.QWEN3
ONE = {"model": str(MODEL), "prompt": "On Monday", "max_tokens": 1, "temperature": 0}
HELLO = [{"role": "user", "content": "Hello!"}]


def completion(**more):
    return "/v1/completions", json.dumps(ONE | more)


def chat(messages, **more):
    return "/v1/chat/completions", json.dumps({"model": str(MODEL), "max_tokens": 1, "messages": messages} | more)


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
    "text to count": (250000, lambda n: ("/tokenize", json.dumps({"model": str(MODEL), "prompt": "word " * n}))),
    "ids to spell": (100000, lambda n: ("/detokenize", json.dumps({"model": str(MODEL), "tokens": [300] * n}))),
}


class Attacks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.run_, url = serving.start(cls.addClassCleanup, model=MODEL)
        cls.port = int(url.rsplit(":", 1)[1])

    def send(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.run_.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cost(self, request):
        before = self.cpu_seconds()
        self.assertIn(self.send(*request), (200, 400, 413, 503))
        return self.cpu_seconds() - before

    def test_the_cost_is_linear(self):
        for kind, (size, request) in KINDS.items():
            with self.subTest(kind):
                self.cost(request(size))
                # Clock ticks are of 10 ms. Quadratic cost would be 16 times as much.
                once, four = (min(self.cost(request(n)) for _ in range(2)) for n in (size, 4 * size))
                print(f"{kind}: {once:.2f} s, at four times the size {four:.2f} s", flush=True)
                self.assertLess(four, 8 * once + 0.15)

    def test_others_get_their_answers(self):
        """One client sends the worst of every kind, two at a time; another asks for a token meanwhile."""
        requests = [request(4 * size) for size, request in KINDS.values()]
        ended = threading.Event()

        def attack(offset):
            for request in requests[offset::2] if not ended.is_set() else []:
                self.send(*request)

        waits = []
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            attacks = [pool.submit(attack, offset) for offset in (0, 1)]
            while not all(a.done() for a in attacks) and len(waits) < 200:
                start = time.monotonic()
                self.assertEqual(self.send("/v1/completions", json.dumps(ONE)), 200)
                waits.append(time.monotonic() - start)
                time.sleep(0.05)
            ended.set()
            for a in attacks:
                a.result()
        waits.sort()
        print(f"{len(waits)} requests: median {waits[len(waits) // 2]:.2f} s, longest {waits[-1]:.2f} s")
        self.assertLess(waits[len(waits) * 9 // 10], 1)


if __name__ == "__main__":
    unittest.main()
