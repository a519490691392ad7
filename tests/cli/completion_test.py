#!/usr/bin/env python3
"""`octet completion`: what a shell offers at <TAB>; the script runs in a real bash.

    tests/cli/completion_test.py path/to/octet        (needs Python and bash)
"""
import subprocess
import sys
import unittest

from testing import Verbs


class Completion(Verbs):
    def test_completion(self):
        for shell in "bash", "zsh":
            self.assertIn("complete -o filenames -F _octet octet", self.good("completion", shell))
        script = self.good("completion", "bash")

        def offered(*words):
            typed = " ".join(f"'{word}'" for word in ("octet", *words))
            end = f'\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; _octet; printf "%s\\n" "${{COMPREPLY[@]}}"'
            done = subprocess.run(["bash", "-c", script + end], capture_output=True, text=True, cwd=self.dir)
            self.assertEqual(done.stderr, "")
            return done.stdout.split()

        (self.dir / "mine.yaml").touch()
        self.assertIn("quantize", offered("q"))
        self.assertEqual(offered("quantize", "--model-p"), ["--model-path"])
        self.assertEqual(offered("quantize", "--float_b"), ["--float_budget"])
        # Verbs below verbs.
        quant = offered("quantize", "quant", "--")
        for name in "--quant-type", "--config-path", "--save-path":
            self.assertIn(name, quant)
        self.assertNotIn("--recipe", quant)
        self.assertEqual(offered("quantize", "qua"), ["quant"])
        self.assertEqual(offered("bench", "k"), ["kernels"])
        self.assertIn("--rounds", offered("bench", "kernels", "--r"))
        # Values, in both spellings and with `=`.
        self.assertEqual(offered("quantize", "--recipe", ""), ["octet", "octet-fast", "mindie", "mine.yaml"])
        for name in "--anti-method", "--anti_method":
            self.assertEqual(offered("quantize", name, "m"), ["m1", "m2", "m3", "m4", "m5", "m6"])
        self.assertEqual(offered("quantize", "--is_dynamic", ""), ["True", "False"])
        self.assertEqual(offered("quantize", "--compat", "=", "msmodelslim_"), ["msmodelslim_v1"])
        self.assertEqual(offered("quantize", "--act-method", "="), ["1", "2", "3"])
        self.assertEqual(offered("quantize", "quant", "--quant_type", "w8a8"), ["w8a8", "w8a8c8"])
        self.assertIn("compressed-tensors", offered("convert", "a", "b", "--to", ""))
        self.assertEqual(offered("completion", ""), ["bash", "zsh", "mine.yaml"])
        self.assertEqual(offered("quantize", "--calib-file", "mi"), ["mine.yaml"])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
