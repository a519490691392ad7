#!/usr/bin/env python3
"""The program's verbs from outside: what a user types, right and wrong.

    tests/cli/cli_test.py path/to/octet

Uses the tiny models; needs nothing but Python. Every wrong input must end with one clear line on stderr, the right exit
code (2 for usage, 1 for failure) and nothing half-written.
"""
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import unittest

from testing import CALIB, LLAMA, MINDIE, OCTET, QWEN, ROOT, Verbs, octet


class Quantize(Verbs):
    def test_mindies_line_on_both_models(self):
        for model in LLAMA, QWEN:
            out = self.dir / model.name
            table = self.quantize(model, out, *MINDIE)
            self.assertIn("kept in float", table)
            self.good("check", out)
            config = json.loads((out / "config.json").read_text())
            described = json.loads((out / "quant_model_description.json").read_text())
            self.assertEqual(config["quantization_config"], described)
            self.assertEqual(described["model.embed_tokens.weight"], "FLOAT")
            for name in "tokenizer.json", "tokenizer_config.json", "generation_config.json":
                self.assertEqual((out / name).read_bytes(), (model / name).read_bytes())
            self.assertFalse((out / "expected.json").exists())
            types = json.loads(self.good("inspect", out, "--json"))["tensors"]
            scale = next(t for t in types if t["name"].endswith(".input_scale"))
            deq = next(t for t in types if t["name"].endswith(".deq_scale"))
            bf16 = model is LLAMA
            self.assertEqual((scale["dtype"], scale["shape"]), ("BF16" if bf16 else "F16", [1]))
            self.assertEqual(deq["dtype"], "F32" if bf16 else "I64")

            # What it cost, by another verb: next to nothing on these models (measured: KL 4e-5 and 8e-5).
            result = json.loads(self.good("eval", model, out, "--text", ROOT / "models/text.jsonl", "--passages", 20,
                                          "--yes-no", ROOT / "models/yesno.jsonl", "--json", "--quiet"))
            self.assertGreater(result[1]["kl"], 0)
            self.assertLess(result[1]["kl"], 1e-3)
            self.assertAlmostEqual(result[1]["yes_no"], result[0]["yes_no"], delta=0.01)
            self.assertLess(result[1]["weight_bytes"], result[0]["weight_bytes"])
            self.assertIn("learning", self.good("generate", out, "-p", "Deep Learning -- Deep learning is",
                                                "--temperature", 0, "--max-tokens", 16))

    def test_the_closing_table(self):
        """A row for each role and type, roles together, as the description has them; then what stayed in float, and why."""
        for model, *flags in ((LLAMA, *MINDIE), (QWEN, *MINDIE, "--use_kvcache_quant", "True"), (LLAMA, "--recipe", "octet-fast", "--dynamic-budget", "7"),
                              (QWEN, "--disable_names", *(f"model.layers.{i}.mlp.down_proj" for i in (0, 1, 3)))):
            out = self.dir / "out"
            lines = self.quantize(model, out, "--overwrite", *flags).splitlines()
            self.assertLessEqual(max(map(len, lines[:-1])), 80)
            end = lines.index("")
            counts, role = {}, None
            for line in lines[1:end - 1]:
                words = line.split()
                role = role if line.startswith(" ") else words.pop(0)
                self.assertNotIn((role, words[0]), counts)
                counts[role, words[0]] = int(words[1])
            roles = [role for role, _ in counts]
            self.assertEqual(len(set(roles)), 1 + sum(a != b for a, b in zip(roles, roles[1:])), roles)
            types = self.types_of(out)
            stored = {tensor["name"] for tensor in json.loads(self.good("inspect", out, "--json"))["tensors"]}
            expected, kept = {}, set()
            for name, word in types.items():
                if not name.endswith(".weight"):
                    continue
                parts = name.split(".")
                module, layer = parts[-2], parts[2] if parts[1] == "layers" else ""
                if word == "FLOAT" and (module == "lm_head" or module.endswith("proj")):
                    kept.add((module, layer))
                key = ("norms" if module.endswith("norm") else module, word)
                if name in stored:
                    expected[key] = expected.get(key, 0) + 1
            self.assertEqual(counts, expected)

            def linears(table):
                """(role, layer) of every linear that a table names."""
                at = table[0].index("layers")
                why = table[0].index("why") if "why" in table[0] else 99
                named, role = set(), None
                for line in table[1:]:
                    role = line[:at].strip() or role
                    for part in line[at:why].strip().strip(",").split(", "):
                        first, _, last = part.partition("-")
                        named |= {(role, str(i)) for i in range(int(first), int(last or first) + 1)} if part else {(role, "")}
                return named

            tables = "\n".join(lines[end + 1:-1]).strip("\n").split("\n\n")
            self.assertEqual(linears(tables[0].splitlines()), kept)
            per_token = {(name.split(".")[-2], name.split(".")[2]) for name, word in types.items()
                         if word == "W8A8_DYNAMIC" and name.endswith(".weight")}
            self.assertEqual(linears(tables[1].splitlines()) if len(tables) > 1 else set(), per_token)
            self.assertIn("by the recipe octet-fast" if "octet-fast" in flags else "in msModelSlim's way", lines[-1])
            if "--disable_names" in flags:
                self.assertIn(["down_proj", "0-1,", "3", "--disable_names"], [line.split() for line in lines])

    def test_the_same_twice_and_with_other_threads(self):
        for flags in MINDIE, ["--recipe", "octet", "--dynamic-budget", "2"]:
            files = []
            for threads in "1", "2", "3":
                out = self.dir / "run"
                self.good("quantize", "--model_path", LLAMA, "--save_directory", out, "--calib_file", CALIB, *flags, "--overwrite",
                          env={**os.environ, "OCTET_THREADS": threads})
                files.append((out / "quant_model_weight_w8a8.safetensors").read_bytes())
            self.assertEqual(len(set(files)), 1, flags)

    def test_recipes(self):
        for model in (LLAMA, QWEN):
            out = self.dir / "by_recipe"
            table = self.good("quantize", model, out, "--calib_file", CALIB, "--dynamic-budget", "1", "--overwrite")
            self.assertIn("W8A8", table)
            self.good("check", out)
            self.assertIn("recipe: octet", (out / "octet_recipe.yaml").read_text())
            words = self.good("generate", out, "-p", "The", "--max-tokens", "4")
            self.assertTrue(words.strip())
        self.good("quantize", LLAMA, self.dir / "fast", "--calib_file", CALIB, "--recipe", "octet-fast")
        self.good("quantize", LLAMA, self.dir / "mindie", "--calib_file", CALIB, "--recipe", "mindie")
        self.good("quantize", LLAMA, self.dir / "tool", "--calib_file", CALIB, "--anti_method", "m1")
        self.assertFalse((self.dir / "tool" / "octet_recipe.yaml").exists())
        recipe = self.dir / "mine.yaml"
        recipe.write_text("recipe: mine\nsteps:\n  - find_ranges: {method: guess}\n")
        x = self.dir / "x"
        self.bad(2, ["mine.yaml", "find_ranges.method", "guess"], "quantize", LLAMA, x, "--calib_file", CALIB, "--recipe", recipe)
        self.bad(2, ["no such recipe", "octet-fast"], "quantize", LLAMA, x, "--calib_file", CALIB, "--recipe", "slow")
        self.bad(2, ["--anti_method", "recipe"], "quantize", LLAMA, x, "--calib_file", CALIB, "--recipe", "octet", "--anti_method", "m1")
        self.bad(2, ["MODEL", "--model_path"], "quantize", "--calib_file", CALIB)
        self.bad(2, ["OUT", "--save_directory"], "quantize", LLAMA, x, "--save_directory", x)
        self.bad(2, "no calibration samples", "quantize", LLAMA, x, "--calib_file", "none")
        self.assertFalse(x.exists())

    def test_scales_per_token_of_float16_models(self):
        """vLLM-Ascend refuses them: there are none unless asked for. A bfloat16 model has them where they pay."""
        def types(model, *flags):
            out = self.dir / "out"
            run = octet("quantize", model, out, "--recipe", "octet-fast", "--calib_file", CALIB, "--overwrite", *flags)
            self.assertEqual(run.returncode, 0, run.stderr)
            described = json.loads((out / "quant_model_description.json").read_text())
            count = sum(word == "W8A8_DYNAMIC" and name.endswith(".weight") for name, word in described.items())
            notes = [line for line in run.stderr.splitlines() if "vLLM-Ascend" in line]
            method = json.loads((out / "quantization_report.json").read_text())["method"]
            self.assertEqual([f"octet: note: {note}" for note in method.get("notes", [])], notes)
            page = (out / "quantization_report.html").read_text()
            for note in notes:
                self.assertIn("vLLM-Ascend", page)
            return count, notes
        count, notes = types(LLAMA)
        self.assertGreater(count, 0)
        self.assertEqual(notes, [])
        count, notes = types(QWEN)
        self.assertEqual((count, len(notes)), (0, 1))
        self.assertIn("--dynamic_budget N", notes[0])
        count, notes = types(QWEN, "--dynamic_budget", "1")
        self.assertEqual((count, len(notes)), (1, 1))
        self.assertIn("W8A8_DYNAMIC", self.good("check", self.dir / "out"))

    def test_shards_and_names_and_dashes(self):
        out = self.dir / "w8a8"
        self.quantize(QWEN, out, "--part-file-size", "0.002", "--disable-names", "none", "--anti-method", "m1", "--act-method", "2")
        self.assertTrue((out / "quant_model_weight_w8a8.safetensors.index.json").exists())
        self.assertTrue((out / "quant_model_weight_w8a8-00001-of-00003.safetensors").exists())
        self.good("check", out)
        described = json.loads((out / "quant_model_description.json").read_text())
        self.assertEqual(described["model.layers.0.mlp.down_proj.weight"], "W8A8")

    def test_types(self):
        for name, flags in {"W8A8_DYNAMIC": ["--is_dynamic", "True"], "W8A8_MIX": ["--pdmix", "True"],
                            "W8A16": ["--a_bit", "16", "--w_sym", "False"]}.items():
            out = self.dir / name
            self.quantize(QWEN, out, *flags, "--use_kvcache_quant", "True", "--anti_method", "m1")
            types = self.types_of(out)
            self.assertEqual(types["model_quant_type"], name)
            self.assertEqual(types["kv_cache_type"], "C8")
            self.assertEqual(types["model.layers.0.self_attn.q_proj.weight_scale"], name)
            self.assertEqual(types["model.layers.0.self_attn.k_proj.kv_cache_scale"], "C8")
            self.assertEqual(json.loads((out / "config.json").read_text())["quantize"], name.lower())
            self.assertTrue((out / f"quant_model_weight_{name.lower()}.safetensors").exists())

    def test_outlier_suppression(self):
        anti = self.dir / "anti.jsonl"
        anti.write_text("".join(json.dumps({"inputs_pretokenized": f"Rain falls {i} times."}) + "\n" for i in range(6)))
        lists = self.dir / "anti.json"
        lists.write_text('[["Rain falls.", "It is wet outside."], ["Deep learning"]]')
        for method in "m2", "m4", "m5", "m6":
            for compat in [], ["--compat", "msmodelslim"]:
                out = self.dir / (method + "".join(compat))
                self.quantize(LLAMA, out, "--anti_method", method, "--anti_calib_file", lists if compat else anti, *compat)
                self.good("check", out)
        self.refuse_file(1, ["anti.json", "item 1"], '[["Rain"], [7]]')
        self.bad(2, ["m7", "m6"], "quantize", "--model_path", LLAMA, "--save_directory", self.dir / "x", "--anti_method", "m7")

    def refuse_file(self, code, words, text):
        (self.dir / "anti.json").write_text(text)
        self.bad(code, words, "quantize", "--model_path", LLAMA, "--save_directory", self.dir / "out", "--calib_file", CALIB,
                 "--anti_method", "m1", "--anti_calib_file", self.dir / "anti.json")

    def test_disable_threshold_and_layer_count(self):
        out = self.dir / "out"
        self.quantize(LLAMA, out, "--disable_threshold", "1000")
        self.assertEqual(self.types_of(out)["model.layers.0.mlp.down_proj.weight"], "W8A8")
        self.quantize(LLAMA, out, "--overwrite", "--disable_threshold", "0.0001")
        self.assertEqual(self.types_of(out)["model.layers.0.mlp.down_proj.weight"], "FLOAT")
        self.quantize(LLAMA, out, "--overwrite", "--layer_count", "2")
        types = self.types_of(out)
        self.assertEqual([types[f"model.layers.{i}.mlp.down_proj.weight"] for i in (0, 1, 2)], ["FLOAT", "FLOAT", "W8A8"])

    def test_outputs(self):
        out = self.dir / "out"
        out.mkdir()
        (out / "precious.txt").write_text("keep me")
        args = ["quantize", "--model_path", LLAMA, "--save_directory", out, "--calib_file", CALIB]
        self.bad(2, ["out", "--overwrite"], *args)
        self.assertEqual((out / "precious.txt").read_text(), "keep me")
        self.bad(2, ["something other than a model", "precious.txt"], *args, "--overwrite")
        self.assertEqual((out / "precious.txt").read_text(), "keep me")
        (out / "precious.txt").unlink()
        self.good(*args)
        self.good(*args, "--overwrite")
        self.good("check", out)
        self.bad(2, "not a folder", "quantize", "--model_path", LLAMA, "--save_directory", "/dev/null/out", "--calib_file", CALIB)

    def test_a_full_standard_output_is_a_failure(self):
        text = self.dir / "text.jsonl"
        text.write_text('{"text": "It rains, and the wind blows over the hills."}\n')
        for args in (["check", LLAMA, "--json"], ["check", self.dir / "none"], ["check", self.dir / "none", "--json"],
                     ["inspect", LLAMA], ["inspect", LLAMA, "--all"], ["compare", LLAMA, LLAMA], ["compare", LLAMA, QWEN],
                     ["eval", LLAMA, "--text", text, "--quiet"], ["generate", LLAMA, "--prompt", "It rains", "--max-tokens", 3],
                     ["--version"], ["eval", "--help"], ["completion", "bash"], []):
            with open("/dev/full", "w") as full:
                run = subprocess.run([OCTET, *map(str, args)], stdout=full, stderr=subprocess.PIPE, text=True)
            self.assertEqual(run.returncode, 1, args)
            self.assertEqual(len(run.stderr.splitlines()), 1, run.stderr)
            # CLI11 flushes the version itself, and keeps the reason to itself.
            self.assertIn("cannot write the output" if args == ["--version"] else "No space left", run.stderr)
        run = subprocess.run([OCTET, "inspect", str(LLAMA)], stderr=subprocess.PIPE, text=True, preexec_fn=lambda: os.close(1))
        self.assertEqual(run.returncode, 1)
        self.assertIn("cannot write the output", run.stderr)

    def test_a_standard_error_that_cannot_be_written_changes_nothing(self):
        """Full, without a reader, closed: the verb does its work, and its exit code is the same."""
        out = self.dir / "out"
        for args in (["eval", self.dir / "none", "--text", "x"], ["check", self.dir / "none"], ["inspect", "--none"], ["none"],
                     ["compare", LLAMA, self.dir / "none"], ["serve", LLAMA, "--no_enforce_eager", "--port", "x"],
                     ["quantize", LLAMA, out, "--calib_texts", "It rains, and the wind blows.", "--overwrite"]):
            expected = octet(*args).returncode
            with open("/dev/full", "w") as full:
                gone, writer = os.pipe()
                os.close(gone)
                for name, options in (("full", {"stderr": full}), ("gone", {"stderr": writer}),
                                      ("closed", {"preexec_fn": lambda: os.close(2)})):
                    run = subprocess.run([OCTET, *map(str, args)], stdout=subprocess.DEVNULL, timeout=300, **options)
                    self.assertEqual(run.returncode, expected, (args, name))
                os.close(writer)
        self.good("check", out)

    def test_neither_can_be_written(self):
        with open("/dev/full", "w") as full:
            run = subprocess.run([OCTET, "check", str(LLAMA)], stdout=full, stderr=full)
        self.assertEqual(run.returncode, 1)

    def test_which_way(self):
        """The default recipe, unless a flag wants something of the tool's way."""
        for flags, words in (([], "by the recipe octet"), (["--act_method", "1"], "by the recipe octet"),
                             (["--anti_method", "", "--disable_level", "L0"], "by the recipe octet"),
                             (["--w_sym", "True", "--is_dynamic", "False"], "by the recipe octet"),
                             (["--model_type", "llama2"], "by the recipe octet"),
                             (["--act_method", "2"], "in msModelSlim's way"), (["--anti_method", "m1"], "in msModelSlim's way")):
            table = self.good("quantize", LLAMA, self.dir / "out", "--calib_texts", "One text is enough to see it.", "--overwrite", *flags)
            self.assertIn(words, table.splitlines()[-1], flags)

    def test_the_source_is_never_overwritten(self):
        model = self.dir / "model"
        shutil.copytree(LLAMA, model)
        for out in model, model / "sub", self.dir:
            self.bad(2, ["overwrite the input", str(out)], "quantize", "--model_path", model, "--save_directory", out,
                     "--calib_file", CALIB, "--overwrite")
        self.assertTrue((model / "model.safetensors").exists())

    def test_the_current_folder_and_links_as_output(self):
        here = self.dir / "here"
        here.mkdir()
        self.good("quantize", "--model_path", LLAMA, "--save_directory", ".", "--calib_file", CALIB, cwd=here)
        self.good("check", here)
        (self.dir / "real").mkdir()
        (self.dir / "link").symlink_to("real")
        self.good("quantize", "--model_path", LLAMA, "--save_directory", self.dir / "link", "--calib_file", CALIB)
        self.good("check", self.dir / "real")

    def test_outputs_that_cannot_be(self):
        quantized, loop = self.dir / "quantized", self.dir / "loop"
        self.quantize(LLAMA, quantized)
        loop.symlink_to("loop")
        left = self.dir / "out.partial"
        left.mkdir()
        (left / "lock").touch()
        (left / "old").symlink_to(LLAMA)
        for out, words in ((loop, str(loop)), (loop / "x", str(loop)), ("/proc/octet", "/proc"), ("/proc/octet/x", "/proc"),
                           (self.dir / "out", str(left / "old"))):
            self.bad(2, words, "quantize", LLAMA, out, "--calib_texts", "It rains, and the wind blows.", "--quiet")
            self.bad(2, words, "convert", quantized, out, "--to", "msmodelslim")
        self.assertFalse((self.dir / "out").is_symlink())

    def test_weights_must_be_finite(self):
        model = self.dir / "model"
        shutil.copytree(LLAMA, model)
        weights = model / "model.safetensors"
        data = bytearray(weights.read_bytes())
        size = int.from_bytes(data[:8], "little")
        name = "model.layers.3.mlp.up_proj.weight"
        begin = json.loads(data[8:8 + size])[name]["data_offsets"][0]
        for value in 0x7FC0, 0x7F80:
            data[8 + size + begin:8 + size + begin + 2] = value.to_bytes(2, "little")
            weights.write_bytes(data)
            self.bad(1, [name, "model.safetensors", "NaN or infinite"], "quantize", "--model_path", model,
                     "--save_directory", self.dir / "out", "--calib_file", CALIB, "--overwrite", *MINDIE)
            self.assertFalse((self.dir / "out").exists())
            self.assertEqual(octet("check", model).returncode, 1)

    def test_groups_stay_together(self):
        out = self.dir / "out"
        self.quantize(LLAMA, out, "--disable_names", "model.layers.0.self_attn.k_proj", "model.layers.1.mlp.up_proj")
        self.good("check", out)
        types = json.loads((out / "quant_model_description.json").read_text())
        for name in "0.self_attn.q", "0.self_attn.k", "0.self_attn.v", "1.mlp.gate", "1.mlp.up":
            self.assertEqual(types[f"model.layers.{name}_proj.weight"], "FLOAT")
        self.assertEqual(types["model.layers.1.mlp.down_proj.weight"], "W8A8")
        self.assertEqual(types["model.layers.0.self_attn.o_proj.weight"], "W8A8")

    def test_dtype_of_a_config_without_one(self):
        for key in None, "dtype":
            model = self.dir / f"model{key}"
            shutil.copytree(LLAMA, model)
            config = json.loads((model / "config.json").read_text())
            dtype = config.pop("torch_dtype")
            if key:
                config[key] = dtype
            (model / "config.json").write_text(json.dumps(config))
            out = self.dir / f"out{key}"
            self.quantize(model, out)
            self.good("check", out)
            self.assertEqual(json.loads((out / "config.json").read_text())["torch_dtype"], "bfloat16")

    def test_a_full_disk(self):
        def limit():  # as on a full disk: writing past 1 MB fails
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        self.bad(1, "File too large", "quantize", "--model_path", LLAMA, "--save_directory", self.dir / "out", "--calib_file", CALIB, preexec_fn=limit)
        self.nothing_left()

    def test_an_interrupt_leaves_no_folder(self):  # more about it in resume_test.py
        run = subprocess.Popen([OCTET, "quantize", "--model_path", str(LLAMA), "--save_directory", str(self.dir / "out"),
                                "--calib_file", str(CALIB), *MINDIE, "--act_method", "2"], stderr=subprocess.PIPE)
        run.stderr.readline()
        run.send_signal(signal.SIGINT)
        words = run.communicate(timeout=60)[1].decode()
        self.assertEqual(run.returncode, 130)
        self.assertFalse((self.dir / "out").exists())
        self.assertEqual((self.dir / "out.partial").exists(), "--resume" in words.splitlines()[-1])


