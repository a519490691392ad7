#!/usr/bin/env python3
"""`octet convert` between layouts: the way there and back gives the same bytes, and every layout computes the same.

    tests/loaders/convert_test.py path/to/octet        (needs numpy)
"""
import json
import pathlib
import shutil
import sys
import tempfile
import unittest

import numpy

import folders
from folders import ROOT, Weights, change_json

sys.path.insert(0, str(ROOT / "tools"))
import loader_compute
import loader_walk

OCTET = str(pathlib.Path(sys.argv[1]).resolve())
ASCEND = "octet", "msmodelslim", "mindie", "msmodelslim_v1"
# Layout -> the flags with which quantize writes it, with smoothed norms where the layout marks them.
WRITTEN = {"octet": [], "msmodelslim": ["--compat", "msmodelslim", "--anti_method", "m1"],
           "mindie": ["--compat", "msmodelslim", "--anti_method", "m1", "--mindie_format"],
           "msmodelslim_v1": ["--compat", "msmodelslim_v1", "--part_file_size", "0.001"]}
KINDS = ("static", "all static", "dynamic", "recipe", "recipe, static")


def compressible(model):
    """Of KINDS what compressed-tensors can hold: Qwen3's MLP has no biases for those that recipes correct."""
    return [kind for kind in KINDS if model != "qwen3" or not kind.startswith("recipe")]


def outputs(folder, linear):
    """What every linear of the folder makes of the same random inputs: computed from equal int8 values, so no sum of
    floats can push one over a rounding tie."""
    shapes, rng, all_outputs = loader_compute.Shapes(folder.config), numpy.random.default_rng(1), {}
    for layer in range(folder.config["num_hidden_layers"]):
        for module, (n, k, bias) in shapes.linears.items():
            name = f"model.layers.{layer}.{module}"
            all_outputs[name] = linear(folder, name)(rng.normal(size=(2, k)))
    return all_outputs


