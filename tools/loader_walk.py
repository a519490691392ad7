"""Walks a quantized folder as the loaders of vLLM-Ascend and MindIE would, without an NPU, and computes what they compute.

    python tools/loader_walk.py FOLDER [--tp 1,2,4,8] [--json] [--tokens 1,2,3 --logits FILE.npy]

Written from a reading of those loaders, not from Octet, with which it shares no code. Needs numpy only. Exit code 0: it
loads (a line for each loader that takes it; warnings aside), 1: it does not, or it would be computed wrongly without a
word.

Which loaders are asked depends on the layout, as layouts and loaders come from different years:
  current   quant_model_description.json           vLLM-Ascend, MindIE's runtime (Qwen only), MindIE ATB
  page      complete quantization_config only      vLLM-Ascend, MindIE ATB
  mindie    quant_model_description_TYPE.json, a partial quantization_config, or wrapped norms   MindIE ATB
MindIE is not asked about a quantized head, which it does not have; msModelSlim's own simulation, which goes by the
description, always is. Scales per token in a float16 model are a warning: MindIE computes them, vLLM-Ascend's matrix
product refuses scales in float16. A folder is good when every loader that is asked takes it. With --tp, the tensors are sliced for each rank, every layer
is computed rank by rank, and the ranks together must give what one rank alone gives.
"""

import argparse
import json
import pathlib
import struct
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import loader_compute

TYPES = {"W8A8": ("static",), "W8A8_DYNAMIC": ("dynamic",), "W8A8_MIX": ("static", "dynamic"), "W8A16": ("dynamic",)}
PER_TOKEN = "W8A8_DYNAMIC", "W8A8_MIX"  # the latter at least for prompts
SUFFIXES = ["quant_model_description.json"] + [f"quant_model_description_{kind}.json" for kind in
                                               ("w8a8", "w8a8_mix", "w8a8s", "w8a8sc", "w8a8_dynamic", "w8a16")]
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
         "U8": "u1", "BOOL": "?"}
FLOATS = ("F32", "F16", "BF16")
FUSED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj",
         "up_proj": "gate_up_proj"}


class Broken(Exception):
    """A loader ends here."""


def read_json(path):
    return json.loads(path.read_text())  # of a key that occurs twice the last value counts, as in all of them


class Tensor:
    def __init__(self, dtype, shape, data):
        self.dtype, self.shape = dtype, tuple(shape)
        raw = numpy.frombuffer(data, NUMPY[dtype]).reshape(self.shape)
        self.values = (raw.astype(numpy.uint32) << 16).view(numpy.float32) if dtype == "BF16" else raw


def read_safetensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: Tensor(t["dtype"], t["shape"], data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]])
            for name, t in header.items()}


def read_weights(folder):
    """As vLLM: every *.safetensors file, but only those that a model.safetensors.index.json names, when there is one."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        named = set(read_json(index)["weight_map"].values())
        files = [file for file in files if file.name in named]
    if not files:
        raise Broken("no weight file is found (a model.safetensors.index.json of another model hides them)")
    tensors = {}
    for file in files:
        for name, tensor in read_safetensors(file).items():
            if name in tensors:
                raise Broken(f"{name}: the tensor is in two files")
            tensors[name] = tensor
    return tensors


class Folder:
    """Configuration, description and tensors, and the layout they are in."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.config = read_json(self.path / "config.json")
        self.find_description()
        self.tensors = read_weights(self.path)
        if not isinstance(self.config.get("torch_dtype"), str):
            raise Broken("config.json has no torch_dtype: deq_scale cannot be told")
        self.bf16 = self.config["torch_dtype"] == "bfloat16"
        if any(name.endswith("norm.module.weight") and name.replace(".module", "") not in self.tensors
               for name in self.tensors):
            self.layout = "mindie"  # wrapped norms
        self.int8_kv = any(source.get(key) == "C8" for source in (self.types, self.dictionary)
                           for key in ("kv_cache_type", "kv_quant_type"))

    def find_description(self):
        self.dictionary = self.config.get("quantization_config") or {}
        complete = any("." in key for key in self.dictionary)
        if self.dictionary.get("quant_method"):
            raise Broken(f"quantization_config is for {self.dictionary['quant_method']}")
        files = [file for file in sorted(self.path.glob("*.json")) if file.name.endswith(tuple(SUFFIXES))]
        if len(files) > 1:
            raise Broken("more than one quantization description")
        if not files and not complete:
            raise Broken("no quantization description")
        if not files:
            self.layout, self.types = "page", self.dictionary
            return
        self.types = read_json(files[0])
        current = files[0].name == SUFFIXES[0]
        self.layout = "current" if current and (complete or not self.dictionary) else "mindie"
        if complete:  # vLLM-Ascend reads the one, MindIE the other
            for name in set(self.types) | set(self.dictionary):
                if "." in name and self.types.get(name) != self.dictionary.get(name):
                    raise Broken(f"{name}: config.json and the description disagree")


