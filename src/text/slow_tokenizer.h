// The files of transformers' "slow" byte-level tokenizers, vocab.json and merges.txt.
#pragma once

#include <filesystem>

#include "src/base/json.h"

namespace octet::text {

// Whether the folder has both files.
bool has_slow_tokenizer(const std::filesystem::path& folder);

// The tokenizer.json that transformers makes of them (convert_slow_tokenizer.py): of the class that
// tokenizer_config.json names, Qwen2Tokenizer or GPT2Tokenizer, or that config.json's model_type
// stands for; with the added tokens of tokenizer_config.json, or else of added_tokens.json and
// special_tokens_map.json. Throws Error naming the file for any other class and for what is broken.
ordered_json slow_tokenizer_json(const std::filesystem::path& folder);

}  // namespace octet::text
