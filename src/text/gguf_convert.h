// GGUF -> float checkpoint folder (`octet convert --from-gguf`).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "src/checkpoint/dtype.h"

namespace octet::text {

struct GgufConvertOptions {
  DType dtype = DType::kBF16;               // of every tensor; kBF16 or kF16
  bool overwrite = false;                   // replace an existing folder
  std::string tokenizer = {};               // folder whose tokenizer is taken; "": the file's
  uint64_t part_bytes = uint64_t{5} << 30;  // largest safetensors file
};

// Called before each tensor and once at the end: tensors done, tensors in all, the tensor's name.
using ConvertProgress = std::function<void(int64_t done, int64_t total, const std::string& name)>;

// Writes the folder that `transformers` and `octet quantize` read: config.json,
// generation_config.json, the tokenizer's files and the weights, decoded from the file's blocks and
// rounded to `dtype`. Architectures llama, qwen2 and qwen3. A tokenizer of another folder must
// spell the file's tokens; its side files are copied. The folder appears whole or not at all; one
// tensor at a time is in memory. Throws Error naming file, tensor or metadata for what does not fit
// the architecture, kUsage when the folder exists.
void convert_gguf(const std::filesystem::path& path, const std::filesystem::path& out_dir,
                  const GgufConvertOptions& options, const ConvertProgress& progress);

}  // namespace octet::text
