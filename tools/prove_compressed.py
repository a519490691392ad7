"""Loads what `octet convert --to compressed-tensors` wrote with the real transformers and compressed-tensors packages, and
compares logits with the W8A8 folder's own.

    python -m venv .venv && .venv/bin/pip install -r tools/requirements.txt compressed-tensors==0.20.0
    .venv/bin/python tools/prove_compressed.py W8A8_FOLDER COMPRESSED_FOLDER [--tokens 64]

The W8A8 folder is computed by loader_compute.py (numpy, exact integers). The package simulates: it dequantizes weights
and inputs and multiplies floats, and its scale per token is max|x| / 127.5, while vLLM's and Ascend's kernels take 127.
`--per-token 127` lets the package take 127, too. Prints JSON: the largest difference of logits relative to the largest
logit, KL per token, positions with the same most likely token, and what from_pretrained missed or did not expect.
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


def per_token(divisor):
    """The package's scale of symmetric inputs, with another divisor than (127 - -128) / 2."""
    from compressed_tensors.quantization.utils import helpers
    from compressed_tensors.quantization.lifecycle import forward
    plain = helpers.calculate_qparams

    def scaled(min_vals, max_vals, quantization_args, *args, **kwargs):
        scale, zero = plain(min_vals, max_vals, quantization_args, *args, **kwargs)
        return (scale * (127.5 / divisor) if quantization_args.dynamic else scale), zero
    for module in (helpers, forward):
        if hasattr(module, "calculate_qparams"):
            module.calculate_qparams = scaled


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("w8a8")
    parser.add_argument("compressed")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--per-token", type=float, default=127.5)
    parser.add_argument("--text", help="a text of which the tokens are; else they are random")
    args = parser.parse_args()
    if args.per_token != 127.5:
        per_token(args.per_token)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(args.compressed, dtype=torch.float32,
                                                                    output_loading_info=True)
    folder = loader_walk.Folder(args.w8a8)
    if args.text:
        tokens = transformers.AutoTokenizer.from_pretrained(args.compressed)(args.text)["input_ids"][:args.tokens]
    else:
        tokens = numpy.random.default_rng(1).integers(0, folder.config["vocab_size"], args.tokens).tolist()
    wanted = loader_compute.Model(folder).logits(tokens)
    with torch.no_grad():
        got = model(torch.tensor([tokens])).logits[0].double().numpy()
    p, q = log_softmax(wanted), log_softmax(got)
    print(json.dumps({
        "class": type(model).__name__, "tokens": len(tokens),
        "missing": sorted(info["missing_keys"]), "unexpected": sorted(info["unexpected_keys"]),
        "largest_difference": float(abs(got - wanted).max() / abs(wanted).max()),
        "kl_per_token": float((numpy.exp(p) * (p - q)).sum(-1).mean()),
        "same_top1": float((p.argmax(-1) == q.argmax(-1)).mean()),
    }, indent=1))


if __name__ == "__main__":
    main()
