#!/usr/bin/env python3
"""Makes src/checkpoint/testdata/gguf_dequant.json: blocks of each GGUF type and their float values.

The blocks are random bytes with sane scales; the values are what the `gguf` Python package decodes
them to. Needs gguf and numpy:

    python tools/gguf_dequant_golden.py
"""

import json
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

OUT = pathlib.Path(__file__).resolve().parent.parent / "src/checkpoint/testdata/gguf_dequant.json"

# Type -> byte offsets of the halves that scale a block.
HALVES = {"F32": [], "F16": [], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
          "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def main():
    random = np.random.default_rng(7)
    types = {}
    for name, halves in HALVES.items():
        kind = GGMLQuantizationType[name]
        elements, size = GGML_QUANT_SIZES[kind]
        count = 64 if elements == 1 else 3 if elements == 32 else 2
        if elements == 1:
            values = random.standard_normal(count).astype(np.float32)
            if name == "F32":
                blocks = values.view(np.uint8)
            elif name == "F16":
                blocks = values.astype(np.float16).view(np.uint8)
            else:
                blocks = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        else:
            blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
            for at in halves:
                scale = (random.standard_normal(count) * 0.05).astype(np.float16)
                blocks[:, at:at + 2] = scale.view(np.uint8).reshape(count, 2)
            blocks = blocks.reshape(-1)
        data = blocks.view(np.float32 if name == "F32" else np.float16 if name == "F16" else np.uint8)
        values = dequantize(data, kind).astype("<f4").reshape(-1)
        assert values.size == count * elements, (name, values.size)
        types[name] = {"type": int(kind), "blocks": blocks.tobytes().hex(),
                       "values": values.tobytes().hex()}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(types, indent=1) + "\n")


if __name__ == "__main__":
    main()
