#!/usr/bin/env bash
# Makes everything of the tiny models anew: held-out sets, tokenizers, weights, expected.json, golden logits.
#
#     tools/tiny_models/make.sh [OUTPUT_FOLDER]      (default: models)
#
# PYTHON names an interpreter with the packages of tools/requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."
OUT=${1:-models}
PYTHON=${PYTHON:-python3}
for model in llama3_tiny_bf16 qwen2_tiny_fp16 qwen3_tiny_bf16; do
  "$PYTHON" -m tools.tiny_models.train "$model" --out "$OUT" --threads "${THREADS:-2}"
  "$PYTHON" -m tools.tiny_models.expected "$OUT/$model"
done
