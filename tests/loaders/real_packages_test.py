#!/usr/bin/env python3
"""What `octet convert` writes, in the hands of the real packages: compressed-tensors and transformers load folders of
compressed-tensors, gguf and tokenizers read what checkpoints of GGUF files are made from.

    .venv/bin/python tests/loaders/real_packages_test.py path/to/octet        (needs tools/requirements.txt)
"""
import json
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

import numpy

os.environ["TQDM_DISABLE"] = "1"  # read when the packages are imported
import folders
from folders import ROOT

sys.path.insert(0, str(ROOT))
from tools import prove_compressed, prove_convert
import tiny_gguf

OCTET = str(pathlib.Path(sys.argv[1]).resolve())
QKV, ALL = ["self_attn.k_proj.bias", "self_attn.q_proj.bias", "self_attn.v_proj.bias"], [
    "mlp.down_proj.bias", "mlp.gate_proj.bias", "mlp.up_proj.bias", "self_attn.k_proj.bias", "self_attn.o_proj.bias",
    "self_attn.q_proj.bias", "self_attn.v_proj.bias"]
# (model, type) -> class, biases.
COMPRESSED = {("llama", "all static"): ("LlamaForCausalLM", []),
              ("llama", "recipe, static"): ("LlamaForCausalLM", ALL),
              ("llama", "recipe"): ("LlamaForCausalLM", ALL),
              ("llama", "dynamic"): ("LlamaForCausalLM", []),
              ("qwen", "all static"): ("Qwen2ForCausalLM", QKV),
              ("qwen", "recipe, static"): ("LlamaForCausalLM", ALL),
              ("qwen3", "all static"): ("Qwen3ForCausalLM", []),
              ("qwen3", "dynamic"): ("Qwen3ForCausalLM", []),
              ("qwen", "dynamic"): ("Qwen2ForCausalLM", QKV),
              ("biases", "all static"): ("LlamaForCausalLM", ALL),
              ("biases", "dynamic"): ("LlamaForCausalLM", ALL)}
# KL per token, and the mean difference of the likeliest tokens' log-probabilities, at most. An activation on a rounding tie
# may fall either way, scales per token are max / 127.5 in the package, and Ascend rounds biases of the model itself to whole
# levels: each of that cost up to 1e-3, and 0.04 of a log-probability. Corrected biases left out cost 1e-2, the rest more.
DIVERGENCE, DIFFERENCE = 4e-3, 0.08


class RealPackages(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="octet_packages_"))
        self.addCleanup(shutil.rmtree, self.dir)

    def both_forms(self, model, kind):
        w8a8, compressed = self.dir / f"{model} {kind}", self.dir / f"{model} {kind}, compressed"
        if model == "biases":
            source = self.dir / "biases"
            if not source.exists():
                folders.random_llama(source, 2, biases=True)
            folders.quantize(OCTET, source, w8a8, folders.TYPES[kind], ["--calib_tokens", source / "tokens.json"])
        else:
            folders.quantize(OCTET, folders.MODELS[model], w8a8, folders.TYPES[kind])
        run = folders.run(OCTET, "convert", w8a8, compressed, "--to", "compressed-tensors", "--quiet")
        self.assertEqual(run.returncode, 0, run.stderr)
        return w8a8, compressed

    def test_compressed_tensors(self):
        for (model, kind), (name, biases) in COMPRESSED.items():
            with self.subTest(model=model, kind=kind):
                w8a8, compressed = self.both_forms(model, kind)
                vocabulary = folders.RANDOM_VOCABULARY if model == "biases" else 2000
                tokens = numpy.random.default_rng(1).integers(0, vocabulary, 64).tolist()
                found, log_probabilities = prove_compressed.prove(w8a8, compressed, tokens)
                print(model, kind, json.dumps(found), flush=True)
                self.assertEqual((found["class"], found["missing"], found["unexpected"]), (name, [], []))
                self.assertEqual(found["biases"], biases)
                if kind != "dynamic":  # where the largest value of every token is on a tie
                    self.assertLess(found["layers"]["with_a_tie"], found["layers"]["all"])
                self.assertLess(found["formulas"]["kl_per_token"], DIVERGENCE)
                self.assertLess(found["w8a8"]["kl_per_token"], DIVERGENCE)
                if model == "biases":  # it has no tokenizer to serve with
                    continue
                with prove_convert.Server(OCTET, compressed) as server:
                    difference = numpy.mean(prove_convert.differences(server, tokens, log_probabilities))
                print("octet serve: mean difference of log-probabilities", difference, flush=True)
                self.assertLess(difference, DIFFERENCE)

    def test_gguf(self):
        for model, pre in ("llama", "smollm"), ("qwen", "qwen2"), ("qwen3", "qwen2"):
            with self.subTest(model=model):
                file = self.dir / f"{model}.gguf"
                tiny_gguf.write(folders.MODELS[model], file, pre)
                prove_convert.prove(file, OCTET, 300)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
