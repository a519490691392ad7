"""What a server says with a tokenizer in the manner of Llama 2: words carry the space before them, which its decoder
drops at the start of a text, and characters outside the vocabulary are bytes. And how texts end by the tokens of
tokenizer and config.json.

    python tests/server/text_test.py build/release/octet
"""

import json
import pathlib
import shutil
import tempfile
import unittest
import urllib.request

import serving

HELLO, WORLD, BANG, BYTES = 0, 1, 2, 3


def tokenizer():
    vocabulary = {"\u2581hello": HELLO, "\u2581world": WORLD, "!": BANG}
    vocabulary.update({f"<0x{byte:02X}>": BYTES + byte for byte in range(256)})
    merges = []  # of "world" behind a space alone
    for word in "\u2581hello", "\u2581world":
        for end in range(1, len(word)):
            merges.append([word[:end], word[end]])
            for piece in word[:end], word[end]:
                vocabulary.setdefault(piece, len(vocabulary))
    steps = [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
             {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return {"version": "1.0", "added_tokens": [], "pre_tokenizer": None, "post_processor": None,
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            "decoder": {"type": "Sequence", "decoders": steps},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": merges, "byte_fallback": True}}


class Asking:
    def choice(self, prompt, tokens, **more):
        """The answer when these are the only tokens allowed."""
        body = {"prompt": prompt, "max_tokens": len(tokens), "temperature": 0, "add_special_tokens": False,
                "ignore_eos": True, "allowed_token_ids": tokens, **more}
        request = urllib.request.Request(self.url + "/v1/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["choices"][0]


class EndTokens(Asking, unittest.TestCase):
    def test_only_the_tokenizers_own_eos_is_no_stop_reason(self):
        """Also where config.json names another one first."""
        _, self.url = serving.start(self.addCleanup, model=serving.LLAMA)
        config = json.loads((serving.LLAMA / "config.json").read_text())
        first, own = config["eos_token_id"]
        tokens = json.loads((serving.LLAMA / "tokenizer.json").read_text())["added_tokens"]
        names = {token["id"]: token["content"] for token in tokens}
        own_name = json.loads((serving.LLAMA / "tokenizer_config.json").read_text())["eos_token"]
        self.assertEqual(names[own], own_name)
        for token, reason in (own, None), (first, first):
            ended = self.choice("Hi", [token], max_tokens=4, ignore_eos=False)
            self.assertEqual((ended["finish_reason"], ended["stop_reason"]), ("stop", reason), names[token])


class Text(Asking, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        model = pathlib.Path(cls.folder.name) / "model"
        shutil.copytree(serving.LLAMA, model)
        (model / "tokenizer.json").write_text(json.dumps(tokenizer()))
        (model / "tokenizer_config.json").write_text("{}")
        _, cls.url = serving.start(cls.addClassCleanup, model=model)

    def test_the_first_word_keeps_its_space(self):
        self.assertEqual(self.choice([HELLO], [WORLD])["text"], " world")
        self.assertEqual(self.choice([HELLO], [WORLD], echo=True)["text"], "hello world")
        stopped = self.choice([HELLO], [WORLD], stop=[" world"])
        self.assertEqual((stopped["text"], stopped["stop_reason"]), ("", " world"))

    def test_a_character_that_the_prompt_ends_in(self):
        first, second, third = (BYTES + byte for byte in "\u4f60".encode())
        self.assertEqual(self.choice([HELLO, first, second], [third])["text"], "\u4f60")
        self.assertEqual(self.choice([HELLO, first, second], [third], echo=True)["text"], "hello\u4f60")
        self.assertEqual(self.choice([HELLO, first, second, third, first, second], [third])["text"], "\u4f60")
        # Cut again, it is not shown.
        self.assertEqual(self.choice([HELLO], [first])["text"], "")

    def test_names_and_offsets(self):
        scores = self.choice([HELLO, BYTES + 0xC3, BYTES + 0xA4], [WORLD], echo=True, logprobs=2)["logprobs"]
        self.assertEqual(scores["tokens"], ["hello", "", "\u00e4", " world"])
        self.assertEqual(scores["text_offset"], [0, 5, 5, 6])
        self.assertIn(" world", scores["top_logprobs"][-1])

    def test_bad_words_are_kept_out_in_both_forms(self):
        """"world" is one token behind a space, and five without."""
        answer = self.choice([HELLO], [WORLD, HELLO], max_tokens=8, logit_bias={str(WORLD): 100}, bad_words=["world"])
        self.assertNotIn("world", answer["text"])
        self.assertEqual(answer["finish_reason"], "length")


if __name__ == "__main__":
    unittest.main()
