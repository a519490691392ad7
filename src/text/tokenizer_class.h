// Which of transformers' tokenizer classes a folder is read with.
#pragma once

#include <filesystem>
#include <string>

#include "src/base/json.h"

namespace octet::text {

// Without "Fast": what `config`, the folder's tokenizer_config.json, names, or else the class of
// config.json's model_type, as AutoTokenizer has it; empty where that is no family of Octet's.
// Throws Error for a broken file.
std::string tokenizer_class(const std::filesystem::path& folder, const json& config);

}  // namespace octet::text
