#!/usr/bin/env python3
"""`octet quantize quant`, msModelSlim v1's command line, from outside.

    tests/cli/quantize_quant_test.py path/to/octet        (needs nothing but Python)
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OCTET = str(pathlib.Path(sys.argv[1]).resolve())
LLAMA, QWEN = ROOT / "models/llama3_tiny_bf16", ROOT / "models/qwen2_tiny_fp16"
WEIGHT = "weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}"
STATIC = f"""
    - type: linear_quant
      qconfig:
        act: {{scope: per_tensor, dtype: int8, symmetric: False, method: minmax}}
        {WEIGHT}
      exclude: [lm_head, "*down_proj"]
"""
EVERYTHING = f"""
apiversion: modelslim_v1
metadata: {{config_id: tiny, label: {{w_bit: 8, a_bit: 8}}}}
per_token: &per_token
  act: {{scope: per_token, dtype: int8, symmetric: True, method: minmax}}
  {WEIGHT}
spec:
  runner: layer_wise
  dataset: calib.jsonl
  process:
    - type: quarot
    - type: flex_smooth_quant
      enable_subgraph_type: [norm-linear, up-down]
    - type: kv_smooth
      smooth_factor: 0.8
    - type: linear_quant
      qconfig: *per_token
      include: ["*down_proj"]
{STATIC.replace(', "*down_proj"', '')}
    - type: dynamic_cache
      qconfig: {{scope: per_channel, dtype: int8, symmetric: True, method: minmax}}
  save:
    - type: ascendv1_saver
      part_file_size: 4
