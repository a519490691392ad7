"""Proves `octet convert` on a real model against gguf_reference.py, tokenizers and transformers.

    python -m tools.prove_convert MODEL.gguf [--octet build/release/octet] [--strings 4000]

1. Every tensor of the converted folder has the reference folder's bits.
2. /tokenize of a server on the converted folder gives the ids of the Python `tokenizers` for thousands of strings.
3. The server's log-probabilities of two prompts' tokens are those of transformers in float32.
"""
import argparse
import json
import pathlib
import random
import re
import subprocess
import tempfile
import urllib.request

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from tools import gguf_reference, token_cases

PROMPTS = ["What's Deep Learning? It is a part of machine learning that", "def add(a, b):\n    return a + b\n\n你好，世界 123"]


def tensors(folder):
    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as f:
            found.update({name: f.get_tensor(name) for name in f.keys()})
    return found


def same_tensors(reference, converted):
    want, got = tensors(reference), tensors(converted)
    assert want.keys() == got.keys(), sorted(want.keys() ^ got.keys())[:5]
    for name, t in want.items():
        assert t.dtype == got[name].dtype and t.shape == got[name].shape, name
        assert torch.equal(t.view(torch.int16), got[name].view(torch.int16)), name
    print(f"{len(want)} tensors: same bits")


def many_strings(count):
    rng = random.Random(5)
    texts = token_cases.strings()
    alphabet = [chr(c) for r in ((32, 127), (0xA0, 0x250), (0x370, 0x500), (0x4E00, 0x4F00), (0x1F600, 0x1F640), (0x3040, 0x30FF)) for c in range(*r)]
    while len(texts) < count // 2:
        texts.append("".join(rng.choices(alphabet, k=rng.randint(1, 60))))
    return texts + token_cases.mixtures(count - len(texts))


class Server:
    def __init__(self, octet, model):
        self.process = subprocess.Popen([octet, "serve", str(model), "--host", "127.0.0.1", "--port", "0", "--max-model-len", "2048", "--kv-cache-dtype",
                                         "float32", "--disable-uvicorn-access-log"], stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if found := re.search(r"ready at (\S+)", line):
                self.url = found.group(1)
                return
        raise SystemExit("the server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.terminate()
        self.process.communicate()

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))


def same_tokens(server, tokenizer, count):
    texts = many_strings(count)
    for text in texts:
        for special in True, False:
            want = tokenizer.encode(text, add_special_tokens=special).ids
            got = server.post("/tokenize", {"prompt": text, "add_special_tokens": special})["tokens"]
            assert want == got, (text, want, got)
    print(f"{len(texts)} strings, with and without special tokens: same ids")


def differences(server, ids, want):
    """Of the server's log-probabilities of the ids and of the five likeliest tokens from `want` [tokens, vocabulary]."""
    answer = server.post("/v1/completions", {"prompt": ids, "max_tokens": 1, "prompt_logprobs": 5})
    return [abs(float(want[position - 1, int(token)]) - value["logprob"])
            for position, entry in enumerate(answer["choices"][0]["prompt_logprobs"]) if entry
            for token, value in entry.items()]


def same_logits(server, tokenizer, folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        with torch.no_grad():
            want = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
        worst = max(differences(server, ids, want))
        assert worst < 1e-3, worst
        print(f"{len(ids)} positions, 5 or 6 log-probabilities each: largest difference from transformers {worst:.1e}")


def prove(gguf, octet, strings):
    with tempfile.TemporaryDirectory() as work:
        reference, converted = pathlib.Path(work, "reference"), pathlib.Path(work, "converted")
        gguf_reference.convert(gguf, reference)
        subprocess.run([octet, "convert", "--from-gguf", str(gguf), "--out", str(converted), "--quiet"], check=True)
        same_tensors(reference, converted)
        tokenizer = Tokenizer.from_file(str(reference / "tokenizer.json"))
        with Server(octet, converted) as server:
            same_tokens(server, tokenizer, strings)
            same_logits(server, tokenizer, reference)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    parser.add_argument("--octet", default="build/release/octet")
    parser.add_argument("--strings", type=int, default=4000)
    args = parser.parse_args()
    prove(args.gguf, args.octet, args.strings)


if __name__ == "__main__":
    main()
