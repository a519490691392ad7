#!/usr/bin/env python3
"""What `octet quantize` calibrates on, from outside: files, texts, tokens, too little of them, nothing at all.

    tests/cli/quantize_calibration_test.py path/to/octet        (needs nothing but Python)
"""
import json
import sys
import unittest

from testing import CALIB, LLAMA, Verbs, octet


class Calibration(Verbs):
    def test_calibration_tokens_and_texts(self):
        tokens = self.dir / "tokens.json"
        tokens.write_text("[[1, 2, 3, 4], [5, 6, 7]]")
        self.good("quantize", "--model_path", LLAMA, "--save_directory", self.dir / "a", "--calib_tokens", tokens)
        self.good("quantize", "--model_path", LLAMA, "--save_directory", self.dir / "b", "--calib_texts", "Rain falls.", "It is wet.")
        self.good("quantize", "--model_path", LLAMA, "--save_directory", self.dir / "c")  # built-in text
        tokens.write_text("[[1, 2, 999999]]")
        self.bad(2, ["999999", "vocabulary"], "quantize", "--model_path", LLAMA, "--save_directory", self.dir / "d", "--calib_tokens", tokens)

    def test_a_line_without_its_key(self):
        calib = self.dir / "calib.jsonl"
        calib.write_text('{"other": "key"}\n')
        self.good("quantize", "--model_path", LLAMA, "--save_directory", self.dir / "out", "--calib_file", calib, "--compat", "msmodelslim")

    def test_calibration_files(self):
        out = self.dir / "out"
        calib = self.dir / "calib.jsonl"
        def refuse(words):
            self.bad(1, words, "quantize", "--model_path", LLAMA, "--save_directory", out, "--calib_file", calib)
            self.assertFalse(out.exists())
        refuse(["calib.jsonl", "No such file"])
        calib.write_text('{"inputs_pretokenized": "good"}\n\n{"inputs_pretokenized": bad}\n')
        refuse(["calib.jsonl, line 3"])
        calib.write_text('{"inputs_pretokenized": "good"}\n{"other": "key"}\n')
        refuse(["line 2", "inputs_pretokenized"])
        calib.write_text("")
        refuse("empty")
        calib.write_bytes(b'{"inputs_pretokenized": "\xff\xfe"}\n')
        refuse("line 1")

    def test_without_calibration(self):
        for flags in ["--is_dynamic", "True"], ["--a_bit", "16"]:
            out = self.dir / flags[0]
            run = octet("quantize", "--model_path", LLAMA, "--save_directory", out, "--calib_file", "None", *flags, "--disable_level", "L3")
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertIn("note: --disable_level has no effect", run.stderr)
            self.assertNotIn("model.layers.0.mlp.up_proj.input_scale", self.types_of(out))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