class Convert(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.made = pathlib.Path(tempfile.mkdtemp(prefix="octet_convert_"))
        cls.addClassCleanup(shutil.rmtree, cls.made)

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="octet_convert_"))
        self.addCleanup(shutil.rmtree, self.dir)

    def quantized(self, model, flags):
        out = self.made / (model + " ".join(flags).replace("/", " "))
        if not out.exists():
            folders.quantize(OCTET, folders.MODELS[model], out, flags)
        return out

    def with_biases(self, flags):
        """A LLaMA of which every linear has a bias itself."""
        source, out = self.made / "biases", self.made / ("biases " + " ".join(flags))
        if not source.exists():
            folders.random_llama(source, 2, biases=True)
        if not out.exists():
            folders.quantize(OCTET, source, out, flags, ["--calib_tokens", source / "tokens.json"])
        return out

    def convert(self, folder, out, to, *more):
        run = folders.run(OCTET, "convert", folder, out, "--to", to, "--quiet", *more)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stderr

    def refuse(self, code, words, *args):
        run = folders.run(OCTET, "convert", *args)
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        for word in words:
            self.assertIn(word, run.stderr.replace("\n", " "))
        self.assertFalse((self.dir / "x").exists())

    def same(self, wanted, got):
        """The same integers times the same scales: only products of scales and biases are rounded to float32. A bias that
        the model has itself is added as it is by vLLM, and by Ascend as a whole number of deq_scale."""
        for name, y in wanted.items():
            self.assertLess(abs(got[name] - y).max(), 1e-6 * abs(y).max() + self.level(name) / 2, name)

    def level(self, name):
        deq = self.folder.tensors.get(f"{name}.deq_scale")
        return 0 if deq is None or f"{name}.bias" not in self.folder.tensors else loader_compute.decode_deq(deq.values).max()

    def there_and_back(self, folder, layout, to):
        there, back = self.dir / "there", self.dir / "back"
        for left in there, back:
            shutil.rmtree(left, ignore_errors=True)
        self.convert(folder, there, to)
        self.convert(there, back, layout)
        self.assertEqual(folders.same_files(folder, back), [])
        shutil.rmtree(back)
        return there

    def test_there_and_back(self):
        for model in folders.MODELS:
            for kind in KINDS:
                folder = self.quantized(model, folders.TYPES[kind])
                self.folder = loader_walk.Folder(folder)
                wanted = outputs(self.folder, loader_compute.Linear)
                compressed = ["compressed-tensors"] if kind in compressible(model) else []
                for to in *ASCEND[1:], *compressed:
                    with self.subTest(model=model, kind=kind, to=to):
                        there = self.there_and_back(folder, "octet", to)
                        if to == "compressed-tensors":
                            got = outputs(loader_compute.CompressedFolder(there, loader_walk.read_weights(there)), loader_compute.CompressedLinear)
                        else:
                            self.assertEqual(folders.run(OCTET, "check", there).returncode, 0)
                            problems, _, walked = loader_walk.walk(there)
                            self.assertFalse(any(problems.values()), problems)
                            got = outputs(walked, loader_compute.Linear)
                        self.same(wanted, got)
                        shutil.rmtree(there)

    def test_octet_computes_them(self):
        """check, inspect, eval and generate take folders of compressed-tensors as they are. Both are computed from the same
        integers; where sums of floats push one over a rounding tie, or biases of the model itself are whole levels on
        Ascend, KL was 7e-6 to 3e-5, else 0. Without the corrected biases it was 1e-2."""
        for model in folders.MODELS:
            for kind in compressible(model):
                with self.subTest(model=model, kind=kind):
                    folder, there = self.quantized(model, folders.TYPES[kind]), self.dir / f"{model} {kind}"
                    self.convert(folder, there, "compressed-tensors")
                    findings = json.loads(folders.run(OCTET, "check", there, "--json").stdout)["findings"]
                    self.assertEqual(findings, [])
                    self.assertIn("compressed-tensors", folders.run(OCTET, "inspect", there).stdout)
                    run = folders.run(OCTET, "eval", folder, there, "--text", ROOT / "models/text.jsonl", "--passages", 4,
                                      "--json", "--quiet")
                    self.assertEqual(run.returncode, 0, run.stderr)
                    self.assertLess(json.loads(run.stdout)[1]["kl"], 1e-3)
                    run = folders.run(OCTET, "generate", there, "-p", "Rain", "--max-tokens", "4")
                    self.assertEqual(run.returncode, 0, run.stderr)

    def test_biases_of_the_model_itself(self):
        for flags in ["--disable_names", "none"], ["--is_dynamic", "True"], folders.TYPES["recipe"]:
            with self.subTest(flags=flags):
                folder = self.with_biases(flags)
                self.folder = loader_walk.Folder(folder)
                wanted = outputs(self.folder, loader_compute.Linear)
                there = self.there_and_back(folder, "octet", "compressed-tensors")
                self.same(wanted, outputs(loader_compute.CompressedFolder(there, loader_walk.read_weights(there)),
                                          loader_compute.CompressedLinear))
                config = json.loads((there / "config.json").read_text())
                self.assertTrue(config["attention_bias"] and config["mlp_bias"])
                for file in there.glob("octet_source.*"):
                    file.unlink()
                back = self.dir / "without record"
                shutil.rmtree(back, ignore_errors=True)
                self.convert(there, back, "octet")
                self.assertEqual(folders.run(OCTET, "check", back).returncode, 0)
                self.same(wanted, outputs(loader_walk.Folder(back), loader_compute.Linear))

    def test_broken_compressed_tensors(self):
        """What loaders of compressed-tensors would compute wrongly or not load, `octet check` names."""
        there = self.dir / "there"
        self.convert(self.quantized("llama", folders.TYPES["recipe, static"]), there, "compressed-tensors")
        q = "model.layers.1.self_attn.q_proj"

        def without(part):
            return lambda folder, weights: weights.tensors.pop(q + part)

        def stored(part, dtype, values):
            return lambda folder, weights: weights.set(q + part, dtype, values)

        def no_biases(folder, weights):
            change_json(folder / "config.json", lambda c: c.update(attention_bias=False))
        rows = Weights(there).tensors[q + ".weight"][1][0]
        for kind, (change, tensor) in {
                "no weight scale": (without(".weight_scale"), q + ".weight_scale"),
                "no input scale": (without(".input_scale"), q + ".input_scale"),
                "no zero point": (without(".input_zero_point"), q + ".input_zero_point"),
                "no bias": (without(".bias"), q + ".bias"),
                "a bias that config.json does not name": (no_biases, q + ".bias"),
                "too few scales": (stored(".weight_scale", "F32", numpy.ones((rows - 1, 1), numpy.float32)), q + ".weight_scale"),
                "a scale of zero": (stored(".input_scale", "F32", numpy.zeros(1, numpy.float32)), q + ".input_scale"),
                "a zero point out of range": (stored(".input_zero_point", "I32", numpy.full(1, 200, numpy.int32)), q + ".input_zero_point"),
                "float weights": (stored(".weight", "F32", numpy.ones((rows, 192), numpy.float32)), q + ".weight_scale"),
                "an unknown tensor": (stored(".weight_g_idx", "I32", numpy.ones(192, numpy.int32)), q + ".weight_g_idx")}.items():
            with self.subTest(broken=kind):
                folder = self.dir / "broken"
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(there, folder)
                weights = Weights(folder)
                change(folder, weights)
                weights.save()
                run = folders.run(OCTET, "check", folder, "--json")
                self.assertEqual(run.returncode, 1, run.stderr)
                errors = [f for f in json.loads(run.stdout)["findings"] if f["severity"] == "error"]
                self.assertIn(tensor, [f["tensor"] for f in errors])

    def test_what_the_tools_layouts_hold_comes_back(self):
        for model in folders.MODELS:
            for layout, flags in WRITTEN.items():
                for to in *ASCEND, "compressed-tensors":
                    if to != layout:
                        with self.subTest(model=model, layout=layout, to=to):
                            shutil.rmtree(self.there_and_back(self.quantized(model, flags), layout, to))

    def test_all_types_between_ascends_layouts(self):
        for kind in "mix", "weights only", "int8 cache", "quantized head":
            folder = self.quantized("qwen", folders.TYPES[kind])
            for to in ASCEND[1:]:
                with self.subTest(kind=kind, to=to):
                    there = self.there_and_back(folder, "octet", to)
                    self.assertEqual(folders.run(OCTET, "check", there).returncode, 0)
                    shutil.rmtree(there)

    def test_without_the_way_back(self):
        """A folder of which nothing but the checkpoint itself is left, as llm-compressor writes them."""
        for model in folders.MODELS:
            for kind in compressible(model):
                with self.subTest(model=model, kind=kind):
                    folder = self.quantized(model, folders.TYPES[kind])
                    there, back, again = (self.dir / name for name in ("there", "back", "again"))
                    for left in there, back, again:
                        shutil.rmtree(left, ignore_errors=True)
                    self.convert(folder, there, "compressed-tensors")
                    for file in there.glob("octet_source.*"):
                        file.unlink()
                    self.convert(there, back, "octet")
                    self.assertEqual(folders.run(OCTET, "check", back).returncode, 0)
                    self.folder = loader_walk.Folder(folder)
                    self.same(*(outputs(f, loader_compute.Linear) for f in (self.folder, loader_walk.Folder(back))))
                    self.convert(back, again, "compressed-tensors")
                    self.assertEqual(folders.same_files(there, again), [])
                    for f in there, back, again:
                        shutil.rmtree(f)

    def test_biases_that_the_classes_do_not_have(self):
        llama, qwen = (self.dir / name for name in ("llama", "qwen"))
        said = self.convert(self.quantized("llama", folders.TYPES["recipe, static"]), llama, "compressed-tensors")
        self.assertIn("attention_bias and mlp_bias", said)
        config = json.loads((llama / "config.json").read_text())
        self.assertTrue(config["attention_bias"] and config["mlp_bias"])
        for module in "self_attn.o_proj", "mlp.up_proj":  # every layer, or loaders would leave them as they are in memory
            self.assertIn(f"model.layers.5.{module}.bias", Weights(llama).tensors)
        said = self.convert(self.quantized("qwen", folders.TYPES["recipe, static"]), qwen, "compressed-tensors")
        self.assertIn("LlamaForCausalLM", said)
        config = json.loads((qwen / "config.json").read_text())
        self.assertEqual((config["architectures"], config["model_type"]), (["LlamaForCausalLM"], "llama"))

    def test_the_dictionary(self):
        out = self.dir / "out"
        self.convert(self.quantized("llama", folders.TYPES["static"]), out, "compressed-tensors")
        d = json.loads((out / "config.json").read_text())["quantization_config"]
        self.assertEqual((d["quant_method"], d["format"]), ("compressed-tensors", "int-quantized"))
        group = d["config_groups"]["group_0"]
        self.assertEqual(group["targets"], ["Linear"])
        self.assertEqual(group["weights"]["strategy"], "channel")
        self.assertEqual((group["input_activations"]["strategy"], group["input_activations"]["symmetric"]), ("tensor", False))
        self.assertIn("lm_head", d["ignore"])
        self.assertIn("model.layers.0.mlp.down_proj", d["ignore"])
        shutil.rmtree(out)
        self.convert(self.quantized("llama", folders.TYPES["recipe"]), out, "compressed-tensors")
        groups = json.loads((out / "config.json").read_text())["quantization_config"]["config_groups"]
        self.assertEqual(len(groups), 2)
        self.assertFalse(set(groups["group_0"]["targets"]) & set(groups["group_1"]["targets"]))

    def test_what_cannot_be_held_is_refused(self):
        for kind, word in {"mix": "W8A8_MIX", "weights only": "W8A16", "int8 cache": "C8", "quantized head": "head"}.items():
            self.refuse(2, ["compressed-tensors cannot hold", word], self.quantized("qwen", folders.TYPES[kind]), self.dir / "x",
                        "--to", "compressed-tensors")
        self.refuse(2, ["biases that Qwen3's model classes do not have", "correct_bias"], self.quantized("qwen3", folders.TYPES["recipe, static"]), self.dir / "x",
                    "--to", "compressed-tensors")
        static = self.quantized("llama", folders.TYPES["static"])
        self.refuse(2, ["octet", "already"], static, self.dir / "x", "--to", "octet")
        self.refuse(2, ["float checkpoint", "octet quantize"], folders.MODELS["llama"], self.dir / "x", "--to", "mindie")
        self.refuse(2, ["--to", "msmodelslim_v1"], static, self.dir / "x")
        self.refuse(2, ["--to", "awq"], static, self.dir / "x", "--to", "awq")
        self.refuse(2, ["FOLDER", "--from_gguf"], "--out", self.dir / "x", "--to", "mindie")
        self.refuse(2, ["--dtype"], static, self.dir / "x", "--to", "mindie", "--dtype", "float16")

    def test_foreign_compressed_tensors(self):
        there = self.dir / "there"
        self.convert(self.quantized("llama", folders.TYPES["static"]), there, "compressed-tensors")
        config = there / "config.json"
        whole = config.read_text()
        for path, value, words in ((("format",), "pack-quantized", ["format", "int-quantized"]),
                                   (("config_groups", "group_0", "weights", "num_bits"), 4, ["num_bits", "4"]),
                                   (("config_groups", "group_0", "input_activations"), None, ["input_activations", "weights only"]),
                                   (("config_groups", "group_0", "weights", "strategy"), "group", ["strategy", "channel"]),
                                   (("kv_cache_scheme",), {"num_bits": 8}, ["kv_cache_scheme"])):
            def edit(c):
                d = c["quantization_config"]
                for key in path[:-1]:
                    d = d[key]
                d[path[-1]] = value
            change_json(config, edit)
            self.refuse(1, words, there, self.dir / "x", "--to", "octet")
            config.write_text(whole)
        weights = Weights(there)
        weights.set("model.layers.0.mlp.up_proj.weight_zero_point", "I8", numpy.ones(1, numpy.int8))
        weights.save()
        (there / "octet_source.json").unlink()
        self.refuse(1, ["weight_zero_point", "no place"], there, self.dir / "x", "--to", "octet")

    def test_a_way_back_that_fits_no_more(self):
        there = self.dir / "there"
        self.convert(self.quantized("llama", folders.TYPES["static"]), there, "mindie")
        record = there / "octet_source.json"
        whole = record.read_text()
        for text in "{", "[]", "{}", whole.replace('"stem":"', '"stem":"../'), whole.replace('"layout":"octet"', '"layout":"x"'):
            record.write_text(text)
            self.refuse(1, ["octet_source.json"], there, self.dir / "x", "--to", "octet")
        record.write_text(whole)
        weights = Weights(there)
        name = "model.layers.0.self_attn.q_proj.weight"
        weights.set(name, "I8", numpy.zeros(weights.tensors[name][1], numpy.int8))
        weights.save()
        self.refuse(1, ["octet_source.json", "not those that were written"], there, self.dir / "x", "--to", "octet")
        record.unlink()
        self.convert(there, self.dir / "y", "octet")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
