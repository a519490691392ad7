"""src/eval/testdata/eval.json: what `octet eval` is compared with.

    python -m tools.eval_golden

Of the tiny models, by transformers in float32: the perplexity of a long text in sliding windows, and the log
likelihoods of multiple-choice answers with the border between question and answer where lm-eval draws it. Of a model
in tests/golden and its quantized forms, by w8a8_sim: decibels at every linear. And a bootstrap interval by numpy.
"""

import json
import math
import pathlib

import numpy
import torch
import transformers
from tokenizers import Tokenizer

from tools import w8a8_sim as sim

ROOT = pathlib.Path(__file__).resolve().parent.parent
WINDOW, STRIDE, TEXTS = 48, 20, 6
CASES = ["minmax", "m1", "w8a8_dynamic", "w8a16"]
SCALED_INPUT, SCALED_OUTPUT = ("o_proj", "down_proj"), ("v_proj", "up_proj")
QUESTIONS = [
    {"query": "Rain is water that", "choices": ["falls.", "burns", "learns to speak"], "gold": 0},
    {"query": "Deep learning is ", "choices": ["a kind of machine learning", "a lake", "nothing"], "gold": 1},
    {"query": "Question: can it rain?\nAnswer:", "choices": ["yes", "no", "perhaps – who knows?"], "gold": 2},
]


@torch.no_grad()
def log_probs(model, ids):
    return model(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def sliding(model, ids):
    """Perplexity: every token but the first is predicted once, by the first window that holds it."""
    loss, done = 0.0, 1
    for begin in range(0, len(ids), STRIDE):
        end = min(begin + WINDOW, len(ids))
        found = log_probs(model, ids[begin:end])
        for at in range(done, end):
            loss -= found[at - begin - 1, ids[at]].item()
        done = end
        if end == len(ids):
            break
    return math.exp(loss / (len(ids) - 1))


def likelihoods(model, tokenizer, question):
    context, sums = question["query"], []
    stripped = context.rstrip()
    for choice in question["choices"]:
        answer = context[len(stripped):] + " " + choice
        before = tokenizer.encode(stripped).ids
        after = tokenizer.encode(stripped + answer).ids[len(before):]
        found = log_probs(model, before + after)
        sums.append(sum(found[len(before) + i - 1, token].item() for i, token in enumerate(after)))
    return sums


def of_tiny_models():
    lines = (ROOT / "models/text.jsonl").read_text(encoding="utf-8").splitlines()[:TEXTS]
    text = "\n\n".join(json.loads(line)["inputs_pretokenized"] for line in lines)
    result = {"text": text, "window": WINDOW, "stride": STRIDE, "questions": QUESTIONS}
    for name in "llama3_tiny_bf16", "qwen2_tiny_fp16", "qwen3_tiny_bf16":
        folder = ROOT / "models" / name
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        ids = tokenizer.encode(text).ids
        result[name] = {"tokens": len(ids), "perplexity": sliding(model, ids),
                        "likelihoods": [likelihoods(model, tokenizer, q) for q in QUESTIONS]}
    return result


class Watched:
    """A linear that remembers what went through it."""

    def __init__(self, inner, name, seen):
        self.inner, self.name, self.seen = inner, name, seen

    def __call__(self, x):
        y = self.inner(x)
        self.seen[self.name] = (x, y, self.inner)
        return y


@torch.no_grad()
def run_watched(folder, ids):
    seen, states = {}, {}
    x = folder.need("model.embed_tokens.weight")[torch.tensor(ids)].float()
    for index in range(folder.config["num_hidden_layers"]):
        layer, name = sim.Layer(folder, index), f"model.layers.{index}"
        for part in "qkvo":
            inner = getattr(layer.attention, part)
            setattr(layer.attention, part, Watched(inner, f"{name}.self_attn.{part}_proj", seen))
        for part in "gate", "up", "down":
            setattr(layer, part, Watched(getattr(layer, part), f"{name}.mlp.{part}_proj", seen))
        states[f"{name}.self_attn"] = (x, layer.before_attention)
        after = x + layer.attention(layer.before_attention(x))
        states[f"{name}.mlp"] = (after, layer.before_mlp)
        x = after + layer.down(torch.nn.functional.silu(layer.gate(layer.before_mlp(after))) *
                               layer.up(layer.before_mlp(after)))
    return seen, states


def decibels(reference, other, scaled=False):
    reference, other = reference.double(), other.double()
    if scaled:
        reference = reference * ((reference * other).sum(0) / (reference * reference).sum(0))
    noise = (other - reference).pow(2).sum().item()
    return 200.0 if noise == 0 else 10 * math.log10(reference.pow(2).sum().item() / noise)


def rounded(linear, x):
    if isinstance(linear, sim.StaticLinear):
        levels = (torch.round(x / linear.scale) + linear.offset).clamp(-128, 127)
        return (levels - linear.offset) * linear.scale
    if isinstance(linear, sim.DynamicLinear):
        scale = x.abs().amax(-1, keepdim=True) / 127
        return torch.round(x / scale) * scale
    return None


def noise_of(model, case):
    base = ROOT / "tests/golden" / model
    ids = json.loads((base / "calib_tokens.json").read_text())[0]
    float_seen, float_states = run_watched(sim.Folder(base / "model"), ids)
    seen, states = run_watched(sim.Folder(base / f"out_{case}", base / "model"), ids)
    linears = []
    for name, (x, y, linear) in seen.items():
        kind, block = name.split(".")[-1], name.rsplit(".", 1)[0]
        x_float, y_float, _ = float_seen[name]
        if kind not in SCALED_INPUT:  # the float stream's state, normalized as the quantized model does it
            x_float = states[block][1](float_states[block][0])
        row = {"name": name, "input": decibels(x_float, x, kind in SCALED_INPUT),
               "output": decibels(y_float, y, kind in SCALED_OUTPUT)}
        grid = rounded(linear, x)
        if grid is not None:
            row["rounding"] = decibels(x, grid)
        linears.append(row)
    return {"tokens": ids, "linears": linears}


def bootstrap():
    """Percentiles of 1000 draws by numpy's Mersenne Twister, its 32 bits scaled to the number of passages."""
    numerators, denominators = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0], [10.0, 7.0, 8.0, 2.0, 9.0, 11.0, 3.0]
    twister = numpy.random.MT19937()
    twister._legacy_seeding(0)
    ratios = []
    for _ in range(1000):
        drawn = [int(twister.random_raw()) * len(numerators) >> 32 for _ in numerators]
        ratios.append(sum(numerators[i] for i in drawn) / sum(denominators[i] for i in drawn))
    low, high = numpy.percentile(ratios, [2.5, 97.5])
    return {"numerators": numerators, "denominators": denominators, "low": float(low), "high": float(high)}


def main():
    torch.set_num_threads(1)
    golden = of_tiny_models() | {"noise": {case: noise_of("llama_fp16", case) for case in CASES}, "bootstrap": bootstrap()}
    out = ROOT / "src/eval/testdata/eval.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    print(out.relative_to(ROOT), out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
