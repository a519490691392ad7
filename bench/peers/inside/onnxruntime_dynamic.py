"""Quantizes the matrices of a float32 ONNX model to int8, their inputs at run time.

    python onnxruntime_dynamic.py FLOAT32 OUT
"""

import pathlib
import shutil
import sys

import onnx
from onnxruntime import quantization

source, out = map(pathlib.Path, sys.argv[1:])
out.mkdir()
for path in source.iterdir():
    if path.suffix == ".json":
        shutil.copy(path, out)
# What the builder's own operators give has no type that the quantizer could infer.
extra = {"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT}
quantization.quantize_dynamic(source / "model.onnx", out / "model.onnx", op_types_to_quantize=["MatMul"], per_channel=True,
                              weight_type=quantization.QuantType.QInt8, use_external_data_format=True, extra_options=extra)