class Checkpoints(Verbs):
    def copy(self):
        model = self.dir / "model"
        shutil.copytree(LLAMA, model)
        return model

    def test_broken_models_are_named(self):
        model = self.copy()
        weights = model / "model.safetensors"
        whole = weights.read_bytes()
        for data, word in (b"", "0 bytes"), (whole[: len(whole) // 2], "cut"), (b"\xff" * 64, "header"), (b"\x02" + bytes(7) + b"{}" + b"x", "after the last"):
            weights.write_bytes(data)
            for verb in ["inspect", model], ["generate", model, "-p", "x"], ["serve", model, "--port", "0"]:
                self.bad(1, ["model.safetensors", word], *verb)
            self.assertEqual(octet("check", model).returncode, 1)
        weights.write_bytes(whole)
        config = model / "config.json"
        text = config.read_text()
        for broken, word in ("", "config.json"), ("{", "config.json"), ("[" * 100000, "config.json"), (text.replace("LlamaForCausalLM", "Mamba"), "Mamba"), (text.replace("192", "-1"), "hidden_size"), (text.replace("192", "256"), "shape"):
            config.write_text(broken)
            self.bad(1, word, "generate", model, "-p", "x")

    def test_messages_name_options_as_typed(self):
        paths = ["quantize", "--model_path", LLAMA, "--save_directory", self.dir / "x"]
        for flag in "--act_method", "--act-method", "--disable_level", "--disable-level":
            with self.subTest(flag):
                self.bad(2, f" {flag}", *paths, flag, "9")
                self.bad(2, f" {flag}", *paths, f"{flag}=9")
        self.bad(2, [" --device-type", "use --device-type cpu"], *paths, "--device-type", "npu")
        self.bad(2, [" --device_type", "use --device_type cpu"], *paths, "--device_type", "npu")
        self.bad(2, "--is_dynamic: expected True or False, found maybe", *paths, "--is_dynamic", "maybe")
        self.bad(2, "--model_pth", "quantize", "--model_pth", LLAMA)
        self.bad(2, "expected m1, m2, m3, m4, m5, m6 or nothing; found --act-method2", *paths, "--anti_method=--act-method2")
        for flag in "--model-name", "--model_name":
            run = octet(*paths, flag, "x", "--calib-file", "/nowhere")
            self.assertIn(f"octet: note: {flag} has no effect", run.stderr)
        for typed, name in (["-tp", "7"], "-tp"), (["-tp7"], "-tp"), (["-tp=7"], "-tp"), (["--tp", "7"], "--tp"), \
                (["--tensor_parallel_size=7"], "--tensor_parallel_size"), (["--tensor_par", "7"], "--tensor_par"):
            with self.subTest(typed):
                self.bad(2, [f"field {name};", "expected 1 to 6"], "serve", LLAMA, *typed)
        self.bad(2, ["field -pp;", "start with -pp 1"], "serve", LLAMA, "-pp", "2")
        for typed in "--max_num", "--max-num", "--max_num=3":
            joint = typed[5]  # candidates are spelled as what was typed
            names = [name.replace("-", joint) for name in ("num-seqs", "num-batched-tokens")]
            self.bad(2, f"octet: error: {typed.split('=')[0]} could be --max{joint}{names[0]}, --max{joint}{names[1]}", "serve", LLAMA, typed)
        self.bad(2, "field -q;", "serve", LLAMA, "-q", "fp8")
        self.assertIn("octet: note: -O has no effect", octet("serve", LLAMA, "-O3", "-q", "fp8").stderr)
        self.assertIn("--no_enforce_eager has no effect", octet("serve", LLAMA, "--no_enforce_eager", "-q", "fp8").stderr)

    def test_missing_things(self):
        self.bad(1, "nowhere", "inspect", self.dir / "nowhere")
        self.bad(2, ["MODEL", "--model_path"], "quantize")
        self.bad(2, "nothing to evaluate", "eval", LLAMA)
        self.bad(2, ["--max-tokens", "2048"], "eval", LLAMA, "--text", ROOT / "models/text.jsonl", "--max-tokens", 100000000)
        self.bad(2, "vocabular", "eval", LLAMA, QWEN, "--text", ROOT / "models/text.jsonl")
        self.bad(2, "quantized", "quantize", "--model_path", self.quantized(), "--save_directory", self.dir / "x", "--calib_file", CALIB)
        self.bad(1, "none.gguf", "convert", "--from-gguf", self.dir / "none.gguf", "--out", self.dir / "y")
        garbage = self.dir / "garbage.gguf"
        garbage.write_bytes(b"GGUF" + os.urandom(100))
        self.bad(1, "garbage.gguf", "convert", "--from-gguf", garbage, "--out", self.dir / "y")
        self.assertFalse((self.dir / "y").exists())

    def quantized(self):
        out = self.dir / "w8a8"
        if not out.exists():
            self.quantize(LLAMA, out)
        return out

    def test_inspect_names_every_tensor(self):
        listed = json.loads(self.good("inspect", LLAMA, "--json"))
        self.assertEqual(listed["layers"], 6)
        self.assertEqual(len(listed["tensors"]), 6 * 9 + 3)
        self.assertIn("layers.*.mlp.up_proj.weight", self.good("inspect", LLAMA))
        self.assertIn("model.layers.5.mlp.up_proj.weight", self.good("inspect", LLAMA, "--all"))

    def test_check_explains(self):
        out = self.quantized()
        description = out / "quant_model_description.json"
        types = json.loads(description.read_text())
        del types["model.norm.weight"]
        types["model.layers.2.mlp.up_proj.weight"] = "FLOAT"
        description.write_text(json.dumps(types))
        run = octet("check", out, "--json")
        self.assertEqual(run.returncode, 1)
        findings = json.loads(run.stdout)["findings"]
        self.assertIn("disagree", findings[0]["problem"])


class Types(Verbs):
    """Every quantization type, as msModelSlim writes it."""

    def folder(self, case):
        golden, out = ROOT / "tests/golden/llama_fp16", self.dir / case
        shutil.copytree(golden / f"out_{case}", out)
        shutil.copy(golden / "model/config.json", out)
        for file in LLAMA.glob("token*.json"):
            shutil.copy(file, out)
        return out

    def test_all_are_read_and_computed(self):
        for case, words in {"w8a8_dynamic": "W8A8_DYNAMIC: ", "pdmix": "W8A8_MIX: ", "w8a16": "W8A16: ",
                            "w8a16_asym": "W8A16: ", "kv8": "W8A8, int8 KV cache: "}.items():
            out = self.folder(case)
            self.assertIn(words, self.good("inspect", out))
            self.assertIn("good", self.good("check", out))
            self.assertIn("decode", self.good("bench", "offline", out, "--prompt", 8, "--output", 4, "--repeat", 1))

    def test_the_checkpoint_decides_about_an_int8_cache(self):
        words = ["--kv-cache-dtype", "C8"]
        self.bad(2, words, "serve", self.folder("kv8"), "--port", 0, "--kv-cache-dtype", "bfloat16")
        self.bad(2, words, "serve", LLAMA, "--port", 0, "--kv-cache-dtype", "int8")


class Others(Verbs):
    def test_help_and_version(self):
        self.assertRegex(self.good("--version"), r"octet \d+\.\d+\.\d+")
        text = self.good("--help")
        for verb in "quantize serve chat generate eval report compare inspect check convert bench completion".split():
            self.assertIn(verb, text)
            self.assertIn("--help", self.good(verb, "--help"))
        self.assertEqual(octet().returncode, 2)
        self.bad(2, "nonsense", "nonsense")

    def test_generate_and_chat(self):
        expected = json.loads((LLAMA / "expected.json").read_text())["greedy"][1]
        self.assertEqual(self.good("generate", LLAMA, "-p", expected["prompt"], "--temperature", 0, "--max-tokens", 16),
                         self.good("generate", LLAMA, "-p", "-", "--temperature", 0, "--max-tokens", 16, stdin=expected["prompt"]))
        answer = self.good("chat", QWEN, "--temperature", 0, stdin="What's Deep Learning?\n/exit\n")
        self.assertIn("learning", answer)
        run = octet("chat", QWEN, "--temperature", 0, stdin="\udcff\nWhat's Deep Learning?\n", errors="surrogateescape")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("UTF-8", run.stderr)
        self.assertEqual(run.stdout, answer)
        self.bad(2, "-p", "generate", LLAMA, "-p", "")
        self.bad(2, "max-model-len", "generate", LLAMA, "-p", "x", "--max-model-len", 10**9)

    def test_bench(self):
        self.good("bench", "make-model", "--shape", "qwen2.5-0.5b", "--layers", 1, "--out", self.dir / "random", "--quiet")
        self.good("check", self.dir / "random")
        self.good("bench", "make-model", "--shape", "qwen2.5-0.5b", "--layers", 1, "--out", self.dir / "random", "--quiet",
                  "--overwrite", "--type", "W8A8_MIX", "--int8-kv")
        self.assertIn("good", self.good("check", self.dir / "random"))
        self.bad(2, "--type", "bench", "make-model", "--shape", "qwen2.5-0.5b", "--out", self.dir / "x", "--type", "W4A4")
        self.assertIn("decode", self.good("bench", "offline", LLAMA, "--prompt", 8, "--output", 4, "--repeat", 1))
        plan = json.loads(self.good("plan", LLAMA, "--tp", 3, "--hosts", 2, "--host", "100,1000,500,64", "--network", "1,20", "--json"))
        self.assertEqual((plan["ranks"], plan["hosts"]), (3, 2))
        # Two sums a layer, of 192 floats: on a host of two ranks, between two hosts, on the host again.
        seconds = (2e-6 + 768 * 2 / 100e9) + (20e-6 + 768 / 1e9) + (2e-6 + 768 / 100e9)
        self.assertAlmostEqual(plan["decode_seconds"]["sums over the ranks"], (2 * 6 + 1) * seconds)
        self.assertEqual(plan["host"]["memory"], 100e9)
        self.assertIn("measured here", self.good("plan", "--model", LLAMA))
        large = json.loads(self.good("plan", "--shape", "llama-2-70b", "--host", "100,1000,500,64", "--json"))
        linears = 80 * 8192 * (2 * 8192 + 2 * 1024 + 3 * 28672)
        # Head and embedding in float16, and the head in int8 with 16 bytes an output.
        self.assertEqual(large["weights_a_rank"], linears + 2 * 2 * 32000 * 8192 + 32000 * (8192 + 16))
        qwen3 = json.loads(self.good("plan", "--shape", "qwen3-0.6b", "--host", "100,1000,500,64", "--json"))
        # 16 heads of 128, wider together than the states; a head that is the embedding is there once, and in int8.
        linears = 28 * 1024 * (2 * 2048 + 2 * 1024 + 3 * 3072)
        self.assertEqual(qwen3["weights_a_rank"], linears + 2 * 151936 * 1024 + 151936 * (1024 + 16))
        self.good("bench", "make-model", "--shape", "qwen3-0.6b", "--layers", 1, "--out", self.dir / "random", "--quiet",
                  "--overwrite", "--type", "W8A8")
        self.assertIn("good", self.good("check", self.dir / "random"))
        one = json.loads(self.good("plan", LLAMA, "--threads", 1, "--json"))
        self.assertEqual(one["threads"], 1)
        self.assertIn("measured here with --threads 1", self.good("plan", LLAMA, "--threads", 1))
        self.bad(2, ["--threads", "--host"], "plan", LLAMA, "--threads", 60000)
        self.bad(2, ["--threads", "--host"], "plan", LLAMA, "--threads", 1, "--host", "100,1000,500,64")
        self.bad(2, "--shape", "plan")
        self.bad(2, "--type goes with --shape", "plan", LLAMA, "--type", "W8A8")
        self.bad(2, "llama-2-70b", "plan", "--shape", "llama-2")
        for flag in "--network", "--host":
            self.bad(2, [flag, "1;2"], "plan", LLAMA, flag, "1;2")
        self.bad(2, "1 to 6", "plan", LLAMA, "--tp", 7)
        limits = self.good("bench", "machine", "--rounds", 1, "--mebibytes", 8)
        for word in ("int8 Gop/s", "float Gflop/s", "read GB/s", "ref"):
            self.assertIn(word, limits)
        self.bad(2, "--rounds", "bench", "machine", "--rounds", 0)
        small = ["bench", "attention", "--tokens", 3, "--position", 150, "--head-dim", 16, "--rounds", 1]
        self.assertIn("bf16", self.good(*small, "--heads", 2, "--kv-heads", 1))
        self.bad(2, "--kv-heads", *small, "--heads", 3, "--kv-heads", 2)
        self.bad(2, "at least 1", *small, "--heads", 2, "--kv-heads", 0)
        self.bad(2, "512", "bench", "attention", "--head-dim", 514)
        self.assertIn("GEMV", self.good("bench", "kernels", "--tokens", 8, "-n", 64, "-k", 64, "--rounds", 1))
        self.bad(2, "--shape", "bench", "make-model", "--shape", "gpt-5", "--out", self.dir / "x")

    def test_serve_says_what_more_ranks_would_give(self):
        # A machine of hwloc's own, of which the first two CPUs may be used.
        if {0, 1} - os.sched_getaffinity(0):
            self.skipTest("one CPU")
        run = octet("serve", "/no/such", env={**os.environ, "HWLOC_SYNTHETIC": "numa:2 core:1 pu:1", "HWLOC_THISSYSTEM": "1"})
        self.assertIn("2 NUMA nodes: --tp 2", run.stderr)

    def test_serve_refuses(self):
        self.bad(2, ["--tp", "8", "1 to 6"], "serve", f"--model={LLAMA}", "--served-model-name", "m", "--enforce-eager",
                 "--distributed_executor_backend", "ray", "--tp", "8", "--port", "12345")
        self.bad(2, "-tp", "serve", LLAMA, "-tp", "7")
        self.bad(2, "--quantization", "serve", LLAMA, "--quantization", "fp8")
        self.bad(2, "--enable-lora", "serve", LLAMA, "--enable-lora")
        self.bad(2, "--no-such-flag", "serve", LLAMA, "--no-such-flag")
        self.bad(2, "--max-model-len", "serve", LLAMA, "--max-model-len", "many")
        self.bad(2, "--model", "serve")
        for words, *flags in (["--max-model-len", "--max-model-len", "0.5"], ["/nope", "--generation-config", "/nope"],
                              ["--allowed-origins", "--allowed-origins", "["], ["top_p", "--override-generation-config", '{"top_p": 0}'],
                              ["JSON", "--override-generation-config", "{"], ["--logprobs-mode", "--logprobs-mode", "raw_logits"],
                              ["--scheduling-policy", "--scheduling-policy", "priority"], ["--tensor-parallel", "--tensor-parallel", "7"],
                              ["--max-num-seqs", "--max", "3"]):
            self.bad(2, words, "serve", LLAMA, "--port", "0", *flags)
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))
            taken.listen()
            self.bad(1, [str(taken.getsockname()[1]), "port"], "serve", LLAMA, "--port", taken.getsockname()[1])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