"""


class Quant(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="octet_quant_"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.out = self.dir / "out"
        lines = (ROOT / "models/calib.jsonl").read_text().splitlines()[:6]
        (self.dir / "calib.jsonl").write_text("\n".join(lines) + "\n")
        self.yaml = self.dir / "practice.yaml"

    def octet(self, *args, **options):
        return subprocess.run([OCTET, *map(str, args)], capture_output=True, text=True, timeout=300, **options)

    def quant(self, *args, model=LLAMA, **options):
        return self.octet("quantize", "quant", "--model_type", "tiny", "--model_path", model, "--save_path", self.out, *args,
                          **options)

    def good(self, *args, model=LLAMA):
        run = self.quant(*args, "--overwrite", model=model)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("good", self.octet("check", self.out).stdout)
        types = json.loads((self.out / "quant_model_description.json").read_text())
        result = json.loads(self.octet("eval", model, self.out, "--text", ROOT / "models/text.jsonl", "--passages", 5, "--json",
                                       "--quiet").stdout)
        self.assertLess(result[1]["kl"], 3e-3)
        return types, run

    def refuse(self, code, words, *args):
        run = self.quant(*args)
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        for word in words:
            self.assertIn(word, run.stderr)
        self.assertFalse(self.out.exists())

    def practice(self, processors):
        self.yaml.write_text("apiversion: modelslim_v1\nspec:\n  process:\n" + processors)
        return "--config_path", self.yaml

    def test_quant_types(self):
        for kind, word, cache in (("w8a8", "W8A8_DYNAMIC", False), ("w8a16", "W8A16", False), ("w8a8c8", "W8A8_DYNAMIC", True)):
            types, run = self.good("--quant_type", kind, "--calib_file", self.dir / "calib.jsonl")
            self.assertEqual(types["model.layers.0.mlp.down_proj.weight"], word)
            self.assertEqual(types["lm_head.weight"], "FLOAT")
            self.assertEqual("kv_cache_type" in types, cache)
            self.assertIn(f"default practice of {kind}", run.stderr)
        self.assertIn("default practice of w8a8;", self.quant("--overwrite").stderr)  # as the tool, without a type

    def test_every_processor(self):
        self.yaml.write_text(EVERYTHING)
        for model in LLAMA, QWEN:
            types, run = self.good("--config_path", self.yaml, model=model)
            self.assertEqual(types["model.layers.0.mlp.down_proj.weight"], "W8A8_DYNAMIC")
            self.assertEqual(types["model.layers.0.mlp.up_proj.weight"], "W8A8")
            self.assertEqual(types["kv_cache_type"], "C8")
            self.assertFalse(json.loads((self.out / "config.json").read_text())["tie_word_embeddings"])  # rotated
            self.assertNotIn("built-in", run.stderr)  # the dataset stands beside the file
            # What a rotation and moved scales do to values inside is known, so each linear can be compared.
            layers = json.loads(self.octet("eval", model, self.out, "--text", ROOT / "models/text.jsonl", "--passages", 3, "--layers",
                                           "--json", "--quiet").stdout)[1]["layers"]
            self.assertEqual(len(layers), 7 * json.loads((model / "config.json").read_text())["num_hidden_layers"])
            self.assertGreater(min(l[side] for l in layers for side in ("input", "output")), 15)
        for smooth in "smooth_quant", "iter_smooth":
            self.good(*self.practice(f"    - type: {smooth}\n{STATIC}"), "--calib_file", self.dir / "calib.jsonl")

    def test_the_same_with_other_threads(self):
        """Of a search over more rows than are computed at once."""
        many = self.dir / "many.jsonl"
        many.write_text((self.dir / "calib.jsonl").read_text() * 4)
        files = []
        for threads in "1", "3", "3":
            run = self.quant(*self.practice(f"    - type: flex_smooth_quant\n{STATIC}"), "--calib_file", many, "--overwrite",
                             env=dict(os.environ, OCTET_THREADS=threads))
            self.assertEqual(run.returncode, 0, run.stderr)
            files.append(next(self.out.glob("*.safetensors")).read_bytes())
        self.assertEqual(len(set(files)), 1)

    def test_the_report_says_what_was_done(self):
        self.yaml.write_text(EVERYTHING.replace("metadata:", "# kept & shown\nmetadata:"))
        self.good("--config", self.yaml)
        self.assertEqual((self.out / "octet_practice.yaml").read_text(), self.yaml.read_text())
        report = json.loads((self.out / "quantization_report.json").read_text())
        self.assertEqual(report["method"], {"name": "practice of msModelSlim v1", "practice": self.yaml.read_text()})
        self.assertEqual(report["octet"], self.octet("--version").stdout.split()[1])
        self.assertEqual(report["calibration"]["source"], "calib.jsonl")
        self.assertRegex(report["calibration"]["hash"], "^[0-9a-f]{16}$")
        page = (self.out / "quantization_report.html").read_text()
        for words in "# kept &amp; shown", "of msModelSlim v1", report["calibration"]["hash"], f"<td>{report['octet']}</td>":
            self.assertIn(words, page)
        self.assertNotIn("act_method", page)
        # The practice that was written is one to work by; other layouts take it along.
        self.good("--quant_type", "w8a8", "--calib_file", self.dir / "calib.jsonl")
        self.assertIn("apiversion: modelslim_v1", (self.out / "octet_practice.yaml").read_text())
        self.assertEqual(self.octet("convert", self.out, self.dir / "v1", "--to", "msmodelslim_v1").returncode, 0)
        self.assertTrue((self.dir / "v1/octet_practice.yaml").exists())

    def test_calibration_sets_of_the_tool(self):
        """Its own practices name sets that come with it: built-in text in their place, unless there is such a file."""
        self.yaml.write_text(f"apiversion: modelslim_v1\nspec:\n  dataset: mix_calib.jsonl\n  process:\n{STATIC}")
        _, run = self.good("--config_path", self.yaml)
        self.assertRegex(run.stderr, r"octet: note: spec.dataset mix_calib.jsonl is msModelSlim's own and not here: calibrating on "
                                     r"\d+ built-in texts")
        self.assertEqual(json.loads((self.out / "quantization_report.json").read_text())["calibration"]["source"], "built-in")
        (self.dir / "mix_calib.jsonl").write_text((self.dir / "calib.jsonl").read_text())
        _, run = self.good("--config_path", self.yaml)
        self.assertNotIn("built-in", run.stderr)

    def test_no_calibration(self):
        types, run = self.good("--calib_file", "none", "--quant_type", "w8a16")
        self.assertNotIn("--calib_file", run.stderr)
        _, run = self.good("--calib_file", self.dir / "calib.jsonl", "--quant_type", "w8a16")
        self.assertIn("note: --calib_file has no effect", run.stderr)
        shutil.rmtree(self.out)
        self.refuse(2, ["--calib_file", "static ranges", "a practice with scales per token"], *self.practice(STATIC),
                    "--calib_file", "none")
        self.refuse(2, ["--calib_file", "outlier suppression", "a practice without it"], "--calib_file", "none")

    def test_v1s_files(self):
        types, run = self.good(*self.practice(STATIC), "--calib_file", self.dir / "calib.jsonl", "--compat", "msmodelslim_v1",
                               model=QWEN)
        self.assertEqual(types["group_size"], 0)
        self.assertEqual((types["metadata"], types["optional"]), ({}, {}))
        self.assertEqual(list(types)[-5:], ["version", "model_quant_type", "metadata", "group_size", "optional"])
        config = json.loads((self.out / "config.json").read_text())
        self.assertFalse({"quantization_config", "quantize"} & set(config))
        data = (self.out / "quant_model_weights.safetensors").read_bytes()
        header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
        q = "model.layers.0.self_attn.q_proj"
        self.assertEqual({part: header[f"{q}.{part}"]["dtype"] for part in ("weight", "quant_bias", "input_scale", "input_offset",
                                                                            "deq_scale", "bias")},
                         {"weight": "I8", "quant_bias": "I32", "input_scale": "F32", "input_offset": "F32", "deq_scale": "I64",
                          "bias": "F32"})
        self.assertNotIn(f"{q}.weight_scale", header)
        self.assertEqual(header["model.norm.weight"]["dtype"], "F16")
        self.assertEqual(self.octet("quantize", LLAMA, self.dir / "recipe", "--calib_file", self.dir / "calib.jsonl",
                                    "--compat", "msmodelslim_v1", "--recipe", "octet-fast").returncode, 0)
        self.assertTrue((self.dir / "recipe/quant_model_weights.safetensors").exists())

    def test_what_is_refused(self):
        self.refuse(2, ["--quant_type", "w4a8", "w8a16"], "--quant_type", "w4a8")
        self.assertNotIn("note", self.quant("--quant_type", "w4a8").stderr)
        self.refuse(2, ["--device", "npu", "cpu"], "--device", "npu:0,1")
        self.refuse(1, ["nowhere.yaml"], "--config_path", self.dir / "nowhere.yaml")
        self.refuse(2, ["practice.yaml", "spec.process[0].type", "fa3_quant", "kv_smooth"], *self.practice("    - type: fa3_quant\n"))
        self.refuse(2, ["spec.process[0].qconfig.weight.method", "autoround"],
                    *self.practice(STATIC.replace("symmetric: True, method: minmax", "symmetric: True, method: autoround")))
        self.yaml.write_text(EVERYTHING.replace("calib.jsonl", "our_calib.jsonl"))
        self.refuse(2, ["spec.dataset", "our_calib.jsonl", "--calib_file"], "--config_path", self.yaml)
        self.refuse(2, ["--compat"], "--compat", "msmodelslim")
        run = self.octet("quantize", "quant", "--save_path", self.out)
        self.assertEqual(run.returncode, 2)
        self.assertIn("--model-path is required", run.stderr)

    def test_flags_without_effect_say_so(self):
        run = self.quant("--quant_type", "w8a16", "--trust_remote_code", "True", "--tag", "mindie", "cpu", "--debug")
        self.assertEqual(run.returncode, 0, run.stderr)
        for flag in "--trust_remote_code", "--tag", "--debug", "--model_type":
            self.assertIn(f"note: {flag} has no effect", run.stderr)

    def test_little_calibration_text_or_none(self):
        self.assertIn("octet: note: data-free: no calibration text needed", self.quant("--quant_type", "w8a16").stderr)
        few = self.dir / "few.jsonl"
        few.write_text('{"text": "Rain falls."}\n')
        run = self.quant(*self.practice(STATIC), "--calib_file", few, "--overwrite")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertRegex(run.stderr, r"octet: warning: \d+ tokens calibrate static ranges; text of at least 512 is advised")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
