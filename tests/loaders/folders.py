"""Quantized folders for tests: made by the program, then changed tensor by tensor. Needs numpy."""
import json
import os
import pathlib
import struct
import subprocess

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = {"llama": ROOT / "models/llama3_tiny_bf16", "qwen": ROOT / "models/qwen2_tiny_fp16",
          "qwen3": ROOT / "models/qwen3_tiny_bf16"}
TEXTS = [json.loads(line)["inputs_pretokenized"] for line in (ROOT / "models/calib.jsonl").read_text().splitlines()[:3]]
# Every type that the quantizer writes: name -> flags.
TYPES = {
    "static": ["--anti_method", "m3"],
    "all static": ["--disable_names", "none"],
    "dynamic": ["--is_dynamic", "True"],
    "mix": ["--pdmix", "True"],
    "weights only": ["--a_bit", "16"],
    "int8 cache": ["--use_kvcache_quant", "True"],
    "dynamic, int8 cache": ["--is_dynamic", "True", "--use_kvcache_quant", "True"],
    "quantized head": ["--disable_last_linear", "False", "--disable_names", "none"],
    "the tool's": ["--compat", "msmodelslim", "--anti_method", "m1"],
    "the tool's older layout": ["--compat", "msmodelslim", "--anti_method", "m1", "--mindie_format"],
    "recipe": ["--recipe", "octet", "--dynamic-budget", "3", "--float-budget", "3"],
    "recipe, static": ["--recipe", "octet-fast", "--dynamic-budget", "0"],
}


def run(program, *args):
    one_thread = {**os.environ, "OCTET_THREADS": "1"}  # tests run side by side, and these models are tiny
    return subprocess.run([program, *map(str, args)], capture_output=True, text=True, timeout=300, env=one_thread)


def quantize(program, model, out, flags, calibration=("--calib_texts", *TEXTS)):
    result = run(program, "quantize", "--model_path", model, "--save_directory", out, "--quiet", *calibration, *flags)
    assert result.returncode == 0, result.stderr


def write_safetensors(file, tensors, metadata=None):
    """tensors: name -> [dtype, shape, bytes]."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Weights:
    """The only weight file of a folder, to be changed: name -> [dtype, shape, bytes]."""

    def __init__(self, folder):
        files = list(pathlib.Path(folder).glob("*.safetensors"))
        assert len(files) == 1, files
        self.file = files[0]
        data = self.file.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + size])
        self.metadata = header.pop("__metadata__", None)
        self.tensors = {name: [t["dtype"], t["shape"], data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]]]
                        for name, t in header.items()}

    def set(self, name, dtype, values):
        self.tensors[name] = [dtype, list(values.shape), values.tobytes()]

    def save(self):
        write_safetensors(self.file, self.tensors, self.metadata)


def change_json(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value, indent=2))


def change_description(folder, change):
    """In the file and in config.json alike."""
    change_json(folder / "quant_model_description.json", change)
    change_json(folder / "config.json", lambda c: change(c["quantization_config"]))


def floats(values, dtype):
    """numpy values as the bytes of F32, F16 or BF16, for Weights.set."""
    values = numpy.asarray(values, numpy.float32)
    if dtype == "BF16":
        return (values.view(numpy.uint32) >> 16).astype(numpy.uint16)
    return values.astype({"F32": numpy.float32, "F16": numpy.float16}[dtype])


RANDOM_VOCABULARY = 160


def random_llama(folder, kv_heads, biases=False):
    """A float LLaMA of 8 heads with random weights, whose heads and channels 2, 4 and 8 ranks can share; and, as it has no
    tokenizer, calibration tokens beside it: {folder}/tokens.json. `biases`: on every linear."""
    rng = numpy.random.default_rng(1)
    hidden, size, inter, layers = 64, 8, 192, 2
    linears = {"self_attn.q_proj": (8 * size, hidden), "self_attn.k_proj": (kv_heads * size, hidden),
               "self_attn.v_proj": (kv_heads * size, hidden), "self_attn.o_proj": (hidden, 8 * size),
               "mlp.gate_proj": (inter, hidden), "mlp.up_proj": (inter, hidden), "mlp.down_proj": (hidden, inter)}
    tensors = {}

    def store(name, values):
        tensors[name] = ["BF16", list(values.shape), floats(values, "BF16").tobytes()]
    store("model.embed_tokens.weight", rng.normal(size=(RANDOM_VOCABULARY, hidden)))
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for module, (n, k) in linears.items():
            store(f"{prefix}{module}.weight", rng.normal(size=(n, k)) * 1.5 / k ** 0.5)
            if biases:
                store(f"{prefix}{module}.bias", rng.normal(size=n) * 0.3)
        for norm in "input_layernorm", "post_attention_layernorm":
            store(f"{prefix}{norm}.weight", rng.uniform(0.5, 1.5, hidden))
    store("model.norm.weight", numpy.ones(hidden))
    store("lm_head.weight", rng.normal(size=(RANDOM_VOCABULARY, hidden)) / hidden ** 0.5)
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inter,
        "num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": kv_heads, "head_dim": size,
        "vocab_size": RANDOM_VOCABULARY, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": biases, "mlp_bias": biases,
        "torch_dtype": "bfloat16"}, indent=2))
    tokens = rng.integers(0, RANDOM_VOCABULARY, (6, 32)).tolist()
    (folder / "tokens.json").write_text(json.dumps(tokens))


def same_files(a, b):
    """Names of the files that are not the same in both folders."""
    names = {os.path.relpath(os.path.join(at, name), folder) for folder in (a, b) for at, dirs, files in os.walk(folder)
             for name in files}
    return [name for name in sorted(names)
            if not (a / name).exists() or not (b / name).exists() or (a / name).read_bytes() != (b / name).read_bytes()]
