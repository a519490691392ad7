"""What a request costs grows no faster than its size, and holds up nobody else.

    python tests/server/attack_test.py build/release/octet
"""

import concurrent.futures
import http.client
import json
import math
import os
import pathlib
import shutil
import tempfile
import threading
import time
import unittest

import serving
from attacks import KINDS, ONE, completion

MODEL = serving.QWEN3


class Attacked(unittest.TestCase):
    model = MODEL

    @classmethod
    def setUpClass(cls):
        cls.run_, url = serving.start(cls.addClassCleanup, model=cls.model)
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

    def ask_while(self, attacks):
        """Waits for one-token answers, sorted, until the attacks have ended."""
        waits = []
        while not all(a.done() for a in attacks) and len(waits) < 200:
            start = time.monotonic()
            self.assertEqual(self.send("/v1/completions", json.dumps(ONE)), 200)
            waits.append(time.monotonic() - start)
            time.sleep(0.05)
        waits.sort()
        print(f"{len(waits)} requests: median {waits[len(waits) // 2]:.2f} s, longest {waits[-1]:.2f} s")
        return waits


class Attacks(Attacked):
    def cost(self, request):
        before = self.cpu_seconds()
        self.assertIn(self.send(*request), (200, 400, 413, 503))
        return self.cpu_seconds() - before

    def test_the_cost_is_linear(self):
        for kind, (size, request) in KINDS.items():
            with self.subTest(kind):
                self.cost(request(size))
                # Clock ticks are of 10 ms, and what else runs on the machine adds to any measurement: the
                # least of as many as it takes, 2 to 8. Quadratic cost would be 16 times as much at four times the size, in every attempt.
                least = [math.inf] * 3
                for attempt in range(8):
                    least = [min(c, self.cost(request(k * size))) for c, k in zip(least, (1, 2, 4))]
                    once, twice, four = least
                    if attempt > 0 and twice < 4 * once + 0.15 and four < 8 * once + 0.15:
                        break
                print(f"{kind}: {once:.2f} s, at two and four times the size {twice:.2f}, {four:.2f} s", flush=True)
                self.assertLess(twice, 4 * once + 0.15)
                self.assertLess(four, 8 * once + 0.15)

    def test_others_get_their_answers(self):
        """One client sends the worst of every kind, two at a time; another asks for a token meanwhile."""
        requests = [request(4 * size) for size, request in KINDS.values()]
        ended = threading.Event()

        def attack(offset):
            for request in requests[offset::2] if not ended.is_set() else []:
                self.send(*request)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            attacks = [pool.submit(attack, offset) for offset in (0, 1)]
            waits = self.ask_while(attacks)
            ended.set()
            for a in attacks:
                a.result()
        self.assertLess(waits[len(waits) * 9 // 10], 1)


class LongTexts(Attacked):
    """A model whose context has room for long texts: that they are too long shows only in their tokens."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.model = pathlib.Path(folder.name) / "model"
        shutil.copytree(MODEL, cls.model)
        config = json.loads((MODEL / "config.json").read_text())
        (cls.model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 131072}))
        super().setUpClass()

    def test_they_hold_up_nobody(self):
        digits = completion(prompt="1234567" * 300000)  # 2 MB, a token each
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            attacks = [pool.submit(lambda: [self.send(*digits) for _ in range(5)]) for _ in range(4)]
            waits = self.ask_while(attacks)
            for a in attacks:
                self.assertEqual(a.result(), [400] * 5)
        self.assertLess(waits[len(waits) * 9 // 10], 1)

    def test_counting_holds_up_no_large_prompt(self):
        count = "/tokenize", json.dumps({"model": "", "prompt": "1234567" * 1000000})
        prompt = completion(prompt="7" * 140000)  # refused for its tokens, once they are made
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            counts = [pool.submit(self.send, *count) for _ in range(2)]
            time.sleep(0.5)
            start = time.monotonic()
            self.assertEqual(self.send(*prompt), 400)
            spent = time.monotonic() - start
            self.assertFalse(counts[1].done())  # it did not wait for them
            self.assertEqual([c.result() for c in counts], [200, 200])
        print(f"a large prompt beside counting: {spent:.2f} s")

    def test_truncation_has_an_end(self):
        for times, status in (20000, 200), (300000, 400):  # 140000 tokens, 2100000
            request = completion(prompt="1234567" * times, truncate_prompt_tokens=10)
            self.assertEqual(self.send(*request), status)

    def test_who_leaves_ends_the_work(self):
        body = json.dumps({"model": "", "prompt": "1234567" * 2000000})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/tokenize", body, {"Content-Type": "application/json"})
        time.sleep(1)
        self.assertGreater(self.cpu_seconds(), 0.1)
        connection.close()
        time.sleep(1)  # for the piece that it is at
        before = self.cpu_seconds()
        time.sleep(1)
        self.assertLess(self.cpu_seconds() - before, 0.3)


if __name__ == "__main__":
    unittest.main()
