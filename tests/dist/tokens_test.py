"""`octet serve` through mpirun on this host, the user's mpirun and a local Ray, on 1, 2, 3, 4, 5 and 8 ranks, as far as the
model has query heads: 50 prompts get the 64 greedy tokens of one rank.

    tokens_test.py OCTET

With the real SmolLM2, too, all of its linears in int8, where scripts/demo has fetched it, and without Ray where there is
none: what is left out is said. (Where some linears of a quantized model stay in float, sums in another order differ in the
last bit, and int8 rounding makes more of that: docs/distributed.md.)
"""
import json
import os
import pathlib
import signal
import sys
import time
import unittest

from ray_cluster import environment, python, ray_folder
from serving import LLAMA, PROMPTS, QWEN, QWEN3, Ranked, Server, mpirun

SMOLLM2 = pathlib.Path.home() / ".cache/octet/demo/smollm2/float"
RANKS = [2, 3, 4, 5, 8]


class SameTokens(Ranked):
    def by_mp(self, model, ranks):
        server = Server(self, model, ranks, backend="mp")
        return server, server.process.terminate

    def by_mpi(self, model, ranks):
        server = Server(self, model, ranks, before=mpirun(ranks), environment={"OCTET_THREADS": "1"})
        return server, lambda: os.kill(server.ranks()[0], signal.SIGTERM)

    def by_ray(self, model, ranks):
        server = Server(self, model, ranks, backend="ray", environment=environment(ray_folder(self), "local"))
        return server, server.process.terminate

    def compare(self, model):
        heads = json.loads((model / "config.json").read_text())["num_attention_heads"]
        alone = Server(self, model, 1)
        want = alone.greedy(PROMPTS[:50], 64, at_once=16)
        self.assertEqual(alone.end(), 0)
        for name, start in ("mp", self.by_mp), ("mpi", self.by_mpi), ("ray", self.by_ray):
            if name == "ray" and python() is None:
                print("left out: ray, which is not here", file=sys.stderr)
                continue
            for ranks in [n for n in RANKS if n <= heads]:
                with self.subTest(model=model.name, backend=name, ranks=ranks):
                    server, tell_to_end = start(model, ranks)
                    begin = time.monotonic()
                    self.assertEqual(len(server.ranks()), ranks)
                    self.assertEqual(server.greedy(PROMPTS[:50], 64, at_once=16), want)
                    print(f"{model.name}, {name}, {ranks} ranks: {time.monotonic() - begin:.0f} s", file=sys.stderr)
                    tell_to_end()
                    self.assertEqual(server.process.wait(timeout=60), 0, server.text())

    def test_llama(self):
        self.compare(LLAMA)

    def test_qwen2(self):
        self.compare(QWEN)

    def test_qwen3(self):
        self.compare(QWEN3)

    @unittest.skipUnless(SMOLLM2.exists(), "scripts/demo has not fetched SmolLM2 here")
    def test_smollm2_w8a8(self):
        out = self.dir / "w8a8"
        self.quantize(SMOLLM2, out, "--quiet", "--disable_names", "none")
        self.compare(out)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
