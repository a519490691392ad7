// The files with which a model is used, beside its weights and what describes them.
#pragma once

#include <string>

#include "src/base/file.h"

namespace octet {

// Whether a file of a model's top folder goes along when its weights are written anew: tokenizer,
// chat templates, generation defaults, licence and notices, recipe and report of a quantization.
// Not the weights, config.json and description, which are written anew, nor a README, which speaks
// of the weights as they were.
bool is_side_file(const std::string& name);

// Throws Error for a side file that programs read (*.json, *.jinja, *.model) and that is a link to
// nothing: without it the model would be used in another way, and nobody would know.
void refuse_broken_side_files(const fs::path& folder);

// Copies the side files of the model folder `from` into the folder `to`, and
// additional_chat_templates/*.jinja, in place of what `to` has by these names (an interrupted run
// may have left half a file). Throws Error naming the file, also for what
// refuse_broken_side_files() refuses.
void copy_side_files(const fs::path& from, const fs::path& to);

}  // namespace octet
