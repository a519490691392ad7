"""Independent simulation of a W8A8 checkpoint folder: judges what `octet quantize` wrote.

    python -m tools.w8a8_sim kl FLOAT_FOLDER W8A8_FOLDER --text FILE.jsonl [--passages 12] [--max-tokens 512]
    python -m tools.w8a8_sim logits FOLDER --tokens 1,2,3|FILE.json [--sample 0] --out FILE.npy|FILE.safetensors
    python -m tools.w8a8_sim golden

Shares no code with Octet or transformers. LLaMA and Qwen2, float folders and folders with W8A8, W8A8_DYNAMIC,
W8A8_MIX and W8A16 linears, with and without int8 KV cache. Float parts are computed in float32; integer products
are exact. W8A8_MIX: the first --prompt tokens (default: all) are a prompt, the others as if generated.

`kl` prints JSON: perplexity of both folders, KL(float || quant) in nats per position, share of positions with
the same most likely token. Perplexity is exp of the mean loss over all predicted tokens of all passages.
`logits` writes float32 logits [tokens, vocabulary]. A folder without config.json takes that of --config FOLDER.
`golden` writes tests/data/w8a8_logits_*.safetensors from the quantized folders of tests/golden.
"""

import argparse
import json
import math
import pathlib

import numpy
import safetensors
import safetensors.torch
import torch
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN_CASES = [("llama_fp16", "minmax"), ("llama_fp16", "m1"), ("llama_fp16", "no_last_linear_rollback"),
                ("llama_fp16", "w8a8_dynamic"), ("llama_fp16", "pdmix"), ("llama_fp16", "kv8"),
                ("llama_fp16", "w8a16"), ("llama_fp16", "w8a16_asym"),
                ("qwen2_bf16", "minmax"), ("qwen2_bf16", "m1"), ("qwen2_bf16", "w8a8_dynamic")]
# Products of two int8 are at most 2^14, so float32 sums of 2^10 of them are integers of at most 2^24: exact.
EXACT_INPUTS = 1024
DESCRIPTIONS = ["quant_model_description.json"] + [
    f"quant_model_description_{kind}.json" for kind in ("w8a8", "w8a8_dynamic", "w8a16", "w8a8_mix")]


# ---------------------------------------------------------------- the folder

class Folder:
    """A checkpoint folder: configuration, tensor types, tensors by name (read when asked for)."""

    def __init__(self, path, config_path=None, prompt=None):
        self.path = pathlib.Path(path)
        self.prompt = prompt  # leading tokens of every sequence that are its prompt; None: all
        self.config = json.loads((pathlib.Path(config_path or path) / "config.json").read_text(encoding="utf-8"))
        self.types = self._description()
        self.files = {}
        for file in sorted(self.path.glob("*.safetensors")):
            handle = safetensors.safe_open(file, framework="pt")
            for name in handle.keys():
                if name in self.files:
                    raise SystemExit(f"{self.path}: tensor {name} is in two files")
                self.files[name] = handle
        if not self.files:
            raise SystemExit(f"{self.path}: no *.safetensors files")

    def _description(self):
        for name in DESCRIPTIONS:
            if (self.path / name).exists():
                return json.loads((self.path / name).read_text(encoding="utf-8"))
        return self.config.get("quantization_config") or {}

    def type_of(self, name):
        return self.types.get(name, "FLOAT")

    def get(self, *names):
        """The first of `names` that the folder holds, as stored; None if it holds none."""
        for name in names:
            if name in self.files:
                return self.files[name].get_tensor(name)
        return None

    def need(self, *names):
        tensor = self.get(*names)
        if tensor is None:
            raise SystemExit(f"{self.path}: no tensor {' or '.join(names)}")
        return tensor

    def floats(self, *names):
        tensor = self.get(*names)
        return None if tensor is None else tensor.float()


# ---------------------------------------------------------------- linears

def exact_product(xq, wq):
    """xq [t, k] times wq [n, k] transposed; both hold whole numbers in int8's range, as float32. Returns int64."""
    acc = torch.zeros(xq.shape[0], wq.shape[0], dtype=torch.int64)
    for start in range(0, xq.shape[1], EXACT_INPUTS):
        part = slice(start, start + EXACT_INPUTS)
        acc += (xq[:, part] @ wq[:, part].T).to(torch.int64)
    return acc


def decode_scale(stored):
    """deq_scale as float32; in int64 form the low 32 bits are the float's bits."""
    if stored.dtype == torch.int64:
        return stored.to(torch.int32).view(torch.float32)
    return stored.float()


