"""An independent calibration of a golden model in torch, in float32, or with products, norms and powers in float64.

    python -m tools.calibration_reference CASE [--float64]      CASE: minmax, hist, auto, m1 to m6, m6_fixed
    python -m tools.calibration_reference all                   writes tests/data/calibration_float64.json

Quantizes tests/golden/llama_fp16 sample by sample with error feedback as docs/quantization.md describes and prints each
linear's input scale beside the real msModelSlim's (out_CASE), with the relative difference. In float64 it shows
which of the tool's values depend on float32 rounding: `all` writes those linears' float64 scales and offsets, the exceptions
of src/quant/quantizer_test.cc.
"""
import argparse
import json
import math
import pathlib

import torch
from safetensors.torch import load_file

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "tests/golden/llama_fp16"
OUT = GOLDEN.parents[1] / "data/calibration_float64.json"
EPS = 1.1920929e-07
BINS, PARTS = 2048, 128


def parameters(lo, hi):
    zero = torch.zeros(())
    lo, hi = torch.minimum(lo, zero), torch.maximum(hi, zero)
    scale = torch.clamp((hi - lo) / 255, min=EPS)
    return scale, torch.round(-lo / scale) - 128


class MinMax:
    """Means over samples of each sample's extremes."""

    def __init__(self):
        self.samples, self.lo, self.hi = 0, torch.zeros(()), torch.zeros(())

    def observe(self, x):
        self.samples += 1
        self.lo = self.lo + (x.min() - self.lo) / self.samples
        self.hi = self.hi + (x.max() - self.hi) / self.samples
        return parameters(self.lo, self.hi)


class Histogram:
    """A histogram merged sample by sample, and a search for the range with the least squared error."""

    def __init__(self):
        self.bins = None

    def merge(self, x):
        lo, hi = x.min(), x.max()
        if self.bins is None:
            self.bins = torch.histc(x, BINS, min=int(lo), max=int(hi))
        else:
            lo, hi = torch.minimum(lo, self.lo), torch.maximum(hi, self.hi)
            part = (self.hi - self.lo) / (BINS * PARTS)
            step = int(torch.ceil((hi - lo) / (part * BINS)).item())
            hi = hi + (part * BINS * step - (hi - lo))
            start = int(torch.round((self.lo - lo) / part).item())
            fresh = torch.histc(x, BINS, min=int(lo), max=int(hi))
            if lo == self.lo and hi == self.hi:
                self.bins = self.bins + fresh
            else:
                fine = torch.zeros(BINS * step)
                fine[start:start + BINS * PARTS] = self.bins.repeat_interleave(PARTS)
                mass = torch.cumsum(fine, 0, dtype=torch.double)[step - 1::step]
                self.bins = fresh + (torch.diff(mass, prepend=mass.new_zeros(1)) / PARTS).float()
        self.lo, self.hi = lo, hi

    def error(self, first, last):
        width = (self.hi - self.lo).item() / BINS
        level = width * (last - first + 1) / 256
        if level == 0:
            return 0.0
        begin = (torch.arange(BINS).double() - first) * width
        end = begin + width
        low = torch.clamp(torch.floor(begin / level), 0, 255)
        high = torch.clamp(torch.floor(end / level), 0, 255)
        density = self.bins.double() / width

        def integral(a, b):
            return density * (b**3 - a**3) / 3
        half = torch.full_like(begin, level / 2)
        return (integral(begin - (low + .5) * level, half) + (high - low - 1) * integral(-half, half)
                + integral(-half, end - (high * level + level / 2))).sum().item()

    def observe(self, x):
        self.merge(x.flatten())
        total, mass = self.bins.sum().item(), torch.cumsum(self.bins, 0).tolist()
        alpha, beta, first, last, best = 0.0, 1.0, 0, BINS - 1, math.inf
        while alpha < beta:
            next_alpha, next_beta = alpha + 1e-5, beta - 1e-5
            left, right = first, last
            while left < last and mass[left] < next_alpha * total:
                left += 1
            while right > first and mass[right] > next_beta * total:
                right -= 1
            candidate = (first, last)
            if left - first > last - right:
                candidate, alpha = (left, last), next_alpha
            else:
                candidate, beta = (first, right), next_beta
            if candidate == (first, last):
                continue
            error = self.error(*candidate)
            if error > best:
                break
            best, (first, last) = error, candidate
        width = (self.hi - self.lo) / BINS
        return parameters(self.lo + width * first, self.lo + width * (last + 1))


def rounded(w):
    scale = torch.clamp(w.abs().amax(1, keepdim=True) / 127, min=EPS)
    return torch.clamp(torch.round(w / scale), -127, 127) * scale


def power_scale(x, weights):
    w = torch.stack([w.abs().amax(0) for w in weights]).amax(0).clamp(min=1e-5)
    return torch.clamp(x.abs().amax(0)**.6 / w**.3, min=1e-5)


def awq_scale(x, weights):
    least, best = math.inf, None
    for step in range(20):
        s = torch.clamp(x.abs().mean(0)**(step / 20), min=1e-4)
        s = s / torch.sqrt(s.max() * s.min())
        loss = sum((x @ (rounded(w * s) / s - w).T).pow(2).mean().item() for w in weights)
        if loss < least:
            least, best = loss, s
    return best


