"""Checkpoints as downloads, merges and exports leave them: what is read as transformers reads it, what is named with a way out."""
import json
import shutil
import sys
import unittest

from testing import CALIB, LLAMA, MINDIE, QWEN, QWEN3, ROOT, Model, Verbs, octet

TEXT = ROOT / "models/text.jsonl"
BRIEFLY = ["--calib_texts", "It rains, and the wind blows over the hills.", "--quiet"]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Checkpoints(Verbs):
    def model(self, source=LLAMA, **config):
        model = Model(source, self.dir / "model")
        model.config.update(config)
        return model

    def perplexity(self, folder):
        run = octet("eval", folder, "--text", TEXT, "--passages", 4, "--json", "--quiet")
        self.assertEqual(run.returncode, 0, run.stderr)
        return json.loads(run.stdout)[0]["perplexity"], run.stderr

    # A tokenizer with more tokens than the model has embeddings.

    def test_tokens_that_the_model_lacks(self):
        eos = 2016  # <|end_of_text|>
        model = self.model(vocab_size=eos)
        for name in (EMBEDDING, HEAD):
            model.cut_rows(name, eos)
        folder = model.write()
        text, questions, choices = (self.dir / name for name in ("t.jsonl", "q.jsonl", "c.jsonl"))
        line = '{"text": "It rains."}\n{"text": "It rains.<|end_of_text|> Again."}\n'
        text.write_text(line)
        questions.write_text('{"inputs_pretokenized": "Rain<|end_of_text|>?", "answer": "yes"}\n')
        choices.write_text('{"query": "It", "choices": ["rains", "<|end_of_text|>"], "gold": 0}\n')
        named = [f'{eos}, "<|end_of_text|>"', f"ids below {eos}"]
        self.bad(1, [f"{text}, text 2", *named], "eval", folder, "--text", text, "--quiet")
        self.bad(1, [f"{questions}, question 1", *named], "eval", folder, "--yes-no", questions, "--quiet")
        self.bad(1, [f"{choices}, question 1", *named], "eval", folder, "--choices", choices, "--quiet")
        self.bad(1, ["t.jsonl, text 2", *named], "quantize", folder, self.dir / "out", "--calib_file", text, "--quiet")
        self.bad(1, [f"{text}, text 2", *named], "quantize", folder, self.dir / "out", "--report-text", text, "--quiet")
        out = self.dir / "out"
        self.quantize(folder, out)  # the other texts have none of the tokens
        self.bad(1, [f"{text}, text 2", *named], "report", out, "--float", folder, "--text", text, "--quiet")

    # config.json and tensors that disagree (src/checkpoint/model_folder_test.cc has more of them).

    def test_a_type_that_is_null(self):
        expected, found = self.dir / "expected", self.dir / "found"
        self.quantize(LLAMA, expected)
        self.quantize(self.model(torch_dtype=None).write(), found)
        config = json.loads((found / "config.json").read_text())
        self.assertEqual(config["torch_dtype"], "bfloat16")
        weights = "quant_model_weight_w8a8.safetensors"
        self.assertEqual((found / weights).read_bytes(), (expected / weights).read_bytes())
        self.good("check", found)

    def test_a_tied_model_that_stores_its_head_only(self):
        tied = self.model(tie_word_embeddings=True)
        table = tied.tensors.pop(HEAD)
        tied.tensors[EMBEDDING] = table
        right = self.perplexity(tied.write())[0]
        tied.tensors[HEAD] = tied.tensors.pop(EMBEDDING)
        found, said = self.perplexity(tied.write())
        self.assertEqual(found, right)
        self.assertIn("warning", said)
        out = self.dir / "out"
        self.quantize(tied.folder, out)
        self.assertIn(EMBEDDING, self.types_of(out))

    def test_a_head_that_differs_from_the_embedding(self):
        out, expected = self.dir / "out", self.perplexity(LLAMA)[0]
        folder = self.model(tie_word_embeddings=True).write()
        self.assertIn("tie_word_embeddings is true", self.good("check", folder))
        found, said = self.perplexity(folder)
        self.assertEqual(found, expected)  # computed with the head
        self.assertIn("tie_word_embeddings is true", said)
        run = octet("quantize", "--model_path", folder, "--save_directory", out, *BRIEFLY)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("writes false", run.stderr)
        self.assertIs(json.loads((out / "config.json").read_text())["tie_word_embeddings"], False)
        config = json.loads((out / "config.json").read_text())  # as it was written before
        (out / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
        run = octet("check", out)
        self.assertEqual(run.returncode, 1, run.stdout)
        self.assertIn("set tie_word_embeddings to false", run.stdout)

    def test_biases_of_q_k_and_v_only(self):
        model = self.model(QWEN)
        expected = self.perplexity(model.write())[0]
        model.config.update(model_type="llama", architectures=["LlamaForCausalLM"], attention_bias=True)
        found, said = self.perplexity(model.write())
        self.assertEqual(found, expected)
        self.assertIn("zeros", said)
        out = self.dir / "out"
        self.quantize(model.folder, out, "--disable_names", "model.layers.0.self_attn.o_proj")
        self.assertIn("model.layers.0.self_attn.o_proj.bias", self.types_of(out))
        self.assertGreater(self.perplexity(out)[0], 1)

    def test_windows_of_no_layer(self):
        model = self.model(QWEN)
        expected = self.perplexity(model.write())[0]
        model.config.update(use_sliding_window=True, sliding_window=64, max_window_layers=model.config["num_hidden_layers"])
        self.assertEqual(self.perplexity(model.write())[0], expected)

    # What a download left, and how to go on.

    def lfs(self, file):
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0" + "\nsize 4976698672\n")

    def test_git_lfs_pointers(self):
        for name in ("model.safetensors", "tokenizer.json"):
            folder = self.model().write()
            self.lfs(folder / name)
            words = [str(folder / name), "is a git-lfs pointer", "git lfs pull"]
            run = octet("check", folder)
            self.assertEqual(run.returncode, 1, run.stdout)
            for word in words:
                self.assertIn(word, run.stdout)
            self.bad(1, words, "generate", folder, "--prompt", "It rains")
            self.bad(1, words, "quantize", folder, self.dir / "out", "--quiet")
            shutil.rmtree(folder)

    def test_a_pointer_that_nobody_needs(self):
        folder = self.model().write()
        self.lfs(folder / "tokenizer.model")
        self.quantize(folder, self.dir / "out")

    def test_a_folder_of_the_hubs_cache(self):
        cache = self.dir / "models--octet--tiny"
        (cache / "snapshots").mkdir(parents=True)
        shutil.copytree(LLAMA, cache / "snapshots/0a1b")
        self.bad(1, "snapshots/", "eval", cache, "--text", TEXT)
        weights = cache / "snapshots/0a1b/model.safetensors"
        weights.unlink()
        weights.symlink_to("../../blobs/cafe")
        self.bad(1, [str(weights), "../../blobs/cafe", "cp -rL"], "eval", cache / "snapshots/0a1b", "--text", TEXT)

    def test_links_to_nothing(self):
        """They are not as good as absent."""
        for name in "tokenizer_config.json", "generation_config.json", "special_tokens_map.json", "chat_template.jinja":
            folder = self.model().write()
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to("../../blobs/cafe")
            words = [str(folder / name), "../../blobs/cafe", "cp -rL"]
            run = octet("check", folder)
            self.assertEqual(run.returncode, 1, run.stdout)
            for word in [*words, "broken, errors: 1"]:
                self.assertIn(word, run.stdout)
            self.bad(1, words, "quantize", folder, self.dir / "out", "--calib_texts", "It rains.", "--quiet")
            shutil.rmtree(folder)

    def test_a_window_of_a_family_without(self):
        model = self.model()
        expected = self.perplexity(model.write())[0]
        model.config.update(use_sliding_window=True, sliding_window=64, max_window_layers=0)
        self.assertEqual(self.perplexity(model.write())[0], expected)
        self.good("check", model.folder)

    def test_the_files_of_a_slow_tokenizer(self):
        folder = self.model(QWEN).write()
        expected = self.perplexity(folder)[0]
        fast = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").unlink()
        added = {token["content"] for token in fast["added_tokens"]}
        vocab = {token: number for token, number in fast["model"]["vocab"].items() if token not in added}
        (folder / "vocab.json").write_text(json.dumps(vocab))
        (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in fast["model"]["merges"]) + "\n")
        self.assertEqual(self.perplexity(folder)[0], expected)
        self.assertNotIn("tokenizer", self.good("check", folder))
        (folder / "merges.txt").unlink()
        (folder / "tokenizer.model").touch()
        self.bad(1, ["no tokenizer.json", "save_pretrained"], "generate", folder, "--prompt", "It rains")
        self.assertIn("save_pretrained", self.good("check", folder))

    def test_bos_of_a_llama_class(self):
        folder = self.model().write()
        self.assertNotIn("transformers", self.good("check", folder))
        expected = self.perplexity(folder)[0]
        for name, change in (("tokenizer.json", {"post_processor": None}), ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizerFast"})):
            file = folder / name
            file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
        self.assertEqual(self.perplexity(folder)[0], expected)  # the class adds what the file did
        self.assertIn("<|begin_of_text|> by 4, as Octet does, nothing by 5", self.good("check", folder))

    # What generate and serve refuse, check finds before.

    def test_generation_config(self):
        folder = self.model(max_position_embeddings=256).write()
        file = folder / "generation_config.json"
        file.write_text('{"temperature": 0.6, "top_k": 50.0, "top_p": 0.9}')
        self.good("generate", folder, "--prompt", "It rains", "--max-tokens", 4)
        self.good("check", folder)
        for text, words in (('{"top_k": "50"}', "top_k"), ('{"temperature": -1}', "temperature"), ('{"top_p": 0}', "top_p"),
                            ('{"top_p": 0.5', "is not valid JSON")):
            file.write_text(text)
            run = octet("generate", folder, "--prompt", "It rains")
            self.assertNotEqual(run.returncode, 0, text)
            run = octet("check", folder)
            self.assertEqual(run.returncode, 1, text)
            self.assertIn(words, run.stdout)
            self.assertIn("generation_config.json", run.stdout)

    def test_chat_template(self):
        folder = self.model().write()
        (folder / "chat_template.jinja").write_text("{% for %}")
        run = octet("check", folder)
        self.assertEqual(run.returncode, 1, run.stdout)
        self.assertIn("chat_template.jinja", run.stdout)

    # Advice that fits.

    def test_of_a_float_model(self):
        model = self.model()
        del model.tensors["model.layers.3.mlp.up_proj.weight"]
        run = octet("check", model.write())
        self.assertIn("get it again", run.stdout)
        self.assertNotIn("quantize", run.stdout)

    def test_of_what_quantize_left(self):
        out, left = self.dir / "out", self.dir / "other.partial"
        self.quantize(LLAMA, out)
        (left / "files").mkdir(parents=True)
        for name in ("lock", "journal"):
            (left / name).touch()
        self.bad(2, ["octet quantize with --resume", "--overwrite"], "convert", out, self.dir / "other", "--to", "msmodelslim")
        self.good("convert", out, self.dir / "other", "--to", "msmodelslim", "--overwrite")

    def test_a_key_that_occurs_twice(self):
        folder = self.model().write()
        config = folder / "config.json"
        config.write_text(config.read_text().replace("{", '{"num_hidden_layers": 1, ', 1))
        self.assertIn("num_hidden_layers", self.good("check", folder))
        found, said = self.perplexity(folder)
        self.assertEqual(found, self.perplexity(LLAMA)[0])  # the last one counts
        self.assertIn("num_hidden_layers", said)
        run = octet("quantize", "--model_path", folder, "--save_directory", self.dir / "out", *BRIEFLY)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("num_hidden_layers", run.stderr)

    # Numbers that no float holds.

    def test_an_overflow_is_reported_at_its_cause(self):
        name = "model.layers.0.mlp.down_proj.weight"
        model = self.model(torch_dtype="float16")
        dtype, shape, data = model.tensors[name]
        values = memoryview(bytearray(data)).cast("H")
        for i, bits in enumerate(values):
            if bits & 0x7f80:
                values[i] = bits + (24 << 7)  # times 2^24
        model.tensors[name] = (dtype, shape, bytes(values))
        folder = model.write()
        for flags in (["--disable_names", name.removesuffix(".weight"), *MINDIE], ["--disable_names", name.removesuffix(".weight")]):
            self.bad(1, [name, "float16"], "quantize", "--model_path", folder, "--save_directory", self.dir / "out", "--calib_file",
                     CALIB, "--quiet", *flags)

    def test_a_weight_that_is_no_number(self):
        name = "model.layers.3.mlp.up_proj.weight"
        model = self.model()
        dtype, shape, data = model.tensors[name]
        model.tensors[name] = (dtype, shape, b"\xc0\x7f" + data[2:])
        folder = model.write()
        words = ["NaN or infinite logits", f"octet check {folder}"]
        self.bad(1, words, "generate", folder, "--prompt", "It rains")
        self.bad(1, words, "eval", folder, "--text", TEXT, "--quiet")
        run = octet("check", folder)
        self.assertEqual(run.returncode, 1)
        self.assertIn(name, run.stdout)

    # What real loaders refuse.

    def test_the_tools_rollback_cuts_groups(self):
        flags = ["--model_path", LLAMA, *BRIEFLY, "--disable_names", "model.layers.0.self_attn.k_proj", "model.layers.2.mlp.up_proj"]
        run = octet("quantize", "--save_directory", self.dir / "cut", "--compat", "msmodelslim", *flags)
        self.assertEqual(run.returncode, 0, run.stderr)
        last = run.stderr.splitlines()[-1]
        for words in ("warning", "model.layers.0.self_attn.k_proj and 1 more", "vLLM-Ascend", "--disable_names"):
            self.assertIn(words, last)
        run = octet("quantize", "--save_directory", self.dir / "whole", *flags)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertNotIn("same q/k/v", run.stderr)

    def test_an_int8_cache_that_older_versions_refuse(self):
        for model, warned in ((LLAMA, True), (QWEN, True), (QWEN3, False)):
            out = self.dir / model.name
            self.good("quantize", "--model_path", model, "--save_directory", out, *BRIEFLY, "--use_kvcache_quant", "True")
            self.assertEqual("0.25.1" in self.good("check", out), warned, model)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
