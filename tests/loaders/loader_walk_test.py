#!/usr/bin/env python3
"""tools/loader_walk.py, which walks a folder as Ascend's loaders do, and `octet check` agree: on every type that the
quantizer writes, for both tiny models, and on folders broken in one way each.

    tests/loaders/loader_walk_test.py path/to/octet        (needs numpy)
"""
import json
import pathlib
import shutil
import sys
import tempfile
import unittest

import numpy

import folders
from folders import ROOT, Weights, change_description, change_json

sys.path.insert(0, str(ROOT / "tools"))
import loader_compute
import loader_walk

OCTET = str(pathlib.Path(sys.argv[1]).resolve())
Q, K = "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj"
UP, O = "model.layers.2.mlp.up_proj", "model.layers.0.self_attn.o_proj"
NORM = "model.layers.0.input_layernorm"


def forget(*names):
    def change(folder, weights):
        for name in names:
            del weights.tensors[name]
    return change


def store(name, dtype, make):
    """make(numpy shape) -> values"""
    def change(folder, weights):
        weights.set(name, dtype, make(tuple(weights.tensors[name][1])))
    return change


def describe(name, word):
    def change(folder, weights):
        def edit(types):
            types.pop(name, None)
            if word is not None:
                types[name] = word
        change_description(folder, edit)
    return change


def scale(value):
    def change(folder, weights):
        for part in ".input_scale", ".input_offset":
            dtype = weights.tensors[Q + part][0]
            weights.set(Q + part, dtype, folders.floats([value], dtype))
    return change


def config(edit):
    return lambda folder, weights: change_json(folder / "config.json", edit)


def norm_bias(described):
    def change(folder, weights):
        dtype, shape, raw = weights.tensors[NORM + ".weight"]
        weights.tensors[NORM + ".bias"] = [dtype, shape, raw]
        if described:
            describe(NORM + ".bias", "FLOAT")(folder, weights)
    return change


def as_floats(name):
    def change(folder, weights):
        weights.set(name + ".weight", "F16", numpy.ones(weights.tensors[name + ".weight"][1], numpy.float16))
        for part in ".input_scale", ".input_offset", ".quant_bias", ".deq_scale":
            weights.tensors.pop(name + part, None)
            describe(name + part, None)(folder, weights)
        describe(name + ".weight", "FLOAT")(folder, weights)
    return change


def second_description(folder, weights):
    shutil.copy(folder / "quant_model_description.json", folder / "quant_model_description_w8a8.json")


def stale_index(folder, weights):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {Q + ".weight": "model.safetensors"}}))


def twice(folder, weights):
    file = folder / "quant_model_description.json"
    file.write_text(file.read_text().replace("{", '{"model.norm.weight": "FLOAT", ', 1))


def disagree(folder, weights):
    change_json(folder / "quant_model_description.json", lambda d: d.__setitem__(O + ".weight", "FLOAT"))


def other_deq(folder, weights):
    name = O + ".deq_scale"
    dtype, shape, raw = weights.tensors[name]
    values = loader_compute.decode_deq(numpy.frombuffer(raw, "<i8" if dtype == "I64" else "<f4"))
    if dtype == "I64":
        weights.set(name, "F32", values)
    else:
        weights.set(name, "I64", values.view(numpy.int32).astype(numpy.int64))


def other_torch_dtype(folder, weights):
    def swap(c):
        c["torch_dtype"] = "float16" if c["torch_dtype"] == "bfloat16" else "bfloat16"
    change_json(folder / "config.json", swap)