class Model:
    def __init__(self, case, float64):
        self.float64 = float64
        self.config = json.loads((GOLDEN / "model/config.json").read_text())
        self.state = {}
        for file in (GOLDEN / "model").glob("*.safetensors"):
            self.state.update({k: v.float() for k, v in load_file(file).items()})
        if case == "m6_fixed" or (case == "m3" and float64):
            self.smooth(case)
        elif case.startswith("m") and case != "minmax":
            smoothed = load_file(GOLDEN / f"anti_{case}_fp32_state.safetensors")
            self.state.update({k.replace(".module.", "."): v.float() for k, v in smoothed.items()})
        observer = Histogram if case in ("hist", "auto") else MinMax
        self.linears = {}
        for name, w in self.state.items():
            if name.endswith("proj.weight"):
                self.linears[name[:-7]] = [observer(), rounded(w), None]

    def smooth(self, case):
        """m6 with alpha .6 and beta .3, o_proj left out, or m3: their scales here, not the tool's float32 ones."""
        inputs = {}

        def float_linear(name, x):
            inputs.setdefault(name, []).append(x)
            w = self.state[name + ".weight"]
            return (x.double() @ w.double().T).float() if self.float64 else torch.nn.functional.linear(x, w)
        quantized, self.linear = self.linear, float_linear
        for ids in json.loads((GOLDEN / "calib_tokens.json").read_text()):
            self.forward(ids)
        self.linear = quantized
        groups = [("self_attn.q_proj self_attn.k_proj self_attn.v_proj", "input_layernorm"),
                  ("mlp.gate_proj mlp.up_proj", "post_attention_layernorm"), ("mlp.down_proj", "mlp.up_proj")]
        scales = {}
        for layer in range(self.config["num_hidden_layers"]):
            for targets, source in groups[:2] if case == "m3" else groups:
                targets = [f"model.layers.{layer}.{t}" for t in targets.split()]
                x, weights = inputs[targets[0]], [self.state[t + ".weight"] for t in targets]
                if self.float64:
                    x, weights = [v.double() for v in x], [w.double() for w in weights]
                scale = awq_scale(x[0], weights) if case == "m3" else power_scale(torch.cat(x), weights)
                scales[f"model.layers.{layer}.{source}.weight"] = targets, scale.float()
        for source, (targets, s) in scales.items():
            for t in targets:
                self.state[t + ".weight"] = self.state[t + ".weight"] * s
            self.state[source] = self.state[source] / (s[:, None] if source.endswith("proj.weight") else s)

    def linear(self, name, x):
        observer, weight, _ = self.linears[name]
        scale, offset = self.linears[name][2] = observer.observe(x)
        x = (torch.clamp(torch.round(x / scale + offset), -128, 127) - offset) * scale
        return (x.double() @ weight.double().T).float() if self.float64 else torch.nn.functional.linear(x, weight)

    def norm(self, name, x):
        if self.float64:
            x = x.double()
            return (self.state[name + ".weight"] * x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])).float()
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return self.state[name + ".weight"] * x

    def forward(self, ids):
        heads, kv, size = (self.config[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
        count = len(ids)
        angle = torch.arange(count).float()[:, None] / self.config["rope_theta"]**(torch.arange(0, size, 2).float() / size)
        cos, sin = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()

        def rope(x):
            return x * cos + torch.cat((-x[..., size // 2:], x[..., :size // 2]), -1) * sin
        mask = torch.full((count, count), -math.inf).triu(1)
        x = self.state["model.embed_tokens.weight"][ids]
        for layer in range(self.config["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            h = self.norm(p + "input_layernorm", x)
            q, k, v = (self.linear(p + f"self_attn.{n}_proj", h).view(count, -1, size).transpose(0, 1) for n in "qkv")
            q, k = rope(q), rope(k)
            k, v = k.repeat_interleave(heads // kv, 0), v.repeat_interleave(heads // kv, 0)
            a = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(size) + mask, -1) @ v
            x = x + self.linear(p + "self_attn.o_proj", a.transpose(0, 1).reshape(count, -1))
            h = self.norm(p + "post_attention_layernorm", x)
            gate = torch.nn.functional.silu(self.linear(p + "mlp.gate_proj", h))
            x = x + self.linear(p + "mlp.down_proj", gate * self.linear(p + "mlp.up_proj", h))


CASES = ["minmax", "hist", "auto", "m1", "m2", "m3", "m4", "m5", "m6", "m6_fixed"]


def calibrate(case, float64):
    """Of each linear: its name, its scale and offset, and the real tool's."""
    model = Model(case, float64)
    for ids in json.loads((GOLDEN / "calib_tokens.json").read_text()):
        model.forward(ids)
    want = load_file(GOLDEN / f"out_{case}/quant_model_weight_w8a8.safetensors")
    return [(name, (scale.item(), int(offset)), (want[name + ".input_scale"].item(), int(want[name + ".input_offset"])))
            for name, (_, _, (scale, offset)) in model.linears.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES + ["all"])
    parser.add_argument("--float64", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.case == "all":
        exceptions = {case: {name: own for name, own, tool in calibrate(case, True)
                             if abs(own[0] / tool[0] - 1) > 1e-5 or own[1] != tool[1]} for case in CASES}
        OUT.write_text(json.dumps({case: linears for case, linears in exceptions.items() if linears}, indent=1) + "\n")
        return
    for name, (scale, offset), (tool_scale, tool_offset) in calibrate(args.case, args.float64):
        print(f"{name:40} {scale:.9g} {tool_scale:.9g} {abs(scale / tool_scale - 1):.1e} {offset} {tool_offset}")


if __name__ == "__main__":
    main()
