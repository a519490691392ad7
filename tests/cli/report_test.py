#!/usr/bin/env python3
"""What quantization cost, from outside: `octet eval` in full, `report` and `compare`.

    tests/cli/report_test.py path/to/octet

Uses the tiny models; needs nothing but Python. The page's numbers must be those of quantization_report.json.
"""
import html.parser
import functools
import json
import pathlib
import shutil
import sys
import tempfile
import unittest

from testing import CALIB, LLAMA, QWEN, ROOT, Model, Verbs, octet

TEXT = ROOT / "models/text.jsonl"
MADE = pathlib.Path(tempfile.mkdtemp(prefix="octet_report_"))


def tearDownModule():
    shutil.rmtree(MADE)


@functools.cache
def made(model, *flags):
    """The model quantized by the default recipe, or with flags of msModelSlim's way; once for all tests."""
    out = MADE / "_".join([model.name, *flags])
    run = octet("quantize", model, out, "--calib_file", CALIB, *flags)
    assert run.returncode == 0, run.stderr
    return out


class Page(html.parser.HTMLParser):
    """Rows of all tables as lists of texts, and what a page might load."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.cell, self.loads, self.open = [], None, [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "rect", "line", "circle", "polyline"):
            self.open.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset") and not value.startswith("#")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell)
            self.cell = None
        if tag not in ("rect", "line", "circle", "polyline"):
            assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def decibels(value):
    return f"{value:.1f}" if value is not None else "–"


class Report(Verbs):
    def check_page(self, out):
        report = json.loads((out / "quantization_report.json").read_text())
        text = (out / "quantization_report.html").read_text(encoding="utf-8")
        page = Page(text)
        self.assertEqual((page.loads, page.open), ([], []))
        self.assertNotIn("<script", text)
        self.assertNotRegex(text, r"url\(|@import|https?:")
        rows = {row[0]: row for row in page.rows if row and len(row) == 8}
        for linear in report["linears"]:
            row, seen = rows[linear["name"]], linear.get("input", {})
            self.assertEqual(row[1], linear["type"])
            self.assertEqual(row[5:], [decibels(seen.get("snr")), decibels(linear.get("weight_snr")),
                                       decibels(linear.get("output_snr"))], linear["name"])
            if "clipped" in seen:
                self.assertEqual(row[4], f"{100 * seen['clipped']:.4f} %")
                self.assertEqual(row[3], f"{seen['low']:.3g} … {seen['high']:.3g}")
            if linear["type"] == "FLOAT":
                for part in linear["reason"].split(": "):
                    self.assertIn(part, text)
        self.assertEqual(text.count('<figure class="chart">'), len(report["histograms"]))
        return report, text

    def test_of_a_recipe(self):
        out = self.dir / "out"
        shutil.copytree(made(LLAMA), out)
        report, text = self.check_page(out)
        self.assertEqual(report["method"]["name"], "octet")
        self.assertEqual(len(report["linears"]), 6 * 7 + 1)
        self.assertEqual(len(report["layers"]), 6)
        self.assertEqual(len(report["histograms"]), 8)
        self.assertGreater(min(layer["state_snr"] for layer in report["layers"]), 15)
        for linear in report["linears"][:-1]:
            self.assertGreater(linear["output_snr"], 15, linear["name"])
        size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
        self.assertAlmostEqual(report["size"]["after"], size, delta=40000)  # the file's header

        # What it was made by, of and from; the recipe gives MLP channels copies.
        self.assertEqual(report["octet"], self.good("--version").split()[1])
        self.assertEqual(report["calibration"]["source"], CALIB.name)
        self.assertRegex(report["calibration"]["hash"], "^[0-9a-f]{16}$")
        grown = json.loads((out / "config.json").read_text())["intermediate_size"]
        self.assertGreater(grown, report["model"]["intermediate_size"])
        self.assertEqual(report["model"]["written_intermediate_size"], grown)
        for words in (f"<td>{report['octet']}</td>", report["calibration"]["hash"], f"<td>{CALIB.name}</td>",
                      f"<td>intermediate_size, written</td><td>{grown}</td>"):
            self.assertIn(words, text)

        # Made again: the same. Measured: the figures of `octet eval`.
        (out / "quantization_report.html").unlink()
        self.assertIn("quantization_report.html", self.good("report", out))
        self.assertEqual((out / "quantization_report.html").read_text(encoding="utf-8"), text)
        self.good("report", out, "--float", LLAMA, "--text", TEXT, "--passages", 8, "--quiet")
        report, text = self.check_page(out)
        found = json.loads(self.good("eval", LLAMA, out, "--text", TEXT, "--passages", 8, "--json", "--quiet"))[1]
        self.assertEqual(report["measured"]["models"][1]["kl"], found["kl"])
        self.assertEqual(report["measured"]["passages"], 8)
        self.assertIn(f"{found['kl']:.5f}<br><small class=\"soft\">[", text)
        self.assertIn(f"{found['perplexity']:.3f}", text)
        self.good("check", out)

    def test_of_the_tools_way(self):
        out = self.dir / "out"
        self.quantize(QWEN, out, "--anti_method", "m1", "--disable_level", "L2")
        report, text = self.check_page(out)
        self.assertEqual(report["method"]["settings"]["anti_method"], "m1")
        self.assertNotIn("written_intermediate_size", report["model"])
        self.assertIn("What stayed in float", text)
        for linear in report["linears"]:
            self.assertEqual("output_snr" in linear, linear["type"] == "W8A8", linear)

        # The same again, but for the time; and measured at once.
        again = self.dir / "again"
        self.quantize(QWEN, again, "--anti_method", "m1", "--disable_level", "L2", "--report_text", TEXT,
                      "--report_passages", 4)
        other, text = self.check_page(again)
        self.assertIn(f"{other['measured']['models'][1]['kl']:.5f}", text)
        del other["measured"]
        self.assertEqual({**report, "seconds": 0}, {**other, "seconds": 0})
        self.bad(2, "--report_text", "quantize", "--model_path", QWEN, "--save_directory", self.dir / "x", "--calib_file", CALIB,
                 "--compat", "msmodelslim", "--report_text", TEXT)

    def test_without_calibration_and_without_a_report(self):
        for flags in (["--is_dynamic", "True"], ["--a_bit", "16"], ["--pdmix", "True"]):
            out = self.dir / flags[0].strip("-")
            calib = [] if flags[0] == "--pdmix" else ["--calib_file", "none"]
            self.quantize(LLAMA, out, *calib, *flags)
            self.check_page(out)
        out = self.dir / "compat"
        self.quantize(LLAMA, out, "--compat", "msmodelslim")
        self.assertEqual(list(out.glob("quantization_report*")), [])
        self.bad(1, ["no report", "compat"], "report", out)
        self.bad(1, ["nonesuch: is not a folder"], "report", self.dir / "nonesuch")
        for flag in "--passages", "--max-tokens", "--window", "--stride":
            self.bad(2, f"{flag} goes with --text", "report", out, flag, 8)
        self.bad(2, "--report-passages goes with --report-text", "quantize", LLAMA, self.dir / "x", "--report-passages", 8)
        self.bad(2, ["--float", "--text"], "report", out, "--text", TEXT)
        (out / "quantization_report.json").write_text('{"version": 1}')
        self.bad(1, ["report is broken", "quantization_report.json"], "report", out)


class Eval(Verbs):
    def test_json(self):
        out = made(LLAMA, "--act_method", "2")
        choices = self.dir / "choices.jsonl"
        questions = json.loads((ROOT / "src/eval/testdata/eval.json").read_text())["questions"]
        choices.write_text("".join(json.dumps(q) + "\n" for q in questions))
        yes_no = self.dir / "yesno.jsonl"
        yes_no.write_text("".join((ROOT / "models/yesno.jsonl").read_text().splitlines(True)[:10]))
        flags = ["--text", TEXT, "--passages", 5, "--yes-no", yes_no, "--choices", choices, "--layers", "--quiet"]
        result = json.loads(self.good("eval", LLAMA, out, LLAMA, *flags, "--json"))
        reference, quantized, same = result
        for model in result:
            self.assertEqual([model[key] for key in ("text", "passages", "max_tokens")], [TEXT.name, 5, 512])
            self.assertEqual(model["tokens"], reference["tokens"])
            self.assertNotIn("window", model)
        self.assertEqual([reference["kl"], reference["top5"], reference["largest_logit_error"]], [0, 1, 0])
        self.assertNotIn("kl_interval", reference)
        self.assertEqual([same["kl"], same["perplexity_ratio"], same["largest_logit_error"]], [0, 1, 0])
        self.assertEqual({linear["output"] for linear in same["layers"]}, {200})
        for key in "perplexity", "perplexity_ratio", "kl", "top1", "top5", "yes_no", "acc", "acc_norm":
            low, high = quantized[key + "_interval"]
            self.assertLessEqual(low, quantized[key] + 1e-12)
            self.assertGreaterEqual(high, quantized[key] - 1e-12)
        self.assertGreater(quantized["largest_logit_error"], 0)
        # Two of three questions are right in the golden likelihoods, by both rules.
        golden = json.loads((ROOT / "src/eval/testdata/eval.json").read_text())["llama3_tiny_bf16"]["likelihoods"]
        right = [max(range(3), key=sums.__getitem__) == q["gold"] for q, sums in zip(questions, golden)]
        self.assertAlmostEqual(reference["acc"], sum(right) / 3)
        right = [max(range(3), key=lambda i: sums[i] / len(q["choices"][i])) == q["gold"] for q, sums in zip(questions, golden)]
        self.assertAlmostEqual(reference["acc_norm"], sum(right) / 3)
        table = self.good("eval", LLAMA, out, *flags)
        self.assertIn(f"{TEXT.name}: 5 passages of at most 512 tokens; {reference['tokens']} tokens predicted", table)
        for words in "KL per token", "same top-5", "largest logit error", "choices acc_norm", "signal-to-noise in dB", "[":
            self.assertIn(words, table)

    def test_layers_of_a_rotated_model(self):
        """Channels that a recipe rotates, scales and copies are brought back to those of the float model."""
        for model in LLAMA, QWEN:
            layers = json.loads(self.good("eval", model, made(model), "--text", TEXT, "--passages", 4, "--layers", "--json",
                                          "--quiet"))[1]["layers"]
            self.assertEqual(len(layers), 7 * json.loads((model / "config.json").read_text())["num_hidden_layers"])
            for linear in layers:
                for key in "input", "output":
                    self.assertGreater(linear[key], 15, linear)
            # Before the first linear only the embedding was rounded again.
            self.assertGreater(layers[0]["input"], 45)

    def test_windows(self):
        text = "\n".join(json.loads(line)["inputs_pretokenized"] for line in TEXT.read_text().splitlines()[:8])
        file = self.dir / "long.txt"
        file.write_text(text)
        flags = ["--text", file, "--json", "--quiet"]
        cut = json.loads(self.good("eval", LLAMA, *flags, "--max-tokens", 100))[0]
        self.assertEqual(cut["tokens"], 99)
        self.assertNotIn("perplexity_interval", cut)
        whole = json.loads(self.good("eval", LLAMA, *flags, "--window", 64))[0]
        wide = json.loads(self.good("eval", LLAMA, *flags, "--window", 256, "--stride", 64))[0]
        self.assertEqual(whole["tokens"], wide["tokens"])
        self.assertLess(wide["perplexity"], whole["perplexity"])
        self.assertIn("perplexity_interval", whole)
        # All but the first token are predicted; windows that begin every 64 tokens until one holds the last of them.
        tokens = whole["tokens"] + 1
        windows = 1 + max(0, -(-(tokens - 256) // 64))
        which = {"text": "long.txt", "passages": 1, "window": 256, "stride": 64, "windows": windows}
        self.assertEqual({key: wide[key] for key in which}, which)
        self.assertNotIn("max_tokens", wide)
        self.assertEqual(whole["stride"], 32)
        table = self.good("eval", LLAMA, "--text", file, "--window", 256, "--stride", 64, "--quiet")
        self.assertIn(f"long.txt: 1 passage in {windows} windows of 256 tokens, stride 64; {tokens - 1} tokens predicted", table)

    def test_questions(self):
        """BoolQ as it is published reads like the same questions in one string; figures say of how many they are."""
        ours = [json.loads(line) for line in (ROOT / "models/yesno.jsonl").read_text().splitlines()[:6]]
        published = []
        for q in ours:
            passage, question = q["inputs_pretokenized"].removesuffix("?\nAnswer:").split("\nQuestion: ")
            title, passage = passage.split(" -- ", 1)
            published.append({"question": question, "title": title, "answer": q["answer"] == "yes", "passage": passage})
        found = []
        for name, questions in ("ours.jsonl", ours), ("published.jsonl", published):
            file = self.dir / name
            file.write_text("".join(json.dumps(q) + "\n" for q in questions))
            table = self.good("eval", LLAMA, "--yes-no", file, "--quiet")
            self.assertIn(f"\n{name}: 6 yes/no questions\n", table)
            self.assertIn("[low, high]: 95 %", table)
            found.append(json.loads(self.good("eval", LLAMA, "--yes-no", file, "--json", "--quiet"))[0]["yes_no"])
        self.assertEqual(found[0], found[1])
        choices = self.dir / "one.jsonl"
        choices.write_text(json.dumps({"query": "Is it?", "choices": ["yes", "no"], "gold": 0}))
        table = self.good("eval", LLAMA, "--choices", choices, "--quiet")
        self.assertIn("\none.jsonl: 1 multiple-choice question\n", table)
        self.assertNotIn("[low, high]", table)  # one question has no interval
        self.bad(2, "--window goes with --text", "eval", LLAMA, "--choices", choices, "--window", 8)

    def test_wrong_input(self):
        self.bad(2, "nothing to evaluate on", "eval", LLAMA)
        self.bad(2, "--layers", "eval", LLAMA, "--text", TEXT, "--layers")
        self.bad(2, "--stride", "eval", LLAMA, "--text", TEXT, "--stride", 8)
        self.bad(2, ["--stride", "at most 8"], "eval", LLAMA, "--text", TEXT, "--window", 8, "--stride", 9)
        self.bad(2, ["context", "--window"], "eval", LLAMA, "--text", TEXT, "--window", 10**6)
        file = self.dir / "x.jsonl"
        file.write_text('{"text": "good"}\n{"other": 1}\n')
        self.bad(1, ["no passage for --text", "line 2"], "eval", LLAMA, "--text", file)
        self.bad(1, ["no question", "line 1"], "eval", LLAMA, "--choices", file)
        file.write_text("")
        self.bad(1, ["--text", "empty"], "eval", LLAMA, "--text", file)
        self.bad(1, "no questions", "eval", LLAMA, "--yes-no", file)
        file.write_text(json.dumps({"query": "a " * 600, "choices": ["a", "b"], "gold": 0}))
        self.bad(1, ["--max-tokens", "question 1"], "eval", LLAMA, "--choices", file)


class Compare(Verbs):
    def test_same_and_different(self):
        out = made(LLAMA, "--act_method", "2")
        self.assertIn("the same", self.good("compare", LLAMA, LLAMA))
        run = octet("compare", LLAMA, out)
        self.assertEqual(run.returncode, 1, run.stderr)
        for words in "model.layers.0.mlp.up_proj.weight", "only in B", "lowest SNR", "config.json differs":
            self.assertIn(words, run.stdout)
        run = octet("compare", LLAMA, out, "--json")
        found = json.loads(run.stdout)
        self.assertFalse(found["equal"])
        report = json.loads((out / "quantization_report.json").read_text())
        weights = {tensor["name"]: tensor for tensor in found["tensors"]}
        for linear in report["linears"]:
            if linear["type"] == "W8A8":  # rounding alone lies between the two
                self.assertAlmostEqual(weights[linear["name"] + ".weight"]["snr"], linear["weight_snr"], delta=0.01)
        self.assertEqual(octet("compare", LLAMA, self.dir / "none").returncode, 2)
        self.bad(2, "is not a folder", "compare", LLAMA, self.dir / "none")

    def test_a_value_that_is_no_number(self):
        name = "model.layers.3.mlp.up_proj.weight"
        model = Model(LLAMA, self.dir / "model")
        dtype, shape, data = model.tensors[name]
        model.tensors[name] = (dtype, shape, b"\xc0\x7f" + data[2:])
        folder = model.write()
        for pair in (LLAMA, folder), (folder, LLAMA):
            run = octet("compare", *pair)
            self.assertEqual(run.returncode, 1, run.stderr)
            self.assertIn("not all finite", run.stdout)
            self.assertNotIn("same values", run.stdout)
            found = json.loads(octet("compare", *pair, "--json").stdout)
            self.assertFalse(found["equal"])
            tensor = next(t for t in found["tensors"] if t["name"] == name)
            self.assertEqual(tensor["result"], "other values, not all finite")
            self.assertNotIn("largest", tensor)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
