#include "src/text/tokenizer_class.h"

#include "src/base/json_member.h"
#include "src/checkpoint/architecture.h"
#include "src/text/object_file.h"

namespace octet::text {

std::string tokenizer_class(const fs::path& folder, const json& config) {
  std::string name =
      get_string_or(config, "tokenizer_class", "", (folder / "tokenizer_config.json").string());
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (!name.empty()) return name;
  const json model = read_object_file<json>(folder / "config.json");
  const json* type = find_member(model, "model_type");
  const Architecture* family = type != nullptr && type->is_string()
                                   ? find_architecture(type->get_ref<const std::string&>())
                                   : nullptr;
  return family == nullptr ? "" : family->tokenizer;
}

}  // namespace octet::text
