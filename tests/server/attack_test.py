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
from attacks import KINDS, ONE

MODEL = serving.QWEN3


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
