// The map tensor name -> quantization type of a W8A8 checkpoint, of Ascend's in every form in which
// the tools write it (docs/formats.md): complete in config.json's `quantization_config`, in
// quant_model_description.json, or in quant_model_description_<type>.json.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/base/json.h"
#include "src/checkpoint/scheme.h"

namespace octet {

struct QuantDescription {
  std::string source;                        // the file it came from, for messages
  std::string model_quant_type;              // "" when absent
  bool int8_kv = false;                      // "C8": keys and values are cached in int8
  bool compressed_tensors = false;           // the tensors are in that form (compressed_tensors.h)
  std::map<std::string, std::string> types;  // tensor name -> type word; top-level keys left out
  ordered_json raw;

  // Ascend's description of a model folder, or nothing for a float checkpoint. A complete
  // dictionary in config.json wins over the files (as in vLLM-Ascend); a partial one is ignored
  // when a file is there. Two description files, or text that is no description, are an Error.
  static std::optional<QuantDescription> load(const fs::path& folder, const ordered_json& config);

  // The type word of `tensor`, or nullptr.
  const std::string* find(const std::string& tensor) const;
};

// The files of a model folder that are descriptions by their names.
std::vector<fs::path> description_files(const fs::path& folder);

}  // namespace octet