class Walk:
    """One loader's way through the folder. Problems are (tensor, words)."""

    def __init__(self, folder, loader):
        self.folder, self.loader, self.problems, self.used = folder, loader, [], set()
        self.shapes = loader_compute.Shapes(folder.config)

    def run(self):
        c = self.folder.config
        self.float_module("model.embed_tokens", (c["vocab_size"], c["hidden_size"]))
        for layer in range(c["num_hidden_layers"]):
            self.layer(f"model.layers.{layer}.")
        self.norm("model.norm")
        self.head((c["vocab_size"], c["hidden_size"]))
        self.leftovers()
        return self.problems

    def problem(self, name, words, only=None):
        if only is None and self.loader != "msmodelslim" or only and self.loader in only:
            self.problems.append((name, words))

    def scheme(self, prefix):
        """The type of a module by its .weight entry; None, with a problem, if there is none."""
        word = self.folder.types.get(f"{prefix}.weight")
        if word is None:
            self.problem(f"{prefix}.weight", "KeyError: the description has no entry for it")
        elif word != "FLOAT" and word not in TYPES:
            self.problem(f"{prefix}.weight", f"unknown type {word}")
            word = None
        return word

    def take(self, name, kind, shape, needed=True):
        """The stored tensor goes into a parameter of `kind`: converted by value, never by bits."""
        self.used.add(name)
        tensor = self.folder.tensors.get(name)
        if tensor is None:
            if needed:
                self.problem(name, "the parameter is never filled")
            return None
        if tensor.shape != tuple(shape):
            self.problem(name, f"shape {list(tensor.shape)}, the parameter has {list(shape)}")
            return None
        is_float = tensor.dtype in FLOATS
        if kind == "float" and not is_float:
            self.problem(name, f"{tensor.dtype} is read as numbers of the model's type")
        elif kind == "int8" and tensor.dtype != "I8":
            self.problem(name, f"{tensor.dtype} is cut to int8")
        elif kind == "int32" and tensor.dtype != "I32":
            self.problem(name, f"{tensor.dtype} is cut to int32")
        elif kind == "deq" and tensor.dtype != ("F32" if self.folder.bf16 else "I64"):
            self.problem(name, f"{tensor.dtype} does not fit torch_dtype: its values are converted, not its bits")
        elif kind == "offset" and not is_float and tensor.dtype != "I8":
            self.problem(name, f"{tensor.dtype} is no offset")
        elif is_float and not numpy.isfinite(tensor.values).all():
            self.problem(name, "holds NaN or infinity")
        else:
            return tensor
        return None

    def positive(self, tensor, name):
        if tensor is not None and not (tensor.values > 0).all():
            self.problem(name, "a scale that is not positive")

    def float_module(self, prefix, shape, bias=None):
        scheme = self.scheme(prefix)
        if scheme not in (None, "FLOAT"):
            self.problem(f"{prefix}.weight", f"{scheme}: no loader has a quantized module here")
        self.take(f"{prefix}.weight", "float", shape)

    def norm(self, prefix, size=None):
        shape = (size or self.folder.config["hidden_size"],)
        wrapped = f"{prefix}.weight" not in self.folder.tensors and f"{prefix}.module.weight" in self.folder.tensors
        self.used.update((f"{prefix}.module.weight", f"{prefix}.module.bias"))
        self.take(f"{prefix}.module.weight" if wrapped else f"{prefix}.weight", "float", shape)
        stored, named = (f"{prefix}.bias" in where for where in (self.folder.tensors, self.folder.types))
        if stored or named:
            self.take(f"{prefix}.bias", "float", shape)
        if stored and not named:
            self.problem(f"{prefix}.bias", "dropped: the description does not name this norm's bias", ("mindie",))
        if stored and not any("norm.bias" in name for name in self.folder.types):
            self.problem(f"{prefix}.bias", "dropped: the description names no norm's bias", ("vllm-ascend",))

    def linear(self, prefix, scheme, n, k, bias):
        if bias:
            self.take(f"{prefix}.bias", "float", (n,))
        if scheme == "FLOAT":
            self.take(f"{prefix}.weight", "float", (n, k))
            return
        self.take(f"{prefix}.weight", "int8", (n, k))
        parts = TYPES[scheme]
        scale = self.take(f"{prefix}.weight_scale", "float", (n, 1), "dynamic" in parts)
        offset = self.take(f"{prefix}.weight_offset", "float", (n, 1), "dynamic" in parts)
        self.positive(scale, f"{prefix}.weight_scale")
        if scheme != "W8A16" and "dynamic" in parts and offset is not None and offset.values.any():
            self.problem(f"{prefix}.weight_offset", "is ignored for this type, but not zero")
        if "static" not in parts:
            return
        self.positive(self.take(f"{prefix}.input_scale", "float", (1,)), f"{prefix}.input_scale")
        offset = self.take(f"{prefix}.input_offset", "offset", (1,))
        if offset is not None and not (offset.values == numpy.clip(numpy.rint(offset.values), -128, 127)).all():
            self.problem(f"{prefix}.input_offset", f"{offset.values[0]} is cut to int8")
        self.take(f"{prefix}.quant_bias", "int32", (n,))
        deq = self.take(f"{prefix}.deq_scale", "deq", (n,))
        if deq is not None and not numpy.isfinite(loader_compute.decode_deq(deq.values)).all():
            self.problem(f"{prefix}.deq_scale", "holds no finite float32")
        if deq is not None and deq.dtype == "I64" and (deq.values != deq.values.astype(numpy.int32)).any():
            self.problem(f"{prefix}.deq_scale", "holds more than the bits of a float32")

    def layer(self, prefix):
        schemes = {}
        for module, (n, k, bias) in self.shapes.linears.items():
            name = prefix + module
            scheme = self.scheme(name)
            if scheme is None:
                continue
            schemes[module] = scheme
            self.linear(name, scheme, n, k, bias)
        self.fused_groups(prefix, schemes)
        self.norm(prefix + "input_layernorm")
        self.norm(prefix + "post_attention_layernorm")
        if self.shapes.qk_norm:
            self.norm(prefix + "self_attn.q_norm", self.shapes.size)
            self.norm(prefix + "self_attn.k_norm", self.shapes.size)
        for module in ("self_attn.k_proj", "self_attn.v_proj"):
            for part in ("kv_cache_scale", "kv_cache_offset"):
                name = f"{prefix}{module}.{part}"
                if self.folder.int8_kv:
                    taken = self.take(name, "float", (self.shapes.kv,))
                    if part == "kv_cache_scale":
                        self.positive(taken, name)
                self.used.add(name)

    def fused_groups(self, prefix, schemes):
        groups = {}
        for module in schemes:
            fused = FUSED.get(module.split(".")[1])
            if fused:
                groups.setdefault(fused, []).append(module)
        for fused, modules in groups.items():
            if len({schemes[module] for module in modules}) > 1:
                splits = fused == "gate_up_proj"  # what MindIE's runtime does then
                self.problem(f"{prefix}{modules[0].split('.')[0]}.{fused}",
                             "its shards are of different types: " +
                             ", ".join(f"{module} {schemes[module]}" for module in modules),
                             ("vllm-ascend",) if splits else ("vllm-ascend", "mindie"))
            for part in ("input_scale", "input_offset"):
                values = {float(t.values.reshape(-1)[0]) for module in modules
                          if (t := self.folder.tensors.get(f"{prefix}{module}.{part}")) is not None and t.values.size == 1}
                if len(values) > 1:
                    self.problem(f"{prefix}{modules[1]}.{part}", f"one slot for the whole {fused}, last one wins: {values}")

    def head(self, shape):
        scheme = self.scheme("lm_head")
        stored = "lm_head.weight" in self.folder.tensors
        if scheme not in (None, "FLOAT"):
            self.linear("lm_head", scheme, *shape, False)
        elif stored or not self.folder.config.get("tie_word_embeddings", False):
            self.take("lm_head.weight", "float", shape)

    def leftovers(self):
        for name, tensor in self.folder.tensors.items():
            if name not in self.used and not name.endswith(("rotary_emb.inv_freq", ".bias")) and name != "lm_head.weight":
                self.problem(name, "KeyError: no parameter of this name", ("vllm-ascend",))
            if tensor.dtype in FLOATS and not numpy.isfinite(tensor.values).all() and name not in self.used:
                self.problem(name, "holds NaN or infinity")
        for name in self.folder.types:
            if "." in name and name not in self.folder.tensors and name != "lm_head.weight":
                self.problem(name, "is described but not stored", ("msmodelslim",))


