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
        """Types that need no text load none, asked to or not; what needs some loads it."""
        anti = ["--anti_method", "m4", "--anti_calib_file", CALIB]
        for flags in ["--is_dynamic", "True"], ["--a_bit", "16"]:
            out = self.dir / flags[0]
            def run(*more):
                run = octet("quantize", LLAMA, out, "--overwrite", *flags, *more)
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertNotIn("model.layers.0.mlp.up_proj.input_scale", self.types_of(out))
                report = json.loads((out / "quantization_report.json").read_text())
                page = (out / "quantization_report.html").read_text(encoding="utf-8")
                self.assertEqual("data-free" in page, "data-free: no calibration text needed" in run.stderr)
                return run.stderr, report["calibration"], "data-free" in page
            words, calibration, free = run("--calib_file", "None", "--disable_level", "L3")
            self.assertIn("note: --disable_level has no effect", words)
            self.assertTrue(free)
            words, calibration, free = run()
            self.assertNotIn("built-in", words)
            self.assertEqual((calibration, free), ({"samples": 0, "tokens": 0}, True))
            words, _, free = run("--calib_file", self.dir / "missing.jsonl", "--anti_calib_file", self.dir / "missing.jsonl")
            for flag in "--calib_file", "--anti_calib_file":
                self.assertIn(f"octet: note: {flag} has no effect", words)
            self.assertTrue(free)
            words, calibration, free = run(*anti)
            self.assertNotIn("built-in", words)
            self.assertEqual((calibration["tokens"], calibration["outlier_batches"], free), (0, len(CALIB.read_text().splitlines()), False))
            for more in ["--disable_level", "L3"], ["--use_kvcache_quant", "True"], ["--anti_method", "m1"]:
                words, calibration, free = run("--calib_texts", "Rain falls.", *more)
                self.assertEqual((calibration["samples"], free), (1, False), more)

    def test_little_calibration_text(self):
        """A warning below 512 tokens, where ranges (of inputs, keys and values) are learnt from them."""
        tokens = self.dir / "tokens.json"
        dynamic = ["--is_dynamic", "True"]
        for way in ["--act_method", "2"], ["--recipe", "octet-fast"], [*dynamic, "--use_kvcache_quant", "True"], [*dynamic, "--anti_method", "m1"]:
            for count in 511, 512:
                tokens.write_text(json.dumps([[i % 500 for i in range(count - 1)], [7]]))
                out = self.dir / "out"
                run = octet("quantize", LLAMA, out, "--overwrite", "--calib_tokens", tokens, *way)
                self.assertEqual(run.returncode, 0, run.stderr)
                short = count < 512 and "--anti_method" not in way
                warning = "octet: warning: 511 tokens calibrate static ranges; text of at least 512 is advised\n"
                self.assertEqual(run.stderr.count(warning), short)
                self.assertEqual("warning" in run.stderr, short)
                report = json.loads((out / "quantization_report.json").read_text())
                self.assertEqual(report["calibration"].get("advised_tokens"), 512 if short else None)
                page = (out / "quantization_report.html").read_text(encoding="utf-8")
                self.assertEqual("text of at least 512 tokens is advised" in page, short)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
