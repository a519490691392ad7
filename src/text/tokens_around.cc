#include "src/text/tokens_around.h"

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/json.h"
#include "src/base/json_member.h"
#include "src/text/chat_template.h"
#include "src/text/object_file.h"
#include "src/text/tokenizer_class.h"

namespace octet::text {
namespace {

// Whether AutoTokenizer takes one of Llama's classes, fast or slow.
bool is_llama_class(const fs::path& folder, const json& config) {
  const std::string name = tokenizer_class(folder, config);
  return name == "LlamaTokenizer" || name == "CodeLlamaTokenizer";
}

}  // namespace

std::optional<TokensAround> tokens_around(const fs::path& folder) {
  const fs::path path = folder / "tokenizer_config.json";
  const json config = read_object_file<json>(folder / "tokenizer_config.json");
  if (!is_llama_class(folder, config)) return std::nullopt;
  const SpecialTokens special = load_special_tokens(folder);
  const auto token = [&](const char* flag, bool by_default, const char* name,
                         const char* usual) -> std::string {
    const bool null = config.contains(flag) && config[flag].is_null();  // for Python, false
    if (null || !get_bool_or(config, flag, by_default, path.string())) return {};
    if (const auto it = special.find(name); it != special.end()) return it->second;
    return config.contains(name) ? "" : usual;
  };
  return TokensAround{token("add_bos_token", true, "bos_token", "<s>"),
                      token("add_eos_token", false, "eos_token", "</s>")};
}

}  // namespace octet::text
