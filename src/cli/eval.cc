// `octet eval`: float beside quantized in one table.
#include "src/eval/eval.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/progress.h"
#include "src/cli/cli.h"
#include "src/quant/calibration_data.h"

namespace octet::cli {
namespace {

struct Flags {
  std::vector<std::string> models;
  std::string text, yes_no;
  size_t passages = 0, max_tokens = 512;
  bool as_json = false, quiet = false;
};

struct Question {
  std::vector<int32_t> prompt;
  bool yes;
};

struct Evaluated {
  std::string path;
  std::shared_ptr<const ModelFolder> folder;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<Scorer> scorer;
  size_t right_answers = 0;
};

// One object a line: `inputs_pretokenized` and `answer`, "yes" or "no".
std::vector<Question> read_questions(const std::string& path, const text::Tokenizer& tokenizer,
                                     size_t max_tokens) {
  std::vector<Question> questions;
  for_each_line(read_text(path), [&](size_t number, std::string_view line) {
    const std::string where = fmt::format("{}, line {}", path, number);
    const json object = parse_json(line, where);
    const std::string answer = get_string_or(object, "answer", "", where);
    if (answer != "yes" && answer != "no")
      throw Error("no answer").file(where).field("answer").expected("yes or no").found(answer);
    const std::string prompt = get_string_or(object, "inputs_pretokenized", "", where);
    if (prompt.empty()) throw Error("no question").file(where).field("inputs_pretokenized");
    questions.push_back({tokenizer.encode(prompt, true), answer == "yes"});
    if (questions.back().prompt.size() > max_tokens)
      throw Error("a question longer than --max-tokens").file(where);
  });
  return questions;
}

int32_t first_token(const text::Tokenizer& tokenizer, const std::string& word) {
  return tokenizer.encode(word, /*add_special_tokens=*/false).at(0);
}

std::vector<Evaluated> load(const Flags& f, ThreadTeam& team) {
  std::vector<Evaluated> models;
  for (const std::string& path : f.models) {
    Evaluated& e = models.emplace_back();
    e.path = path;
    e.folder = std::make_shared<const ModelFolder>(path);
    if (e.folder->config().vocab_size != models[0].folder->config().vocab_size)
      throw Error("the models have different vocabularies", ErrorKind::kUsage)
          .file(path)
          .expected(std::to_string(models[0].folder->config().vocab_size))
          .found(std::to_string(e.folder->config().vocab_size));
    if (f.max_tokens > static_cast<size_t>(e.folder->config().max_position))
      throw Error("passages longer than the model's context", ErrorKind::kUsage)
          .file(path)
          .field("--max-tokens")
          .expected(fmt::format("at most {}", e.folder->config().max_position))
          .found(std::to_string(f.max_tokens));
    e.model = std::make_unique<Transformer>(e.folder, team, Scorer::kChunk);
    e.scorer = std::make_unique<Scorer>(*e.model, f.max_tokens);
  }
  return models;
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

void print(const Flags& f, const std::vector<Evaluated>& models,
           const std::vector<TextScore>& scores, size_t questions) {
  if (f.as_json) {
    ordered_json list = ordered_json::array();
    for (size_t i = 0; i < models.size(); ++i) {
      ordered_json m = {{"model", models[i].path},
                        {"weight_bytes", models[i].folder->tensors().total_bytes()}};
      if (scores[i].tokens > 0) {
        m["tokens"] = scores[i].tokens;
        m["perplexity"] = scores[i].perplexity();
        m["kl"] = scores[i].mean_kl();
        m["top1"] = scores[i].top1();
      }
      if (questions > 0)
        m["yes_no"] = static_cast<double>(models[i].right_answers) / static_cast<double>(questions);
      list.push_back(m);
    }
    fmt::print("{}\n", list.dump(2));
    return;
  }
  std::vector<std::vector<std::string>> rows = {
      {"model", "size", "perplexity", "KL per token", "same top-1", "yes/no"}};
  for (size_t i = 0; i < models.size(); ++i) {
    const bool text = scores[i].tokens > 0;
    rows.push_back({models[i].path, format_bytes(models[i].folder->tensors().total_bytes()),
                    text ? fmt::format("{:.3f}", scores[i].perplexity()) : "-",
                    i == 0 || !text ? "-" : fmt::format("{:.5f}", scores[i].mean_kl()),
                    i == 0 || !text ? "-" : percent(scores[i].top1()),
                    questions == 0 ? "-"
                                   : percent(static_cast<double>(models[i].right_answers) /
                                             static_cast<double>(questions))});
  }
  fmt::print("{}", format_table(rows, {false, true, true, true, true, true}));
  if (scores[0].tokens > 0)
    fmt::print("{} predicted tokens; KL and top-1 are against the first model\n", scores[0].tokens);
}

void run(const Flags& f) {
  if (f.text.empty() && f.yes_no.empty())
    throw usage_error("nothing to evaluate on: give --text FILE or --yes-no FILE");
  if (f.max_tokens < 2) throw usage_error("--max-tokens: expected 2 or more");
  ThreadTeam team;
  std::vector<Evaluated> models = load(f, team);
  const text::Tokenizer tokenizer = text::Tokenizer::load(f.models[0]);
  std::vector<std::string> texts;
  if (!f.text.empty()) texts = read_calibration_texts(f.text);
  if (f.passages > 0 && texts.size() > f.passages) texts.resize(f.passages);
  std::vector<Question> questions;
  if (!f.yes_no.empty()) questions = read_questions(f.yes_no, tokenizer, f.max_tokens);

  std::vector<Scorer*> scorers;
  for (Evaluated& m : models) scorers.push_back(m.scorer.get());
  std::vector<TextScore> scores(models.size());
  Progress progress("eval", "passage", static_cast<int64_t>(texts.size() + questions.size()),
                    f.quiet);
  int64_t done = 0;
  for (const auto& ids : tokenize(texts, tokenizer, f.max_tokens)) {
    if (ids.size() >= 2) score_passage(scorers, ids, scores);
    progress.update(++done);
  }
  if (!questions.empty()) {
    const int32_t yes = first_token(tokenizer, " yes"), no = first_token(tokenizer, " no");
    for (const Question& q : questions) {
      for (Evaluated& m : models)
        m.right_answers += prefers(*m.scorer, q.prompt, q.yes ? yes : no, q.yes ? no : yes);
      progress.update(++done);
    }
  }
  progress.finish();
  print(f, models, scores, questions.size());
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("eval", "what quantization costs: float beside quantized");
  auto f = std::make_shared<Flags>();
  sub->add_option("models", f->models, "model folders; the first is the reference")
      ->required()
      ->expected(1, -1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--text", f->text,
                  "passages for perplexity, KL and top-1: .jsonl with "
                  "`inputs_pretokenized` or `text`")
      ->type_name("FILE");
  sub->add_option("--passages", f->passages, "use only the first ones; 0 = all");
  sub->add_option("--max-tokens", f->max_tokens, "cut passages to this length")
      ->capture_default_str();
  sub->add_option("--yes-no", f->yes_no,
                  "questions: .jsonl with `inputs_pretokenized` and `answer` (yes or no)")
      ->type_name("FILE");
  sub->add_flag("--json", f->as_json, "machine-readable");
  sub->add_flag("--quiet", f->quiet, "no progress");
  sub->callback([f] { run(*f); });
}

}  // namespace octet::cli
