#!/usr/bin/env python3
"""Tensor parallelism as Ascend's loaders slice a folder, on a LLaMA whose 8 heads 1, 2, 4 and 8 ranks can share, with a KV
head for each of them and with two that are repeated: the ranks together compute what one alone does, which is the model.

    tests/loaders/tensor_parallel_test.py path/to/octet        (needs numpy)
"""
import json
import pathlib
import shutil
import sys
import tempfile
import types
import unittest
import unittest.mock

import folders
from folders import ROOT, Weights, change_json

sys.path.insert(0, str(ROOT / "tools"))
import loader_compute
import loader_walk

OCTET = str(pathlib.Path(sys.argv[1]).resolve())
SIZES = [1, 2, 4, 8]
KINDS = {**{kind: folders.TYPES[kind] for kind in ("all static", "dynamic", "mix", "weights only", "int8 cache")},
         "recipe": ["--recipe", "octet", "--dynamic-budget", "4", "--float-budget", "1"],
         "recipe, static, int8 cache": ["--recipe", "octet", "--dynamic-budget", "0", "--use_kvcache_quant", "True"]}


class TensorParallel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="octet_ranks_"))
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        cls.models = {}
        for kv_heads, biases in (8, False), (2, False), (2, True):
            model = cls.dir / f"{kv_heads} KV heads{', biases' if biases else ''}"
            folders.random_llama(model, kv_heads, biases)
            cls.models[model.name] = model

    def quantized(self, model, kind):
        out = self.dir / f"{model}: {kind}"
        if not out.exists():
            source = self.models[model]
            folders.quantize(OCTET, source, out, KINDS[kind], ["--calib_tokens", source / "tokens.json"])
        return out

    def walked(self, path):
        problems, _, folder = loader_walk.walk(path)
        self.assertFalse(any(problems.values()), problems)
        return folder

    def test_ranks_compute_what_one_does(self):
        for model, source in self.models.items():
            weights = loader_walk.read_weights(source)
            config = json.loads((source / "config.json").read_text())
            tokens = json.loads((source / "tokens.json").read_text())[0]
            plain = types.SimpleNamespace(config=config, tensors=weights, types={}, int8_kv=False)
            wanted = loader_compute.Model(plain).logits(tokens)
            for kind in KINDS:
                with self.subTest(model=model, kind=kind):
                    path = self.quantized(model, kind)
                    self.assertEqual(folders.run(OCTET, "check", path).returncode, 0)
                    folder = self.walked(path)
                    ranks = loader_compute.check_ranks(folder, SIZES)
                    self.assertEqual(list(ranks), SIZES)
                    for size, entry in ranks.items():
                        self.assertIsNotNone(entry["error"], f"tp {size}: {entry['words']}")
                        self.assertLess(entry["error"], loader_compute.RANK_TOLERANCE, f"tp {size}")
                    # A slice that is wrong for every number of ranks shows here.
                    difference = loader_compute.Model(folder).logits(tokens) - wanted
                    self.assertLess((difference ** 2).mean() / (wanted ** 2).mean(), 0.01)

    def test_slices_make_up_the_whole(self):
        """No row or column is left out or taken twice but for KV heads that are repeated."""
        for model in self.models:
            folder = self.walked(self.quantized(model, "all static"))
            shapes = loader_compute.Shapes(folder.config)
            for module, (n, k, bias) in shapes.linears.items():
                name = f"model.layers.1.{module}"
                whole = loader_compute.Linear(folder, name)
                for size in SIZES:
                    parts = [loader_compute.Linear(folder, name, size, rank) for rank in range(size)]
                    repeat = 1
                    if module.endswith(("k_proj", "v_proj")):
                        repeat = max(1, size // shapes.kv_heads)
                    for part in "weight", "deq", "quant_bias":
                        axis = 1 if part == "weight" and whole.rows else 0
                        values = [getattr(p, part) for p in parts]
                        if whole.rows and part != "weight":
                            self.assertTrue(all((v == getattr(whole, part)).all() for v in values))
                            continue
                        for rank in range(size):
                            self.assertTrue((values[rank] == values[rank - rank % repeat]).all(), (name, part, size))
                        together = loader_compute.numpy.concatenate(values[::repeat], axis)
                        self.assertTrue((together == getattr(whole, part)).all(), (name, part, size))

    def test_a_bias_that_every_rank_adds_shows(self):
        for kind in "all static", "dynamic":
            folder = self.walked(self.quantized("2 KV heads, biases", kind))
            plain = loader_compute.Linear.__init__

            def always_first(self, folder, name, tp=1, rank=0, prefill=True):
                plain(self, folder, name, tp, rank, prefill)
                self.first = True
            with unittest.mock.patch.object(loader_compute.Linear, "__init__", always_first):
                ranks = loader_compute.check_ranks(folder, SIZES)
            self.assertEqual(ranks[1]["error"], 0)
            for size in SIZES[1:]:
                self.assertGreater(ranks[size]["error"], 1e-3, (kind, size))

    def test_sizes_that_do_not_go(self):
        folder = self.walked(self.quantized("8 KV heads", "all static"))
        for size in 3, 16:
            self.assertIsNone(loader_compute.check_ranks(folder, [size])[size]["error"])
        run = folders.run(sys.executable, ROOT / "tools/loader_walk.py", folder.path, "--tp", "1,2,4,8,16", "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual([size for size, entry in json.loads(run.stdout)["tp"].items() if entry["error"] is None], ["16"])

    def test_broken_for_ranks(self):
        """What no slice could be made of is found before anything is sliced, by the walk and by check."""
        k = "model.layers.1.self_attn.k_proj"

        def short(part):
            def change(folder, weights):
                dtype, (n, *rest), raw = weights.tensors[k + part]
                weights.tensors[k + part] = [dtype, [n // 2, *rest], raw[:len(raw) // 2]]
            return change

        def fewer_heads(folder, weights):
            change_json(folder / "config.json", lambda c: c.update(num_key_value_heads=c["num_key_value_heads"] // 2))
        for kind, change in {"k's weight of half the heads": short(".weight"), "its deq_scale": short(".deq_scale"),
                             "its quant_bias": short(".quant_bias"), "its cache scale": short(".kv_cache_scale"),
                             "another num_key_value_heads": fewer_heads}.items():
            for model in "8 KV heads", "2 KV heads":
                with self.subTest(broken=kind, model=model):
                    folder = self.dir / "changed"
                    shutil.rmtree(folder, ignore_errors=True)
                    shutil.copytree(self.quantized(model, "int8 cache"), folder)
                    weights = Weights(folder)
                    change(folder, weights)
                    weights.save()
                    self.assertEqual(folders.run(OCTET, "check", folder).returncode, 1)
                    problems, _, _ = loader_walk.walk(folder)
                    for loader in loader_walk.LOADERS["current"][::2]:  # the other takes no LLaMA
                        self.assertTrue(any(k in tensor for tensor, words in problems[loader]), (loader, problems))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
