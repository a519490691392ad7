// Calibration samples from the files that --calib_file, --anti_calib_file and --calib_tokens name.
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
// The same of a file of other texts, which errors call `noun`.
std::vector<std::string> read_texts(const fs::path& path, const std::string& noun);

// The texts as msModelSlim reads them: a line without `inputs_pretokenized` is itself the text,
// with its newline; a blank line is an error; objects of a .json file have a `prompt`.
std::vector<std::string> read_calibration_texts_as_msmodelslim(const fs::path& path);

// Texts of outlier suppression, in the batches that msModelSlim makes of them: a .jsonl file in
// groups of four lines, without special tokens; a .json file as a list of lists of texts, or of
// objects with a `prompt`, one each.
struct OutlierTexts {
  std::vector<std::vector<std::string>> groups;
  bool special_tokens = true;

  std::vector<std::string> all() const;  // the texts of all groups, one after another
};
// Reads such a file; `as_msmodelslim`: its lines as above. Throws Error naming file and line.
OutlierTexts read_outlier_texts(const fs::path& path, bool as_msmodelslim);

// Texts that come with the program (models/calibration/calib.jsonl).
std::vector<std::string> builtin_calibration_texts();

// A JSON list of lists of token ids.
std::vector<std::vector<int32_t>> read_calibration_tokens(const fs::path& path);

// The token ids of the texts, special tokens added as the model's tokenizer does by default; each
// cut to `max_tokens`. Errors name `source`, where the texts are from, and their number from one.
std::vector<std::vector<int32_t>> tokenize(const std::vector<std::string>& texts,
                                           const std::string& source,
                                           const text::Tokenizer& tokenizer, size_t max_tokens);

// A batch of each group, its sequences filled up at the right with token 0 to the longest of them.
std::vector<std::vector<std::vector<int32_t>>> tokenize_padded(const OutlierTexts& texts,
                                                               const std::string& source,
                                                               const text::Tokenizer& tokenizer);

}  // namespace octet