# What is wrong -> (how, the tensor that both must name, or "").
BROKEN = {
    "a weight missing": (forget(Q + ".weight"), Q + ".weight"),
    "deq_scale missing": (forget(O + ".deq_scale"), O + ".deq_scale"),
    "quant_bias missing": (forget(O + ".quant_bias"), O + ".quant_bias"),
    "a norm missing": (forget("model.norm.weight"), "model.norm.weight"),
    "the embedding missing": (forget("model.embed_tokens.weight"), "model.embed_tokens.weight"),
    "a float weight": (store(Q + ".weight", "F16", lambda s: numpy.ones(s, numpy.float16)), Q + ".weight"),
    "an int8 norm": (store("model.norm.weight", "I8", lambda s: numpy.ones(s, numpy.int8)), "model.norm.weight"),
    "an int64 quant_bias": (store(O + ".quant_bias", "I64", lambda s: numpy.ones(s, numpy.int64)), O + ".quant_bias"),
    "a weight of another shape": (store(UP + ".weight", "I8", lambda s: numpy.ones((s[0], s[1] - 1), numpy.int8)), UP + ".weight"),
    "a short deq_scale": (store(O + ".deq_scale", "F32", lambda s: numpy.ones((s[0] - 1,), numpy.float32)), O + ".deq_scale"),
    "another input_offset, in int8": (store(Q + ".input_offset", "I8", lambda s: numpy.full(s, 77, numpy.int8)), Q.split(".self")[0]),
    "an input_scale without shape": (store(O + ".input_scale", "F32", lambda s: numpy.array(1, numpy.float32)), O + ".input_scale"),
    "deq_scale of the other type": (other_deq, O + ".deq_scale"),
    "torch_dtype changed": (other_torch_dtype, O + ".deq_scale"),
    "deq_scale infinite": (store(O + ".deq_scale", "F32", lambda s: numpy.full(s, numpy.inf, numpy.float32)), O + ".deq_scale"),
    "deq_scale of float64's bits": (store(O + ".deq_scale", "I64", lambda s: numpy.full(s, 1 << 62, numpy.int64)), O + ".deq_scale"),
    "an offset between integers": (store(O + ".input_offset", "F32", lambda s: numpy.full(s, 0.5, numpy.float32)), O + ".input_offset"),
    "an offset out of range": (store(O + ".input_offset", "F32", lambda s: numpy.full(s, 128, numpy.float32)), O + ".input_offset"),
    "input_scale zero": (store(O + ".input_scale", "F32", lambda s: numpy.zeros(s, numpy.float32)), O + ".input_scale"),
    "another input_scale in q/k/v": (scale(1.0), "self_attn"),
    "q in float": (as_floats(Q), "self_attn"),
    "up in float": (as_floats(UP), "mlp"),
    "an unknown type": (describe(UP + ".weight", "W8A9"), UP + ".weight"),
    "k not described": (describe(K + ".weight", None), K + ".weight"),
    "the head not described": (describe("lm_head.weight", None), "lm_head.weight"),
    "int8 under FLOAT": (describe(UP + ".weight", "FLOAT"), "mlp"),
    "a tensor described but not stored": (describe(UP + ".more", "W8A8"), UP + ".more"),
    "a norm's bias not described": (norm_bias(False), NORM + ".bias"),
    "NaN in a norm": (store("model.norm.weight", "F32", lambda s: numpy.full(s, numpy.nan, numpy.float32)), "model.norm.weight"),
    "an unknown tensor": (lambda f, w: w.set(Q + ".smooth", "F32", numpy.ones(3, numpy.float32)), Q + ".smooth"),
    "two descriptions": (second_description, ""),
    "descriptions that disagree": (disagree, O + ".weight"),
    "an index of another model": (stale_index, ""),
    "no torch_dtype": (config(lambda c: c.pop("torch_dtype")), ""),
    "another quant_method": (config(lambda c: c["quantization_config"].update(quant_method="awq")), ""),
}
GOOD = {
    "a key twice": twice,
    "a norm's bias described": norm_bias(True),
    "config.json alone": lambda f, w: (f / "quant_model_description.json").unlink(),
    "the description alone": config(lambda c: c.pop("quantization_config")),
    "an int8 offset": store(O + ".input_offset", "I8", lambda s: numpy.full(s, -3, numpy.int8)),
    "float32 scales": store(O + ".input_scale", "F32", lambda s: numpy.full(s, 0.1, numpy.float32)),
}


# Types of folders.TYPES that vLLM-Ascend refuses in a float16 model, as qwen is; it takes them in bfloat16.
PER_TOKEN = "dynamic", "mix", "dynamic, int8 cache", "recipe"


