// Messages name options as they were typed, whatever other names they have.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace octet::cli {

// To be called before any message: `raw` are the words of the command line, `args` the same as
// fold_names leaves them, and once more as expand_serve_names does. Of two spellings of one option
// the later counts.
void remember_spelling(const CLI::App& app, const std::vector<std::string>& raw,
                       const std::vector<std::string>& args);

// The verb that `args` ask for, with the verbs below it: "quantize quant"; "" for none.
std::string verb_words(const CLI::App& app, const std::vector<std::string>& args);

// `message` with every option that was typed named as it was typed: --model_path for --model-path,
// -tp or --tensor-parallel-size for --tp. Other options beside them take their `_` or `-`.
// Everything else stays.
std::string as_typed(const std::string& message);

}  // namespace octet::cli
