#!/usr/bin/env python3
"""The flags of `octet quantize` from outside: values, combinations, what is refused and what only noted.

    tests/cli/quantize_flags_test.py path/to/octet        (needs nothing but Python)
"""
import json
import sys
import unittest

from testing import CALIB, LLAMA, Verbs, octet


class Flags(Verbs):
    def test_flags_without_effect_say_so(self):
        run = octet("quantize", "--model_path", LLAMA, "--save_directory", self.dir / "out", "--calib_file", CALIB,
                    "--tokenizer_args", '{"padding_side": "left"}', "--input_ids_name", "ids", "--trust_remote_code", "True")
        self.assertEqual(run.returncode, 0, run.stderr)
        for flag in "--tokenizer_args", "--input_ids_name", "--trust_remote_code":
            self.assertIn(f"note: {flag}", run.stderr)

    def test_the_tools_own_invocations(self):
        out = self.dir / "out"
        self.good("quantize", "--model_path", LLAMA, "--save_directory", out, "--calib_file", "", "--calib_texts", "a b c",
                  "It rains.", "--disable_names", "--anti_method", "", "--w_bit", "8", "--a_bit", "8", "--mm_tensor", "False")
        self.assertEqual(json.loads((out / "quant_model_description.json").read_text())["model.layers.0.mlp.down_proj.weight"], "FLOAT")
        run = octet("quantize", "--model_path", LLAMA, "--save_directory", self.dir / "x", "--calib_file", CALIB, "--calib_texts", "a",
                    "--model_name", "llama", "--w_method", "MinMax")
        self.assertEqual(run.returncode, 0, run.stderr)
        for flag in "--calib_texts", "--model_name":
            self.assertIn(f"note: {flag} has no effect", run.stderr)

    def refuse(self, code, words, *more):
        out = self.dir / "out"
        self.bad(code, words, "quantize", "--model_path", LLAMA, "--save_directory", out, "--calib_file", CALIB, *more)
        self.nothing_left()

    def test_what_is_outside(self):
        self.refuse(2, ["npu", "--device_type", "cpu"], "--device_type", "npu")
        for flag, value in (("--w-bit", "4"), ("--co-sparse", "True"), ("--is-lowbit", "True"), ("--use-fa-quant", "True"),
                            ("--w-method", "GPTQ"), ("--fraction", "0.011"), ("--use-reduce-quant", "True")):
            self.refuse(2, [flag, "outside of what Octet does"], flag, value)
        self.refuse(2, ["--tokenizer_args", "max_length"], "--tokenizer_args", '{"max_length": 3}')
        self.refuse(2, "--mindie_format", "--mindie_format")

    def test_what_does_not_go_together(self):
        self.refuse(2, "exclude each other", "--pdmix", "True", "--is_dynamic", "True")
        self.refuse(2, "exclude each other", "--pdmix", "True", "--a_bit", "16")
        self.refuse(2, ["--w_sym", "--a_bit 16"], "--w_sym", "False")
        self.refuse(2, "qwen3", "--a_bit", "16", "--anti_method", "m6", "--model_type", "qwen3")
        self.refuse(2, "--calib_tokens", "--calib_tokens", "x.json")
        for more in [], ["--a_bit", "16", "--use_kvcache_quant", "True"], ["--is_dynamic", "True", "--anti_method", "m4"]:
            self.bad(2, "no calibration samples", "quantize", "--model_path", LLAMA, "--save_directory", self.dir / "out",
                     "--calib_file", "none", *more)
        self.nothing_left()

    def test_wrong_values(self):
        self.refuse(2, ["--disable_level", "L05"], "--disable_level", "L05")
        for flag, known in ("--act_method", "{1,2,3}"), ("--a_bit", "{8,16}"):
            for value in "4", "x":
                self.refuse(2, f"{flag}: {value} not in {known}", flag, value)
        for value in "zz", "[]", '{"padding_side"':
            self.refuse(2, ["--tokenizer_args: ", f"expected a JSON object; found {value}"], "--tokenizer_args", value)
        self.refuse(2, ["--disable_names", "model.layers.99.mlp.up_proj"], "--disable_names", "model.layers.99.mlp.up_proj")
        self.refuse(2, ["--model_type", "gpt"], "--model_type", "gpt")
        self.refuse(2, "--part_file_size", "--part_file_size", "-1")
        for count in "--float-budget", "--dynamic-budget", "--report-passages":
            self.bad(2, count, "quantize", LLAMA, self.dir / "out", count, "-2")
        self.bad(2, "--passages", "eval", LLAMA, "--passages", "-2")
        self.refuse(2, "--disable_threshold", "--disable_threshold", "-1")
        self.refuse(2, "--layer_count", "--layer_count", "-1")
        self.refuse(2, "--disable_last_linear", "--disable_last_linear", "maybe")
        self.refuse(2, "--no_such_flag", "--no_such_flag")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
