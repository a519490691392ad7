// Options under all the names that one may type; messages name them as they were typed.
#pragma once

#include <string>
#include <vector>

#include "src/cli/flags.h"

namespace octet::cli {

// Arguments with `_` in the names of long options turned into `-`: `--model_path=a_b` becomes
// `--model-path=a_b`; `-tp 2` becomes `--tp 2`. Words after `--` are left alone.
std::vector<std::string> fold_names(int argc, const char* const* argv);

// vLLM's other spellings of serve's options, written out in `args` (already folded): beginnings
// that fit one option only, and -asc. kUsage Error naming the candidates when several fit.
void expand_serve_names(const Verb& program, std::vector<std::string>& args);

// To be called before any message: `raw` are the words of the command line, `args` the same as
// fold_names leaves them, and once more as expand_serve_names does. Of two spellings of one option
// the later counts.
void remember_spelling(const Verb& program, const std::vector<std::string>& raw,
                       const std::vector<std::string>& args);

// `message` with every option that was typed named as it was typed: --model_path for --model-path,
// -tp or --tensor-parallel-size for --tp. Other options beside them take their `_` or `-`.
// Everything else stays.
std::string as_typed(const std::string& message);

}  // namespace octet::cli
