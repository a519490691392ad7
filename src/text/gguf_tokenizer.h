// The tokenizer inside a GGUF file as the files that `tokenizers` and `transformers` read.
#pragma once

#include <cstdint>
#include <vector>

#include "src/base/json.h"
#include "src/checkpoint/gguf.h"

namespace octet::text {

// Token ids for config.json and generation_config.json; empty or -1 when the file has none.
struct GgufTokenIds {
  int32_t bos = -1, pad = -1;
  std::vector<int32_t> end_of_text;  // ids that end a generation, the main one first
};

struct GgufTokenizerFiles {
  ordered_json tokenizer;           // tokenizer.json
  ordered_json tokenizer_config;    // tokenizer_config.json, chat template included
  ordered_json special_tokens_map;  // special_tokens_map.json
};

// The ids that the file names. Throws Error for one that is no token.
GgufTokenIds gguf_token_ids(const GgufFile& gguf);

// Throws Error unless `tokenizer` spells the file's normal tokens as the file does.
class Tokenizer;
void expect_tokens_of(const GgufFile& gguf, const Tokenizer& tokenizer, const std::string& where);

// Builds them from the `tokenizer.ggml.*` metadata. Byte-level BPE only (model "gpt2"), with the
// pre-tokenizers of GPT-2, SmolLM / StarCoder, Llama 3, Qwen2 and DeepSeek's distilled Qwen. Throws
// Error naming the metadata for any other, and for a vocabulary that contradicts itself.
GgufTokenizerFiles gguf_tokenizer(const GgufFile& gguf);

}  // namespace octet::text
