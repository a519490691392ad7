// Models side by side on texts: what `octet eval` and `octet report` share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/cli/flags.h"
#include "src/eval/eval.h"
#include "src/text/tokenizer.h"

namespace octet::cli {

// Which texts, and how they are cut.
struct TextFlags {
  std::string flag = "--text", file{};  // and the flag that names it, for errors
  size_t passages = 0, max_tokens = 512;
  size_t window = 0, stride = 0;  // 0: passages are cut; half a window

  size_t size() const { return window > 0 ? window : max_tokens; }  // most tokens at once
  size_t step() const { return stride > 0 ? stride : window > 0 ? (window + 1) / 2 : max_tokens; }
};
// Adds --text and what goes with it: --passages, --window, --stride, and --max-tokens unless the
// verb has `questions`, too, which that flag concerns.
void add_text_flags(const Verb& verb, TextFlags& flags, bool questions);

// A model that is ready to be scored.
struct ComparedModel {
  std::string path;
  std::shared_ptr<const ModelFolder> folder;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<Scorer> scorer;
};
// Checks the flags. The models must share one vocabulary size and have room for the longest text.
// `ranks`: null, or those that share each model.
std::vector<ComparedModel> load_models(const std::vector<std::string>& paths,
                                       const TextFlags& flags, ThreadTeam& team,
                                       Communicator* ranks = nullptr);

// The passages of flags.file with the tokenizer's special tokens: those of a .json or .jsonl file,
// or all of a .txt file as one. Without a window each is cut to max_tokens. Those with fewer than
// two tokens, which predict nothing, are left out.
std::vector<std::vector<int32_t>> encode_texts(const TextFlags& flags,
                                               const text::Tokenizer& tokenizer);
// The tokenizer of the model in this folder: no text gives it ids that the model lacks.
text::Tokenizer tokenizer_of(const std::string& model);

// Which texts, as encode_texts gives them: {"text": the file's name, "passages", and how they are
// cut: "max_tokens", or "window", "stride" and how many "windows" that makes}.
ordered_json describe_texts(const TextFlags& flags, const std::vector<std::vector<int32_t>>& texts);

// A model beside its reference on flags.file, for the report: which texts, and "models":
// [reference, model], as `octet eval --json` says it.
ordered_json measure(const std::string& reference, const std::string& model, const TextFlags& flags,
                     bool quiet);

}  // namespace octet::cli
