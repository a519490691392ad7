"""Checkpoints as downloads, merges and exports leave them: what is read as transformers reads it, what is named with a way out."""
import json
import sys
import unittest

from testing import LLAMA, QWEN, ROOT, Model, Verbs, octet

TEXT = ROOT / "models/text.jsonl"
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


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
