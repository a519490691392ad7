"""Quantized folders for tests: made by the program, then changed tensor by tensor. Needs numpy."""
import json
import os
import pathlib
import struct
import subprocess

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = {"llama": ROOT / "models/llama3_tiny_bf16", "qwen": ROOT / "models/qwen2_tiny_fp16"}
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


def quantize(program, model, out, flags):
    result = run(program, "quantize", "--model_path", model, "--save_directory", out, "--quiet", "--calib_texts", *TEXTS,
                 *flags)
    assert result.returncode == 0, result.stderr


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
        header, data = {}, b""
        if self.metadata:
            header["__metadata__"] = self.metadata
        for name, (dtype, shape, raw) in self.tensors.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self.file.write_bytes(struct.pack("<Q", len(text)) + text + data)


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


def same_files(a, b):
    """Names of the files that are not the same in both folders."""
    names = {os.path.relpath(os.path.join(at, name), folder) for folder in (a, b) for at, dirs, files in os.walk(folder)
             for name in files}
    return [name for name in sorted(names)
            if not (a / name).exists() or not (b / name).exists() or (a / name).read_bytes() != (b / name).read_bytes()]