class LoaderWalk(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="octet_loaders_"))
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        cls.static = {}
        for name, model in folders.MODELS.items():
            cls.static[name] = cls.dir / f"{name}_static"
            folders.quantize(OCTET, model, cls.static[name], ["--disable_names", "none"])

    def verdicts(self, folder):
        """(octet check's errors, the walk's problems), each a list of texts; empty = good. Both warn of the same scales
        per token."""
        run = folders.run(OCTET, "check", folder, "--json")
        all_findings = json.loads(run.stdout)["findings"]
        findings = [f for f in all_findings if f["severity"] == "error"]
        self.assertEqual(run.returncode, 1 if findings else 0, run.stderr)
        problems, warnings, walked = loader_walk.walk(folder)
        if walked is not None:
            self.assertEqual([f["tensor"] for f in all_findings if "scales per token" in f["problem"]],
                             [tensor for tensor, words in warnings])
        return ([f"{f['tensor']}: {f['problem']}" for f in findings],
                [f"{loader}: {tensor}: {words}" for loader, found in problems.items() for tensor, words in found], walked)

    def test_good_folders_of_every_type(self):
        for name, model in folders.MODELS.items():
            golden = loader_walk.read_safetensors(model / "golden/logits.safetensors")
            tokens, wanted = golden["prompt0.ids"].values[:12], golden["prompt0.logits"].values[:12]
            for kind, flags in folders.TYPES.items():
                with self.subTest(model=name, type=kind):
                    out = self.dir / f"{name} {kind}"
                    folders.quantize(OCTET, model, out, flags)
                    errors, problems, walked = self.verdicts(out)
                    self.assertEqual((errors, problems), ([], []))
                    per_token = name == "qwen" and kind in PER_TOKEN
                    self.assertEqual(len(loader_walk.warnings_of(walked)), per_token)
                    # Sliced for 2, 4 and 8 ranks it is computed as by one; 6 heads cannot be shared by 4 or 8.
                    ranks = loader_compute.check_ranks(walked, [2, 4, 8], tokens=2, layers=1)
                    for tp, entry in ranks.items():
                        if entry["error"] is None:
                            self.assertNotEqual(walked.config["num_attention_heads"] % tp, 0)
                        else:
                            self.assertLess(entry["error"], loader_compute.RANK_TOLERANCE)
                    # And it is the model: a wrong sign of an offset or a bias added twice gives a KL near 1.
                    self.assertLess(divergence(wanted, loader_compute.Model(walked).logits(tokens)), 0.05)
                    shutil.rmtree(out)

    def change(self, model, change):
        folder = self.dir / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.static[model], folder)
        weights = Weights(folder)
        change(folder, weights)
        weights.save()
        return folder

    def test_broken_folders(self):
        for model in folders.MODELS:
            for kind, (change, tensor) in BROKEN.items():
                with self.subTest(model=model, broken=kind):
                    errors, problems, walked = self.verdicts(self.change(model, change))
                    self.assertTrue(errors, "octet check finds nothing")
                    self.assertTrue(problems, f"the walk finds nothing; octet check: {errors}")
                    for found in errors, problems:
                        self.assertTrue(any(tensor in text for text in found), f"{tensor} is not named: {found}")

    def test_unusual_but_good_folders(self):
        for model in folders.MODELS:
            for kind, change in GOOD.items():
                with self.subTest(model=model, good=kind):
                    errors, problems, walked = self.verdicts(self.change(model, change))
                    self.assertEqual((errors, problems), ([], []))

    def test_the_program(self):
        tool = ROOT / "tools/loader_walk.py"
        out = self.dir / "logits.npy"
        run = folders.run(sys.executable, tool, self.static["qwen"], "--tp", "1,2", "--tokens", "1,2,3", "--logits", out)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("vllm-ascend: takes it", run.stdout)
        self.assertIn("tp 2:", run.stdout)
        self.assertEqual(numpy.load(out).shape, (3, 2048))
        dynamic = self.dir / "dynamic"
        folders.quantize(OCTET, folders.MODELS["qwen"], dynamic, folders.TYPES["dynamic"])
        run = folders.run(sys.executable, tool, dynamic)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("warning: model.layers.0.self_attn.q_proj.weight: vLLM-Ascend refuses", run.stdout)
        broken = self.change("qwen", BROKEN["q in float"][0])
        run = folders.run(sys.executable, tool, broken, "--json")
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertFalse(json.loads(run.stdout)["ok"])


def divergence(wanted, got):
    """Mean KL of the next token's distribution."""
    def log_softmax(x):
        x = x.astype(numpy.float64) - x.max(-1, keepdims=True)
        return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))
    p, q = log_softmax(wanted), log_softmax(got)
    return (numpy.exp(p) * (p - q)).sum(-1).mean()


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