class FloatLinear:
    def __init__(self, folder, name):
        self.weight, self.bias = folder.need(f"{name}.weight").float(), folder.floats(f"{name}.bias")

    def __call__(self, x):
        return torch.nn.functional.linear(x, self.weight, self.bias)


class StaticLinear:
    """xq = sat8(rne(x / input_scale) + input_offset); y = float(xq . w + quant_bias) * deq_scale."""

    def __init__(self, folder, name):
        self.weight = folder.need(f"{name}.weight")
        if self.weight.dtype != torch.int8:
            raise SystemExit(f"{folder.path}: {name}.weight is {self.weight.dtype}, its type says int8")
        self.weight = self.weight.float()
        self.scale = folder.need(f"{name}.input_scale").float().reshape(())
        self.offset = folder.need(f"{name}.input_offset").float().reshape(())
        self.bias = folder.need(f"{name}.quant_bias").to(torch.int64)
        self.deq_scale = decode_scale(folder.need(f"{name}.deq_scale"))

    def __call__(self, x):
        xq = (torch.round(x / self.scale) + self.offset).clamp(-128, 127)
        return (exact_product(xq, self.weight) + self.bias).float() * self.deq_scale


class DynamicLinear:
    """Per token: s = max|x| / 127, xq = rne(x / s), y = (xq . w) * weight_scale * s + bias."""

    def __init__(self, folder, name):
        self.weight = folder.need(f"{name}.weight").float()
        self.weight_scale = folder.need(f"{name}.weight_scale").float().reshape(-1)
        self.bias = folder.floats(f"{name}.bias")

    def __call__(self, x):
        scale = (x.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-30)
        y = exact_product(torch.round(x / scale).clamp(-127, 127), self.weight).float() * self.weight_scale * scale
        return y if self.bias is None else y + self.bias


class MixLinear:
    """Tokens of the prompt per token, generated ones static; both with the same weights."""

    def __init__(self, folder, name):
        self.prompt = folder.prompt
        self.dynamic, self.static = DynamicLinear(folder, name), StaticLinear(folder, name)

    def __call__(self, x):
        if self.prompt is None:
            return self.dynamic(x)
        return torch.cat((self.dynamic(x[:self.prompt]), self.static(x[self.prompt:])))


class WeightOnlyLinear:
    """W8A16: weight = (w - weight_offset) * weight_scale."""

    def __init__(self, folder, name):
        offset = folder.floats(f"{name}.weight_offset")
        weight = folder.need(f"{name}.weight").float()
        weight = weight if offset is None else weight - offset.reshape(-1, 1)
        self.weight = weight * folder.need(f"{name}.weight_scale").float().reshape(-1, 1)
        self.bias = folder.floats(f"{name}.bias")

    def __call__(self, x):
        return torch.nn.functional.linear(x, self.weight, self.bias)


LINEARS = {"FLOAT": FloatLinear, "W8A8": StaticLinear, "W8A8_DYNAMIC": DynamicLinear, "W8A8_MIX": MixLinear,
           "W8A16": WeightOnlyLinear}


def make_linear(folder, name):
    kind = folder.type_of(f"{name}.weight")
    if kind not in LINEARS:
        raise SystemExit(f"{folder.path}: {name}.weight has type {kind}, known are {', '.join(LINEARS)}")
    return LINEARS[kind](folder, name)


# ---------------------------------------------------------------- the transformer

class Norm:
    """RMSNorm, with the bias that outlier suppression may have left."""

    def __init__(self, folder, name, eps):
        self.weight = folder.need(f"{name}.weight", f"{name}.module.weight").float()
        self.bias = folder.floats(f"{name}.bias", f"{name}.module.bias")
        self.eps = eps

    def __call__(self, x):
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight
        return y if self.bias is None else y + self.bias


def llama3_frequencies(frequencies, scaling):
    """Llama 3's long-context scaling: slow waves are slowed by `factor`, fast ones stay, between them a blend."""
    length = scaling["original_max_position_embeddings"]
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    turns = length * frequencies / (2 * math.pi)
    blend = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies / factor * (1 - blend) + frequencies * blend


def rope_frequencies(config):
    """One angular frequency for each pair of a head's values."""
    size = head_size(config)
    nested = config.get("rope_parameters") or {}
    theta = config.get("rope_theta") or nested.get("rope_theta", 10000.0)
    scaling = config.get("rope_scaling") or nested
    frequencies = 1.0 / theta ** (torch.arange(0, size, 2, dtype=torch.int64).float() / size)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "llama3":
        return llama3_frequencies(frequencies, scaling)
    if kind == "linear":
        return frequencies / scaling["factor"]
    if kind != "default":
        raise SystemExit(f"rope type {kind!r} is not known")
    return frequencies


