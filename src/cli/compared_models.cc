#include "src/cli/compared_models.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/cli/cli.h"
#include "src/eval/summary.h"
#include "src/quant/settings/calibration_data.h"

namespace octet::cli {
namespace {

void check_text_flags(const TextFlags& f) {
  if (f.max_tokens < 2) throw usage_error("--max-tokens: expected 2 or more");
  if (f.window == 1) throw usage_error("--window: expected 2 or more");
  if (f.stride > 0 && f.window == 0) throw usage_error("--stride goes with --window");
  if (f.stride > f.window)
    throw Error("windows that leave out tokens", ErrorKind::kUsage)
        .field("--stride")
        .expected(fmt::format("at most {}, the --window", f.window))
        .found(std::to_string(f.stride));
}

}  // namespace

void add_text_flags(const Verb& verb, TextFlags& f, bool questions) {
  const char* text = "--text";
  verb.text(text, f.file,
            "passages for perplexity, KL and agreement: .jsonl with `inputs_pretokenized` or "
            "`text`, or a .txt file")
      .metavar("FILE");
  verb.integer("--passages", f.passages, "use only the first ones; 0 = all").only_with(text);
  const Flag longest = verb.integer("--max-tokens", f.max_tokens,
                                    "cut passages to this length; questions must fit in it")
                           .show_default();
  if (!questions) longest.only_with(text);
  verb.integer("--window", f.window,
               "do not cut: predict every token of a passage, in windows of so many tokens")
      .only_with(text);
  verb.integer("--stride", f.stride, "tokens from one window to the next, half a window by itself")
      .only_with(text);
}

std::vector<ComparedModel> load_models(const std::vector<std::string>& paths, const TextFlags& f,
                                       ThreadTeam& team, Communicator* ranks) {
  check_text_flags(f);
  const size_t longest = std::max(f.max_tokens, f.window);
  std::vector<ComparedModel> models;
  for (const std::string& path : paths) {
    ComparedModel& m = models.emplace_back();
    m.path = path;
    m.folder = std::make_shared<const ModelFolder>(path);
    if (ranks == nullptr || ranks->rank() == 0) warn_of(*m.folder);
    const ModelConfig& config = m.folder->config();
    if (config.vocab_size != models[0].folder->config().vocab_size)
      throw Error("the models have different vocabularies", ErrorKind::kUsage)
          .file(path)
          .expected(std::to_string(models[0].folder->config().vocab_size))
          .found(std::to_string(config.vocab_size));
    if (longest > static_cast<size_t>(config.max_position))
      throw Error("passages longer than the model's context", ErrorKind::kUsage)
          .file(path)
          .field(f.window > f.max_tokens ? "--window" : "--max-tokens")
          .expected(fmt::format("at most {}", config.max_position))
          .found(std::to_string(longest));
    m.model = std::make_unique<Transformer>(m.folder, team,
                                            LoadOptions{Scorer::kChunk, ranks, models.size() - 1});
    m.scorer = std::make_unique<Scorer>(*m.model, longest);
  }
  return models;
}

text::Tokenizer tokenizer_of(const std::string& model) {
  return text::Tokenizer::load(model, ModelConfig::load(model).vocab_size);
}

std::vector<std::vector<int32_t>> encode_texts(const TextFlags& f,
                                               const text::Tokenizer& tokenizer) {
  const fs::path path = f.file;
  std::vector<std::string> texts = path.extension() == ".txt"
                                       ? std::vector<std::string>{read_text(path)}
                                       : read_texts(path, "passage for " + f.flag);
  if (f.passages > 0 && texts.size() > f.passages) texts.resize(f.passages);
  std::vector<std::vector<int32_t>> all =
      tokenize(texts, f.file, tokenizer, f.window > 0 ? SIZE_MAX : f.max_tokens);
  std::erase_if(all, [](const std::vector<int32_t>& ids) { return ids.size() < 2; });
  if (all.empty()) throw Error(f.flag + ": no passage of two tokens or more").file(f.file);
  return all;
}

ordered_json describe_texts(const TextFlags& f, const std::vector<std::vector<int32_t>>& texts) {
  ordered_json d = {{"text", fs::path(f.file).filename().string()}, {"passages", texts.size()}};
  if (f.window == 0) {
    d["max_tokens"] = f.size();
  } else {
    d["window"] = f.size();
    d["stride"] = f.step();
    d["windows"] = count_windows(texts, f.size(), f.step());
  }
  return d;
}

ordered_json measure(const std::string& reference, const std::string& model, const TextFlags& f,
                     bool quiet) {
  ThreadTeam team;
  const std::vector<ComparedModel> models = load_models({reference, model}, f, team);
  const auto texts = encode_texts(f, tokenizer_of(reference));
  Progress progress("measure", "passage",
                    static_cast<int64_t>(count_windows(texts, f.size(), f.step())), quiet);
  int64_t done = 0;
  const auto scores = score_texts({models[0].scorer.get(), models[1].scorer.get()}, texts, f.size(),
                                  f.step(), [&] { progress.update(++done); });
  progress.finish();
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < models.size(); ++i)
    add_text(list.emplace_back(ordered_json::object()), summarize(scores[0], scores[i]), i == 0);
  ordered_json measured = describe_texts(f, texts);
  measured["models"] = list;
  return measured;
}

}  // namespace octet::cli
