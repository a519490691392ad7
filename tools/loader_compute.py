"""What Ascend's loaders compute from a quantized folder, in numpy: linears by their documented formulas, with the
tensors sliced as tensor parallelism slices them, and the whole model. Used by loader_walk.py; shares no code with Octet.
"""

import json
import math

import numpy

# Ranks add up float64 sums in another order: far below this, relative to the layer's largest output.
RANK_TOLERANCE = 1e-9
ROWS = ("self_attn.o_proj", "mlp.down_proj")  # row-parallel: sliced along the inputs


class Shapes:
    """Outputs, inputs and bias of a decoder layer's linears."""

    def __init__(self, config):
        self.hidden, self.inter = config["hidden_size"], config["intermediate_size"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.size = config.get("head_dim") or self.hidden // self.heads
        self.q, self.kv = self.heads * self.size, self.kv_heads * self.size
        self.qk_norm = config["model_type"] == "qwen3"  # of every head, before rope
        qkv = config["model_type"] == "qwen2" or bool(config.get("attention_bias"))
        o, mlp = (config["model_type"] == "llama" and bool(config.get(key)) for key in ("attention_bias", "mlp_bias"))
        self.linears = {"self_attn.q_proj": (self.q, self.hidden, qkv), "self_attn.k_proj": (self.kv, self.hidden, qkv),
                        "self_attn.v_proj": (self.kv, self.hidden, qkv), "self_attn.o_proj": (self.hidden, self.q, o),
                        "mlp.gate_proj": (self.inter, self.hidden, mlp), "mlp.up_proj": (self.inter, self.hidden, mlp),
                        "mlp.down_proj": (self.hidden, self.inter, mlp)}

    def ranks_possible(self, tp):
        kv = self.kv_heads % tp == 0 or tp % self.kv_heads == 0
        return self.heads % tp == 0 and kv and self.inter % tp == 0


def decode_deq(values):
    """deq_scale as float32: an int64 holds the bits of one."""
    if values.dtype == numpy.int64:
        return (values & 0xFFFFFFFF).astype(numpy.uint32).view(numpy.float32)
    return values.astype(numpy.float32)


class Linear:
    """One rank's part of a linear. `prefill`: whether W8A8_MIX takes its per-token side."""

    def __init__(self, folder, name, tp=1, rank=0, prefill=True):
        self.scheme = folder.types.get(f"{name}.weight", "FLOAT")
        if self.scheme == "W8A8_MIX":
            self.scheme = "W8A8_DYNAMIC" if prefill else "W8A8"
        module = name.split(".", 3)[-1]
        self.rows, self.first = module in ROWS, rank == 0
        shapes = Shapes(folder.config)

        def tensor(part, axis=None):
            stored = folder.tensors.get(f"{name}.{part}")
            if stored is None:
                return None
            values = decode_deq(stored.values) if part == "deq_scale" else stored.values
            values = values.astype(numpy.float64)
            if axis is None or tp == 1:
                return values
            if module in ("self_attn.k_proj", "self_attn.v_proj") and shapes.kv_heads < tp:  # heads are repeated
                return numpy.split(values, shapes.kv_heads, axis)[rank * shapes.kv_heads // tp]
            return numpy.split(values, tp, axis)[rank]

        per_output = None if self.rows else 0
        self.weight = tensor("weight", 1 if self.rows else 0)
        self.bias = tensor("bias", per_output)
        if self.scheme == "W8A8":
            self.scale, self.offset = tensor("input_scale")[0], tensor("input_offset")[0]
            self.quant_bias, self.deq = tensor("quant_bias", per_output), tensor("deq_scale", per_output)
        elif self.scheme != "FLOAT":
            self.weight_scale = tensor("weight_scale", per_output).reshape(-1)
            offset = tensor("weight_offset", per_output)
            if self.scheme == "W8A16":
                self.weight = (self.weight - offset) * self.weight_scale[:, None]

    def __call__(self, x, token_scale=None):
        """x [tokens, this rank's inputs]. `token_scale` [tokens, 1]: of whole rows, when x is a slice of them."""
        if self.scheme == "W8A8":
            xq = numpy.clip(numpy.rint(x / numpy.float64(self.scale)) + self.offset, -128, 127)
            return (xq @ self.weight.T + (self.quant_bias if self.first or not self.rows else 0)) * self.deq
        bias = self.bias if self.bias is not None and (self.first or not self.rows) else 0
        if self.scheme != "W8A8_DYNAMIC":
            return x @ self.weight.T + bias
        if token_scale is None:
            token_scale = row_scale(x)
        xq = numpy.clip(numpy.rint(x / token_scale), -127, 127)
        return xq @ self.weight.T * self.weight_scale * token_scale + bias


class CompressedLinear:
    """A linear of compressed-tensors: int8 inputs per tensor or per token, a float bias added at the end."""

    def __init__(self, folder, name, *unused, **also_unused):
        def tensor(part):
            stored = folder.tensors.get(f"{name}.{part}")
            return None if stored is None else stored.values.astype(numpy.float64)
        self.divisor = folder.divisor
        self.weight, self.bias = tensor("weight"), tensor("bias")
        self.weight_scale, self.scale, self.zero = tensor("weight_scale"), tensor("input_scale"), tensor("input_zero_point")

    def __call__(self, x, token_scale=None):
        bias = 0 if self.bias is None else self.bias
        if self.weight_scale is None:
            return x @ self.weight.T + bias
        zero = 0 if self.zero is None else self.zero
        scale = row_scale(x, self.divisor) if self.scale is None else self.scale
        xq = numpy.clip(numpy.rint(x / scale) + zero, -128, 127) - zero
        return xq @ self.weight.T * scale * self.weight_scale.reshape(-1) + bias


class CompressedFolder:
    """A folder of compressed-tensors as Model takes folders. `divisor`: of max|x|, for scales per token."""

    def __init__(self, path, tensors, divisor=127):
        self.config = json.loads((path / "config.json").read_text())
        self.tensors, self.divisor, self.types, self.int8_kv = tensors, divisor, {}, False
        self.linear = CompressedLinear


def row_scale(x, divisor=127):
    return numpy.maximum(numpy.abs(x).max(-1, keepdims=True) / divisor, 1e-30)


class Norm:
    def __init__(self, folder, name):
        def tensor(part):
            found = folder.tensors.get(f"{name}.{part}") or folder.tensors.get(f"{name}.module.{part}")
            return None if found is None else found.values.astype(numpy.float64)
        self.weight, self.bias, self.eps = tensor("weight"), tensor("bias"), folder.config["rms_norm_eps"]

    def __call__(self, x):
        y = x / numpy.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weight
        return y if self.bias is None else y + self.bias


def rope_table(config, size, length):
    nested = config.get("rope_parameters") or {}
    theta = config.get("rope_theta") or nested.get("rope_theta", 10000.0)
    scaling = config.get("rope_scaling") or nested
    f = 1.0 / theta ** (numpy.arange(0, size, 2) / size)
    if scaling.get("rope_type", scaling.get("type", "default")) == "llama3":
        turns = scaling["original_max_position_embeddings"] * f / (2 * math.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        blend = numpy.clip((turns - low) / (high - low), 0, 1)
        f = f / scaling["factor"] * (1 - blend) + f * blend
    angles = numpy.arange(length)[:, None] * f
    return numpy.cos(angles), numpy.sin(angles)


def turn(x, cos, sin):
    a, b = numpy.split(x, 2, -1)
    return numpy.concatenate((a * cos - b * sin, b * cos + a * sin), -1)


class RankLayer:
    """One rank's part of a decoder layer; the sums over ranks are the caller's."""

    def __init__(self, folder, layer, tp=1, rank=0, prefill=True):
        shapes = self.shapes = Shapes(folder.config)
        name = f"model.layers.{layer}."
        linear = getattr(folder, "linear", Linear)
        self.linears = {m: linear(folder, name + m, tp, rank, prefill) for m in shapes.linears}
        self.heads, self.kv_heads = shapes.heads // tp, max(1, shapes.kv_heads // tp)
        self.qk_norms = [Norm(folder, f"{name}self_attn.{m}_norm") for m in "qk"] if shapes.qk_norm else []
        self.cache = {}
        if folder.int8_kv:
            for m in "kv":
                t = [folder.tensors[f"{name}self_attn.{m}_proj.kv_cache_{part}"].values.astype(numpy.float64)
                     .reshape(shapes.kv_heads, 1, shapes.size) for part in ("scale", "offset")]
                first = rank * self.kv_heads if tp <= shapes.kv_heads else rank * shapes.kv_heads // tp
                self.cache[m] = [part[first:first + self.kv_heads] for part in t]

    def attended(self, x, rope):
        """x: the normalized input [tokens, hidden] -> [tokens, this rank's heads * size]."""
        def heads(y, count):
            return y.reshape(len(y), count, self.shapes.size).transpose(1, 0, 2)
        q, k, v = (heads(self.linears[f"self_attn.{m}_proj"](x), count)
                   for m, count in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads)))
        if self.qk_norms:
            q, k = self.qk_norms[0](q), self.qk_norms[1](k)
        q, k = turn(q, *rope), turn(k, *rope)
        if self.cache:
            k, v = (self.through_cache(m, y) for m, y in (("k", k), ("v", v)))
        k, v = (numpy.repeat(y, self.heads // self.kv_heads, 0) for y in (k, v))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(self.shapes.size)
        scores[:, numpy.triu(numpy.ones(scores.shape[1:], bool), 1)] = -numpy.inf
        weights = numpy.exp(scores - scores.max(-1, keepdims=True))
        out = weights / weights.sum(-1, keepdims=True) @ v
        return out.transpose(1, 0, 2).reshape(len(x), -1)

    def through_cache(self, m, y):
        scale, offset = self.cache[m]
        return (numpy.clip(numpy.rint(y / scale + offset), -128, 127) - offset) * scale

    def activated(self, x):
        gate, up = self.linears["mlp.gate_proj"](x), self.linears["mlp.up_proj"](x)
        return gate / (1 + numpy.exp(-gate)) * up


class Layer:
    """A decoder layer on `tp` ranks."""

    def __init__(self, folder, layer, tp=1, prefill=True):
        name = f"model.layers.{layer}."
        self.norms = Norm(folder, name + "input_layernorm"), Norm(folder, name + "post_attention_layernorm")
        self.ranks = [RankLayer(folder, layer, tp, rank, prefill) for rank in range(tp)]

    def __call__(self, x, rope):
        h = self.norms[0](x)
        x = x + self.reduced("self_attn.o_proj", [rank.attended(h, rope) for rank in self.ranks])
        h = self.norms[1](x)
        return x + self.reduced("mlp.down_proj", [rank.activated(h) for rank in self.ranks])

    def reduced(self, module, parts):
        """The all-reduce. A scale per token is taken over whole rows, so that every number of ranks rounds alike."""
        scale = row_scale(numpy.concatenate(parts, -1))
        return sum(rank.linears[module](part, scale) for rank, part in zip(self.ranks, parts))


class Model:
    def __init__(self, folder, prefill=True):
        self.folder, self.prefill = folder, prefill
        self.layers = folder.config["num_hidden_layers"]

    def logits(self, tokens):
        folder = self.folder
        embedding = folder.tensors["model.embed_tokens.weight"].values
        x = embedding[tokens].astype(numpy.float64)
        rope = rope_table(folder.config, Shapes(folder.config).size, len(tokens))
        for layer in range(self.layers):
            x = Layer(folder, layer, prefill=self.prefill)(x, rope)
        x = Norm(folder, "model.norm")(x)
        if "lm_head.weight" in folder.tensors:
            return getattr(folder, "linear", Linear)(folder, "lm_head", prefill=self.prefill)(x)
        return x @ embedding.astype(numpy.float64).T


def check_ranks(folder, sizes, tokens=8, layers=None):
    """{tp: {"error": the largest difference from one rank, relative; None where tp is impossible, "words"}}.
    `layers`: so many of them, from the first on; None: all."""
    shapes, result = Shapes(folder.config), {}
    rng = numpy.random.default_rng(1)
    x = rng.normal(size=(tokens, shapes.hidden))
    rope = rope_table(folder.config, shapes.size, tokens)
    sides = (True, False) if any(t == "W8A8_MIX" for t in folder.types.values()) else (True,)
    for tp in sizes:
        if not shapes.ranks_possible(tp):
            result[tp] = {"error": None, "words": "its heads or channels cannot be shared out evenly"}
            continue
        error = 0.0
        for prefill in sides:
            for layer in range(layers or folder.config["num_hidden_layers"]):
                one = Layer(folder, layer, prefill=prefill)(x, rope)
                error = max(error, numpy.abs(Layer(folder, layer, tp, prefill)(x, rope) - one).max() / numpy.abs(one).max())
        result[tp] = {"error": float(error), "words": f"largest difference from one rank {error:.1e}"}
    return result
