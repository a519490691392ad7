"""Loads what `octet convert --to compressed-tensors` wrote with the real transformers and compressed-tensors packages, and
compares logits with the W8A8 folder's own.

    .venv/bin/python tools/prove_compressed.py W8A8_FOLDER COMPRESSED_FOLDER [--tokens 64]

Both folders are also computed by loader_compute.py (numpy, exact integers). The package simulates: it dequantizes weights
and inputs and multiplies floats; its scale per token is max|x| / 127.5, where vLLM's and Ascend's kernels take 127.
Prints JSON: what from_pretrained missed or did not expect, and which linears of a layer it gave biases; then, against the compressed folder in numpy with the
package's 127.5 ("formulas") and against the W8A8 folder ("w8a8"): the largest difference of logits relative to the
largest logit, KL per token, and the share of positions with the same most likely token. An activation on a rounding tie
may fall either way, and all after it then differ by as much as quantization makes; so "layers" compares layer by layer,
each computed in numpy from the state that the package gave it: the median and the largest difference of a layer's
output relative to its largest value, and how many layers have a tie in them (differ by more than 1e-6).
"""

import argparse
import json
import pathlib
import sys

import numpy
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import loader_compute
import loader_walk


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))


def compare(wanted, got):
    p, q = log_softmax(wanted), log_softmax(got)
    return {"largest_difference": float(abs(got - wanted).max() / abs(wanted).max()),
            "kl_per_token": float((numpy.exp(p) * (p - q)).sum(-1).mean()),
            "same_top1": float((p.argmax(-1) == q.argmax(-1)).mean())}


def by_layer(folder, states):
    """The last state is normalized already, so the last layer is left to the logits."""
    rope = loader_compute.rope_table(folder.config, loader_compute.Shapes(folder.config).size, len(states[0]))
    differences = [float(abs(loader_compute.Layer(folder, layer)(states[layer], rope) - states[layer + 1]).max()
                         / abs(states[layer + 1]).max()) for layer in range(len(states) - 2)]
    return {"median": float(numpy.median(differences)), "largest": max(differences),
            "with_a_tie": sum(d > 1e-6 for d in differences), "all": len(differences)}


def prove(w8a8, compressed, tokens):
    """What the module's docstring says. Returns (that, log-probabilities [tokens, vocabulary] of the packages)."""
    compressed = pathlib.Path(compressed)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(compressed, dtype=torch.float32, output_loading_info=True)
    with torch.no_grad():
        out = model(torch.tensor([tokens]), output_hidden_states=True)
    got = out.logits[0].double().numpy()
    formulas = loader_compute.CompressedFolder(compressed, loader_walk.read_weights(compressed), divisor=127.5)
    return {"class": type(model).__name__, "tokens": len(tokens), "missing": sorted(info["missing_keys"]),
            "unexpected": sorted(info["unexpected_keys"]),
            "biases": sorted({name.split(".", 3)[-1] for name, _ in model.named_parameters() if name.endswith("proj.bias")}),
            "layers": by_layer(formulas, [state[0].double().numpy() for state in out.hidden_states]),
            "formulas": compare(loader_compute.Model(formulas).logits(tokens), got),
            "w8a8": compare(loader_compute.Model(loader_walk.Folder(w8a8)).logits(tokens), got)}, log_softmax(got)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("w8a8")
    parser.add_argument("compressed")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--text", help="a text of which the tokens are; else they are random")
    args = parser.parse_args()
    if args.text:
        tokens = transformers.AutoTokenizer.from_pretrained(args.compressed)(args.text)["input_ids"][:args.tokens]
    else:
        vocabulary = json.loads((pathlib.Path(args.compressed) / "config.json").read_text())["vocab_size"]
        tokens = numpy.random.default_rng(1).integers(0, vocabulary, args.tokens).tolist()
    print(json.dumps(prove(args.w8a8, args.compressed, tokens)[0], indent=1))


if __name__ == "__main__":
    main()
