"""Clients of every kind, good ones and hostile ones, all at once for a while; then the server holds no more than before.

    python tests/server/soak_test.py build/release/octet [--model DIR] [--seconds 60] [--clients 16]
"""

import argparse
import collections
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import socket
import threading
import time
import unittest

import serving
from attacks import HELLO, KINDS, chat, completion

STORY = {"max_tokens": 60, "temperature": 1.0, "ignore_eos": True}
GOOD = [
    lambda r: completion(max_tokens=r.randint(1, 40)),
    lambda r: completion(stream=True, stream_options={"include_usage": True}, **STORY),
    lambda r: completion(n=4, logprobs=5, **STORY),
    lambda r: completion(echo=True, logprobs=2, prompt="The weather on Monday"),
    lambda r: completion(prompt=["On Monday", "On Tuesday"], stop=["\n", "."], max_tokens=40),
    lambda r: completion(seed=r.randint(0, 9), top_p=0.9, presence_penalty=0.5, max_tokens=30),
    lambda r: chat(HELLO, max_tokens=30),
    lambda r: chat(HELLO, stream=True, logprobs=True, top_logprobs=3, **STORY),
    lambda r: ("/tokenize", json.dumps({"model": "", "prompt": "Hello there"})),
]
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
# What is no request, or no whole one.
RAW = [
    "", "\r\n\r\n", "GET", "\x16\x03\x01\x02\x00\x01\x00", "GET / HTTP/9.9\r\n\r\n", "GET /health HTTP/1.1\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: x\r\n" + "X: " + "y" * 100000, HEAD + "Content-Length: 1000000000\r\n\r\n",
    HEAD + "Content-Length: 100\r\n\r\n{", HEAD + "Content-Length: -1\r\n\r\n",
    HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n", HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    HEAD + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n", HEAD + "Content-Length: 2\r\n\r\n{}" * 20,
    "GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 200,
]
KV_BYTES = 200_000_000
GAUGES = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"


class Clients:
    def __init__(self, port, seconds):
        self.port, self.end = port, time.monotonic() + seconds
        self.seen = collections.Counter()
        self.wrong = []

    def run(self, number):
        r = random.Random(number)
        acts = [self.answered, self.answered, self.attack, self.leave, self.raw, self.slow]
        while time.monotonic() < self.end:
            try:
                r.choice(acts)(r)
            except (OSError, http.client.HTTPException) as e:  # cut off, as some deserve
                self.seen[type(e).__name__] += 1
            except Exception as e:  # pylint: disable=broad-except
                self.wrong.append(repr(e))

    @contextlib.contextmanager
    def ask(self, path, body):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            yield connection.getresponse()

    def answered(self, r):
        with self.ask(*r.choice(GOOD)(r)) as response:
            text = response.read().decode()
        self.seen[response.status] += 1
        if response.status not in (200, 503) or (response.status == 200 and not text):
            self.wrong.append(f"{response.status}: {text[:300]}")

    def attack(self, r):
        size, request = r.choice(list(KINDS.values()))
        with self.ask(*request(r.randint(1, 2 * size))) as response:
            response.read()
        self.seen[response.status] += 1
        if response.status not in (200, 400, 413, 503):
            self.wrong.append(f"{response.status} for an attack")

    def leave(self, r):
        """In the middle of an answer."""
        request = r.choice([completion, lambda **more: chat(HELLO, **more)])
        with self.ask(*request(stream=True, **STORY | {"max_tokens": 500, "n": r.choice([1, 3])})) as response:
            response.read(r.randint(1, 2000))
        self.seen["left"] += 1

    def raw(self, r):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
            s.sendall(r.choice(RAW).encode("latin-1"))
            if r.random() < 0.5:
                s.shutdown(socket.SHUT_WR)
            s.settimeout(2)
            while s.recv(65536):
                pass
        self.seen["raw"] += 1

    def slow(self, r):
        """Byte by byte, and it reads as slowly."""
        path, body = completion(stream=True, **STORY)
        text = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            for i in range(0, len(text), 40):
                s.sendall(text[i:i + 40].encode())
                time.sleep(0.01)
            for _ in range(r.randint(1, 100)):
                if not s.recv(512):
                    break
                time.sleep(0.05)
        self.seen["slow"] += 1


class Soak(unittest.TestCase):
    def test_nothing_is_left(self):
        process, url = serving.start(self.addCleanup, "--kv-cache-memory-bytes", KV_BYTES, model=OPTIONS.model)
        threading.Thread(target=process.stdout.read, daemon=True).start()
        self.pid, self.port = process.pid, int(url.rsplit(":", 1)[1])
        warm = Clients(self.port, 0)
        for seed in range(3):  # threads, buffers and tables that come with the first use of each kind
            for good in GOOD:
                with warm.ask(*good(random.Random(seed))) as response:
                    response.read()
        for size, request in KINDS.values():
            with warm.ask(*request(2 * size)) as response:
                response.read()
        self.soak(max(10, OPTIONS.seconds / 20))  # pages of the KV cache are taken once and kept
        before = self.settled()
        self.soak(OPTIONS.seconds)
        after = self.settled()
        print(f"before {before}\nafter {after}", flush=True)
        self.assertIsNone(process.poll())
        self.assertLess(after.pop("MB"), 1.1 * before.pop("MB"))
        self.assertEqual(after, before)

    def soak(self, seconds):
        clients = Clients(self.port, seconds)
        threads = [threading.Thread(target=clients.run, args=(i,)) for i in range(OPTIONS.clients)]
        for t in threads:
            t.start()
        highest, longest = 0, 0.0
        while any(t.is_alive() for t in threads):
            begin = time.monotonic()
            self.assertEqual(self.get("/health")[0], 200)
            longest = max(longest, time.monotonic() - begin)
            highest = max(highest, self.figures()["MB"])
            time.sleep(0.5)
        for t in threads:
            t.join()
        print(f"{dict(clients.seen)}; {highest:.0f} MB, /health in {longest:.2f} s at most", flush=True)
        self.assertEqual(clients.wrong[:5], [])

    def get(self, path):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def figures(self):
        proc = pathlib.Path(f"/proc/{self.pid}")
        pages = int((proc / "statm").read_text().split()[1])
        return {"MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6, "descriptors": len(list((proc / "fd").iterdir())),
                "threads": len(list((proc / "task").iterdir()))}

    def settled(self):
        """Once nothing is under way and memory has gone back."""
        end = time.monotonic() + 90
        while True:
            text = self.get("/metrics")[1]
            gauges = {name: float(re.search(rf"^{name}(?:{{.*}})? (\S+)", text, re.M)[1]) for name in GAUGES}
            if not any(gauges.values()) or time.monotonic() > end:
                break
            time.sleep(0.5)
        time.sleep(OPTIONS.rest)
        return self.figures() | gauges


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", type=pathlib.Path, default=serving.QWEN3)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rest", type=float, default=15, help="seconds until memory is asked for")
    OPTIONS, rest = parser.parse_known_args()
    unittest.main(argv=["soak_test.py", *rest])
