// The special tokens that transformers puts around a text.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace octet::text {

struct TokensAround {
  std::string before, after;  // BOS and EOS as the vocabulary spells them; empty: none
};

// What transformers 4 puts there by tokenizer_config.json; nothing where the post-processor of
// tokenizer.json decides, as it does for every class in version 5.
//
// Version 4 gives Llama's classes a post-processor of their own, whatever tokenizer.json has: BOS
// unless `add_bos_token` is false or null, EOS if `add_eos_token` is true. That is why DeepSeek's
// R1-Distill and deepseek-llm begin with BOS, which their tokenizer.json does not say. (4.57.3 and
// 5.24.0 were tried.) Throws Error for a broken file.
std::optional<TokensAround> tokens_around(const std::filesystem::path& folder);

}  // namespace octet::text