def head_size(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def rotate(x, cos, sin):
    """Rotary embedding of x [heads, t, size]: the value i turns with the value i + size / 2."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class CachedChannels:
    """What comes back from an int8 cache: (q - offset) * scale for q = sat8(rne(x / scale + offset)), per channel."""

    def __init__(self, folder, name):
        self.scale = folder.need(f"{name}.kv_cache_scale").float()
        self.offset = folder.need(f"{name}.kv_cache_offset").float()

    def __call__(self, x):
        """x [heads, t, size]; the channels are numbered head by head."""
        scale, offset = (z.view(x.shape[0], 1, -1) for z in (self.scale, self.offset))
        return (torch.round(x / scale + offset).clamp(-128, 127) - offset) * scale


class Attention:
    def __init__(self, folder, name):
        config = folder.config
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.size = head_size(config)
        self.q, self.k, self.v, self.o = (make_linear(folder, f"{name}.{p}_proj") for p in "qkvo")
        self.frequencies = rope_frequencies(config)
        self.cached = None
        if "C8" in (folder.types.get("kv_cache_type"), folder.types.get("kv_quant_type")):
            self.cached = [CachedChannels(folder, f"{name}.{p}_proj") for p in "kv"]

    def __call__(self, x):
        t = x.shape[0]
        q, k, v = (f(x).view(t, -1, self.size).transpose(0, 1) for f in (self.q, self.k, self.v))
        angles = torch.arange(t).float()[:, None] * self.frequencies
        q, k = (rotate(z, angles.cos(), angles.sin()) for z in (q, k))
        if self.cached:
            k, v = (cached(z) for cached, z in zip(self.cached, (k, v)))
        k, v = (z.repeat_interleave(self.heads // self.kv_heads, 0) for z in (k, v))
        scores = q @ k.transpose(1, 2) / math.sqrt(self.size)
        scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -torch.inf)
        return self.o((scores.softmax(-1) @ v).transpose(0, 1).reshape(t, -1))


class Layer:
    def __init__(self, folder, index):
        name, eps = f"model.layers.{index}", folder.config["rms_norm_eps"]
        self.before_attention = Norm(folder, f"{name}.input_layernorm", eps)
        self.attention = Attention(folder, f"{name}.self_attn")
        self.before_mlp = Norm(folder, f"{name}.post_attention_layernorm", eps)
        self.gate, self.up, self.down = (make_linear(folder, f"{name}.mlp.{p}_proj") for p in ("gate", "up", "down"))

    def __call__(self, x):
        x = x + self.attention(self.before_attention(x))
        h = self.before_mlp(x)
        return x + self.down(torch.nn.functional.silu(self.gate(h)) * self.up(h))


class Head:
    """Final norm and vocabulary projection; the projection may be tied to the embedding."""

    def __init__(self, folder):
        self.norm = Norm(folder, "model.norm", folder.config["rms_norm_eps"])
        tied = folder.config.get("tie_word_embeddings") or "lm_head.weight" not in folder.files
        if tied and "lm_head.weight" not in folder.files:
            self.project = FloatLinear(folder, "model.embed_tokens")
        else:
            self.project = make_linear(folder, "lm_head")

    def __call__(self, x):
        return self.project(self.norm(x))


@torch.no_grad()
def hidden_states(folder, sequences):
    """Residual stream after the last layer for each id sequence; one layer's weights in memory at a time."""
    table = folder.need("model.embed_tokens.weight")
    states = [table[torch.tensor(ids)].float() for ids in sequences]
    for index in range(folder.config["num_hidden_layers"]):
        layer = Layer(folder, index)
        states = [layer(x) for x in states]
    return states


@torch.no_grad()
def logits_of(folder, ids):
    """Float32 logits [t, vocabulary] of one id sequence."""
    return Head(folder)(hidden_states(folder, [ids])[0])


# ---------------------------------------------------------------- judging

def read_passages(path, tokenizer, tokens, count):
    """The first `count` passages of a JSON-lines file as id sequences cut to `tokens`."""
    sequences = []
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        ids = tokenizer.encode(item.get("inputs_pretokenized", item.get("text"))).ids[:tokens]
        if len(ids) > 1:
            sequences.append(ids)
    return sequences[:count]


def losses(log_probs, ids):
    """Negative log probability of each next token."""
    return -log_probs[:-1].gather(1, torch.tensor(ids[1:])[:, None]).squeeze(1)


@torch.no_grad()
def evaluate(float_folder, quant_folder, sequences):
    """Perplexities, KL per position, top-1 agreement."""
    heads = Head(float_folder), Head(quant_folder)
    states = hidden_states(float_folder, sequences), hidden_states(quant_folder, sequences)
    loss, kl, same, predicted, positions = [0.0, 0.0], 0.0, 0, 0, 0
    for ids, *pair in zip(sequences, *states):
        p, q = (head(x).log_softmax(-1, dtype=torch.float64) for head, x in zip(heads, pair))
        for side, log_probs in enumerate((p, q)):
            loss[side] += losses(log_probs, ids).sum().item()
        kl += (p.exp() * (p - q)).sum().item()
        same += (p.argmax(-1) == q.argmax(-1)).sum().item()
        predicted, positions = predicted + len(ids) - 1, positions + len(ids)
    return {"perplexity_float": math.exp(loss[0] / predicted), "perplexity_quant": math.exp(loss[1] / predicted),
            "kl_per_token": kl / positions, "top1_agreement": same / positions, "passages": len(sequences),
            "tokens": positions}


def count_types(folder):
    """How many linears of the decoder layers have each type."""
    counts = {}
    for name in folder.files:
        if name.startswith("model.layers.") and name.endswith("_proj.weight"):
            kind = folder.type_of(name)
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def read_tokens(text, sample):
    """Ids from "1,2,3" or from a JSON file with a list of ids or a list of such lists."""
    if not pathlib.Path(text).exists():
        return [int(i) for i in text.split(",")]
    ids = json.loads(pathlib.Path(text).read_text(encoding="utf-8"))
    return ids[sample] if isinstance(ids[0], list) else ids


def run_kl(args):
    float_folder, quant_folder = Folder(args.float), Folder(args.quant, args.config)
    tokenizer = Tokenizer.from_file(str(float_folder.path / "tokenizer.json"))
    sequences = read_passages(args.text, tokenizer, args.max_tokens, args.passages)
    result = {"linears": count_types(quant_folder)} | evaluate(float_folder, quant_folder, sequences)
    print(json.dumps(result, indent=2))


def run_logits(args):
    ids = read_tokens(args.tokens, args.sample)
    logits = logits_of(Folder(args.model, args.config, args.prompt), ids).contiguous()
    if args.out.endswith(".npy"):
        numpy.save(args.out, logits.numpy())
    else:
        safetensors.torch.save_file({"tokens": torch.tensor(ids, dtype=torch.int32), "logits": logits}, args.out)


def run_golden(args):
    """Logits of the first calibration sample from each of GOLDEN_CASES, for the test of the C++ model."""
    for model, case in GOLDEN_CASES:
        folder = ROOT / "tests" / "golden" / model
        ids = read_tokens(str(folder / "calib_tokens.json"), 0)
        prompt = len(ids) // 2  # W8A8_MIX: both halves of its arithmetic
        logits = logits_of(Folder(folder / f"out_{case}", folder / "model", prompt), ids).contiguous()
        out = ROOT / "tests" / "data" / f"w8a8_logits_{model}_{case}.safetensors"
        safetensors.torch.save_file({"tokens": torch.tensor(ids, dtype=torch.int32), "logits": logits}, out)
        out.chmod(0o644)
        print(out.relative_to(ROOT), list(logits.shape))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("kl", help="judge a quantized folder beside its float folder")
    command.add_argument("float")
    command.add_argument("quant")
    command.add_argument("--text", required=True, help="JSON lines with inputs_pretokenized or text")
    command.add_argument("--passages", type=int, default=12)
    command.add_argument("--max-tokens", type=int, default=512, help="cut each passage to this many tokens")
    command.add_argument("--config", help="folder with the config.json of the quantized folder, if it has none")
    command.set_defaults(run=run_kl)
    command = commands.add_parser("logits", help="write the logits of one id sequence")
    command.add_argument("model")
    command.add_argument("--tokens", required=True, help="comma separated ids, or a JSON file")
    command.add_argument("--sample", type=int, default=0, help="which list of the file")
    command.add_argument("--prompt", type=int, help="how many of the tokens are a prompt (W8A8_MIX); default: all")
    command.add_argument("--out", required=True)
    command.add_argument("--config", help="folder with the config.json, if the model folder has none")
    command.set_defaults(run=run_logits)
    command = commands.add_parser("golden", help="make tests/data/w8a8_logits_*.safetensors anew")
    command.set_defaults(run=run_golden)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