LOADERS = {"current": ("vllm-ascend", "mindie", "mindie-atb"), "page": ("vllm-ascend", "mindie-atb"), "mindie": ("mindie-atb",)}


def loaders_of(folder):
    loaders = LOADERS[folder.layout]
    if folder.config["model_type"] not in ("qwen2", "qwen3"):
        loaders = [name for name in loaders if name != "mindie"]
    if folder.types.get("lm_head.weight", "FLOAT") != "FLOAT":
        loaders = [name for name in loaders if name == "vllm-ascend"]
    return [*loaders, "msmodelslim"]


def warnings_of(folder):
    """What MindIE takes and vLLM-Ascend does not: [(tensor, words)]."""
    per_token = [name for name, word in folder.types.items() if name.endswith(".weight") and word in PER_TOKEN]
    if folder.config["torch_dtype"] != "float16" or not per_token:
        return []
    return [(per_token[0], f"vLLM-Ascend refuses scales per token in a float16 model ({folder.types[per_token[0]]}, "
                           f"{len(per_token)} linears)")]


def walk(path):
    """({loader: problems}, warnings, folder or None)."""
    try:
        folder = Folder(path)
    except (Broken, OSError, ValueError, KeyError, struct.error) as e:
        return {"all": [("", str(e) if isinstance(e, Broken) else f"{type(e).__name__}: {e}")]}, [], None
    return {loader: Walk(folder, loader).run() for loader in loaders_of(folder)}, warnings_of(folder), folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--tp", default="1", help="tensor-parallel sizes, e.g. 1,2,4,8")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tokens", help="token ids, e.g. 1,2,3")
    parser.add_argument("--logits", help="write the logits of --tokens here (.npy)")
    args = parser.parse_args()
    verdicts, warnings, folder = walk(args.folder)
    good = not any(verdicts.values())
    result = {"ok": good, "loaders": {name: [{"tensor": t, "problem": p} for t, p in problems]
                                      for name, problems in verdicts.items()},
              "warnings": [{"tensor": t, "problem": p} for t, p in warnings]}
    if good:
        result["tp"] = loader_compute.check_ranks(folder, [int(size) for size in args.tp.split(",")])
        result["ok"] = all(entry["error"] is None or entry["error"] < loader_compute.RANK_TOLERANCE
                           for entry in result["tp"].values())
        if args.tokens:
            logits = loader_compute.Model(folder).logits([int(token) for token in args.tokens.split(",")])
            numpy.save(args.logits, logits.astype(numpy.float32))
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        for name, problems in verdicts.items():
            print(f"{name}: {'takes it' if not problems else f'{len(problems)} problems'}")
            for tensor, words in problems:
                print(f"  {tensor + ': ' if tensor else ''}{words}")
        for tensor, words in warnings:
            print(f"warning: {tensor}: {words}")
        for size, entry in result.get("tp", {}).items():
            print(f"tp {size}: {entry['words']}")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
