"""`octet quantize`, `eval` and `bench` on several ranks of this host: what one rank gives, and what happens when
a rank fails.

    offline_test.py OCTET
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

from serving import LLAMA, OCTET, QWEN, ROOT, Verbs, below, rank_of
from testing import CALIB

TEXT = ROOT / "models/text.jsonl"
WEIGHTS = "quant_model_weight_w8a8.safetensors"
MINDIE = ["--disable_level", "L1", "--anti_method", "m3", "--act_method", "3"]


class Offline(Verbs):
    def setUp(self):
        super().setUp()
        self.out = self.dir / "out"
        self.partial = self.dir / "out.partial"

    def quantize(self, model, *flags):
        return ["quantize", "--model_path", model, "--save_directory", self.out, "--calib_file", CALIB, *flags]

    def begun(self, *flags):
        """A run on several ranks that has finished a layer."""
        run = subprocess.Popen([OCTET, *map(str, self.quantize(LLAMA, *flags))], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.addCleanup(lambda: run.poll() is None and run.kill())
        deadline = time.monotonic() + 60
        while not (self.partial / "journal").exists():
            self.assertIsNone(run.poll(), run.stderr.read() if run.poll() is not None else "")
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.005)
        return run

    def test_the_bytes_of_one_rank(self):
        for flags in MINDIE, ["--recipe", "octet", "--dynamic-budget", "2"]:
            files = []
            mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2"]
            for before, ranks in ([], []), ([], ["--tp", "3"]), (mpirun, []):
                run = subprocess.run([*before, OCTET, *map(str, self.quantize(QWEN, *flags, "--overwrite", *ranks))],
                                     capture_output=True, text=True, stdin=subprocess.DEVNULL)
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertEqual(run.stdout.count("tensors "), 1, "one table")
                files.append((self.out / WEIGHTS).read_bytes())
            self.assertEqual(len(set(files)), 1, flags)

    def test_eval_and_bench(self):
        self.good(*self.quantize(LLAMA, *MINDIE, "--quiet"))
        measured = [json.loads(self.good("eval", LLAMA, self.out, "--text", TEXT, "--passages", "3", "--json", *flags))
                    for flags in ([], ["--tp", "2"])]
        # Float layers are added up in another order; of the int8 model only they.
        for one, two in zip(*measured):
            self.assertAlmostEqual(one["perplexity"], two["perplexity"], delta=1e-4 * one["perplexity"])
        self.assertAlmostEqual(measured[0][1]["kl"], measured[1][1]["kl"], delta=1e-5)
        self.assertIn("2 ranks of", self.good("bench", "offline", self.out, "--tp", "2", "--repeat", "1", "--output", "4"))
        self.assertIn("16.0 KiB", self.good("bench", "sums", "--tp", 2, "--rounds", 1))
        self.bad(2, "--tp", "bench", "sums", "--tp", 1)
        self.bad(2, "--layers", "eval", LLAMA, self.out, "--text", TEXT, "--layers", "--tp", "2")

    def test_what_is_wrong_shows_once(self):
        self.out.mkdir()
        (self.out / "file").touch()
        self.bad(2, ["out", "--overwrite"], *self.quantize(LLAMA, "--tp", "2"))
        self.bad(2, "--tp", *self.quantize(LLAMA, "--tp", "0"))
        self.bad(1, "nothing", "eval", self.dir / "nothing", "--text", TEXT, "--tp", "2")

    def test_an_interrupted_run_goes_on_with_any_ranks(self):
        flags = ["--recipe", "octet", "--dynamic-budget", "2"]
        self.good(*self.quantize(LLAMA, *flags, "--quiet"))
        want = (self.out / WEIGHTS).read_bytes()
        shutil.rmtree(self.out)
        run = self.begun(*flags, "--tp", "2")
        run.send_signal(signal.SIGTERM)
        _, said = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 130, said)
        self.assertIn("--resume", said)
        self.good(*self.quantize(LLAMA, *flags, "--tp", "3", "--resume"))
        self.assertEqual((self.out / WEIGHTS).read_bytes(), want)

    def test_a_rank_that_ends_is_told_once(self):
        for which in 0, 1:
            run = self.begun(*MINDIE, "--tp", "2", "--quiet")
            time.sleep(0.1)
            ranks = sorted((pid for pid in below(run.pid) if rank_of(pid) is not None), key=rank_of)
            self.assertEqual(len(ranks), 2)
            begin = time.monotonic()
            os.kill(ranks[which], signal.SIGKILL)
            _, said = run.communicate(timeout=60)
            self.assertLess(time.monotonic() - begin, 10)
            self.assertEqual(run.returncode, 1, said)
            self.assertEqual(said.count("octet: error"), 1, said)
            self.assertEqual(below(run.pid), [])
            self.assertFalse(self.out.exists())
            self.good(*self.quantize(LLAMA, *MINDIE, "--quiet", "--resume"))
            shutil.rmtree(self.out)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
