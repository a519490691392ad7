// Calibration samples from the files that --calib_file and --calib_tokens name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/text/tokenizer.h"

namespace octet {

// The texts of a .jsonl file (one object a line; blank lines are skipped) or a .json file (a list
// of objects). A text stands under `inputs_pretokenized`, else `prompt`, else `text`. Throws Error
// naming file and line.
std::vector<std::string> read_calibration_texts(const fs::path& path);

// Texts that come with the program (models/calibration/calib.jsonl).
std::vector<std::string> builtin_calibration_texts();

// A JSON list of lists of token ids.
std::vector<std::vector<int32_t>> read_calibration_tokens(const fs::path& path);

// The token ids of the texts, special tokens added as the model's tokenizer does by default; each
// cut to `max_tokens`.
std::vector<std::vector<int32_t>> tokenize(const std::vector<std::string>& texts,
                                           const text::Tokenizer& tokenizer, size_t max_tokens);

}  // namespace octet
