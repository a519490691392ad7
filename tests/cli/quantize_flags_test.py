#!/usr/bin/env python3
"""The flags of `octet quantize` from outside: values, combinations, what is refused and what only noted.

    tests/cli/quantize_flags_test.py path/to/octet        (needs nothing but Python)
"""
import json
import shutil
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
                            ("--w-method", "GPTQ"), ("--use-reduce-quant", "True")):
            self.refuse(2, [flag, "outside of what Octet does"], flag, value)
        self.refuse(2, ["--tokenizer_args", "max_length"], "--tokenizer_args", '{"max_length": 3}')

    def described(self, *flags):
        """What a run says on stderr, and the names and words of the files that it wrote."""
        out = self.dir / "out"
        run = octet("quantize", LLAMA, out, "--calib_file", CALIB, "--overwrite", "--quiet", *flags)
        self.assertEqual(run.returncode, 0, run.stderr)
        config = json.loads((out / "config.json").read_text())
        return run.stderr, {file.name for file in out.iterdir()}, config

    def test_mindie_format_by_itself(self):
        """The tool's layout (quant_model_description_TYPE.json, its dictionary in config.json) and its arithmetic."""
        words, files, config = self.described("--mindie_format", "--anti_method", "m1", "--tp_size", "4", "--fraction", "0.011")
        self.assertIn("quant_model_description_w8a8.json", files)
        self.assertNotIn("quant_model_description.json", files)
        self.assertNotIn("quantization_report.json", files)
        self.assertEqual([config["quantize"], config["quantization_config"]["anti_method"]], ["w8a8", "m1"])
        for flag in "--mindie_format: ", "--tp_size has no effect", "--fraction has no effect":
            self.assertIn(f"octet: note: {flag}", words)
        alone = (self.dir / "out" / "quant_model_weight_w8a8.safetensors").read_bytes()
        words, _, _ = self.described("--mindie_format", "--anti_method", "m1", "--compat", "msmodelslim")
        self.assertNotIn("--mindie_format", words)
        self.assertEqual(alone, (self.dir / "out" / "quant_model_weight_w8a8.safetensors").read_bytes())
        self.bad(2, ["--mindie_format", "--compat msmodelslim_v1"], "quantize", LLAMA, self.dir / "x", "--mindie_format",
                 "--compat", "msmodelslim_v1")

    def test_what_goes_with_a_recipe(self):
        _, files, config = self.described("--recipe", "mindie", "--mindie_format", "--use_kvcache_quant", "True")
        self.assertIn("quant_model_description_w8a8.json", files)
        dictionary = config["quantization_config"]
        self.assertEqual([dictionary[key] for key in ("anti_method", "act_method", "disable_level", "kv_quant_type")],
                         ["m3", 3, "L5", "C8"])
        self.assertNotIn("octet_recipe.yaml", files)  # the tool's own files
        words, files, _ = self.described("--recipe", "mindie", "--model_type", "llama3", "--disable_level", "L0")
        self.assertNotIn("--model_type", words)
        self.assertIn("octet_recipe.yaml", files)
        words, files, _ = self.described("--recipe", "octet-fast", "--is_dynamic", "False", "--w_sym", "True", "--act_method", "1",
                                         "--anti_method", "", "--disable_threshold", "0", "--model_type", "llama3")
        self.assertIn("octet_recipe.yaml", files)
        self.assertIn("note: --model_type has no effect", words)
        shutil.rmtree(self.dir / "out")
        for flag, value in ("--is_dynamic", "True"), ("--act_method", "2"), ("--compat", "msmodelslim"):
            self.bad(2, [flag, "a recipe says itself"], "quantize", LLAMA, self.dir / "out", "--recipe", "octet-fast", flag, value)
        for flag, value in ("--pdmix", "True"), ("--act_method", "2"):
            self.bad(2, [flag, "a recipe says itself"], "quantize", LLAMA, self.dir / "out", "--recipe", "mindie", flag, value)
        self.nothing_left()

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

    def test_what_messages_say(self):
        self.refuse(2, "(octet quantize --help explains)", "--nonsense")
        self.bad(2, "(octet quantize quant --help explains)", "quantize", "quant", "--nonsense")
        self.bad(2, "(octet bench kernels --help explains)", "bench", "kernels", "--nonsense")
        for flag, expected in (("--part_file_size", "a number"), ("--layer_count", "a whole number"),
                               ("--float_budget", "a whole number from 0 on"), ("--tp_size", "a number")):
            self.refuse(2, f"{flag}: expected {expected}, found x", flag, "x")
        self.bad(2, "--port: expected a whole number from 0 on, found http", "serve", LLAMA, "--port", "http")
        for value in "-2", "1.5":
            self.refuse(2, f"--float-budget: expected a whole number from 0 on, found {value}", "--float-budget", value)
        self.refuse(2, "--mm_tensor: expected True or False, found maybe", "--mm_tensor", "maybe")
        self.refuse(2, "--co-sparse: expected True or False, found 1", "--co-sparse", "1")
        # Names that were not typed are spelled like those that were.
        for joint in "_", "-":
            self.refuse(2, f"--float{joint}budget and --dynamic{joint}budget: not of the recipe mindie", "--recipe", "mindie",
                        f"--float{joint}budget", 3)
        none = ["quantize", "--model_path", LLAMA, "--save_directory", self.dir / "out", "--calib_file", "none"]
        self.bad(2, ["field --calib_file", "--is_dynamic True and --a_bit 16 need none"], *none)
        self.bad(2, ["field --calib_file", "--anti_calib_file"], *none, "--is_dynamic", "True", "--anti_method", "m4")
        self.bad(2, ["field --calib_file", "recipes learn from text"], *none, "--recipe", "octet")
        # What is refused is not commented on before.
        run = octet("quantize", LLAMA, self.dir / "out", "--recipe", "octet", "--mindie_format")
        self.assertEqual([run.returncode, run.stderr.count("\n")], [2, 1], run.stderr)
        self.nothing_left()

    def test_sizes(self):
        """Of memory in the usual units, of files with 0 for one file."""
        for size in "1.5GB", "100MiB":
            self.described("--memory_limit", size, "--recipe", "mindie")
        for size in "1.5XB", "GB", "-1GB", "1e30GB", "much":
            self.bad(2, ["--memory_limit", "512MiB", size], "quantize", LLAMA, self.dir / "x", f"--memory_limit={size}")
        whole, back = self.dir / "whole", self.dir / "back"
        self.good("convert", self.dir / "out", whole, "--to", "compressed-tensors", "--part-file-size", 0)
        self.assertEqual(len(list(whole.glob("*.safetensors"))), 1)
        self.bad(2, "--part-file-size: expected a size in GB; 0 = one file", "convert", whole, back, "--to", "octet",
                 "--part-file-size", "-1")

    def test_wrong_values(self):
        self.refuse(2, ["--disable_level", "L05"], "--disable_level", "L05")
        for flag, known in ("--act_method", "{1,2,3}"), ("--a_bit", "{8,16}"):
            self.refuse(2, f"{flag}: 4 not in {known}", flag, "4")
            self.refuse(2, f"{flag}: x not in {known}", flag, "x")
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
