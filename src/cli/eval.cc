// `octet eval`: float beside quantized in one table.
#include "src/eval/eval.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/progress.h"
#include "src/cli/cli.h"
#include "src/cli/compared_models.h"
#include "src/cli/ranks.h"
#include "src/eval/choices.h"
#include "src/eval/layer_noise.h"
#include "src/eval/summary.h"
#include "src/eval/yes_no.h"

namespace octet::cli {
namespace {

struct EvalFlags {
  std::vector<std::string> models;
  TextFlags text;
  std::string yes_no, choices;
  bool layers = false, as_json = false, quiet = false;
  size_t ranks = 1;
};

// A question to be answered by yes or no, and the first tokens of the two answers.
struct Question {
  std::vector<int32_t> prompt;
  int32_t right, wrong;
};

// What one model scored on questions, and of --layers.
struct Scored {
  std::vector<bool> yes_no, acc, acc_norm;  // one a question
  std::vector<LinearNoise> layers;
};

// What all scored on --text.
struct Texts {
  ordered_json which;                          // describe_texts
  std::vector<std::vector<TextScore>> scores;  // by model; empty without --text
};

void expect_short(size_t tokens, size_t max_tokens, const std::string& where) {
  if (tokens > max_tokens)
    throw Error("a question longer than --max-tokens")
        .file(where)
        .expected(fmt::format("at most {} tokens", max_tokens))
        .found(std::to_string(tokens));
}

std::string question_name(const std::string& path, size_t number) {
  return fmt::format("{}, question {}", path, number);
}

std::vector<Question> encode_yes_no(const std::string& path, const text::Tokenizer& tokenizer,
                                    size_t max_tokens) {
  const auto first_token = [&](const char* word) {
    return tokenizer.encode(word, /*add_special_tokens=*/false, "the answers of --yes-no").at(0);
  };
  const int32_t yes = first_token(" yes"), no = first_token(" no");
  std::vector<Question> questions;
  for (const YesNoText& text : read_yes_no(path)) {
    const std::string where = question_name(path, questions.size() + 1);
    questions.push_back(
        {tokenizer.encode(text.prompt, true, where), text.yes ? yes : no, text.yes ? no : yes});
    expect_short(questions.back().prompt.size(), max_tokens, where);
  }
  return questions;
}

std::vector<ChoiceQuestion> encode_choices(const std::string& path,
                                           const text::Tokenizer& tokenizer, size_t max_tokens) {
  std::vector<ChoiceQuestion> questions;
  for (const ChoiceText& text : read_choices(path)) {
    const std::string where = question_name(path, questions.size() + 1);
    questions.push_back(encode(text, tokenizer, where));
    expect_short(questions.back().longest(), max_tokens, where);
  }
  return questions;
}

void answer_yes_no(const std::vector<Question>& questions, const std::vector<Scorer*>& models,
                   std::vector<Scored>& scored, const std::function<void()>& step) {
  for (const Question& q : questions) {
    for (size_t i = 0; i < models.size(); ++i)
      scored[i].yes_no.push_back(prefers(*models[i], q.prompt, q.right, q.wrong));
    step();
  }
}

void answer_choices(const std::vector<ChoiceQuestion>& questions,
                    const std::vector<Scorer*>& models, std::vector<Scored>& scored,
                    const std::function<void()>& step) {
  for (const ChoiceQuestion& q : questions) {
    for (size_t i = 0; i < models.size(); ++i) {
      const ChoiceResult result = judge(q, log_likelihoods(*models[i], q));
      scored[i].acc.push_back(result.acc);
      scored[i].acc_norm.push_back(result.acc_norm);
    }
    step();
  }
}

void print_json(const std::vector<ComparedModel>& models, const Texts& texts,
                const std::vector<Scored>& scored) {
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < models.size(); ++i) {
    ordered_json m = {{"model", models[i].path},
                      {"type", models[i].folder->type_words()},
                      {"weight_bytes", models[i].folder->tensors().total_bytes()}};
    if (!texts.scores.empty()) {
      m.update(texts.which);
      add_text(m, summarize(texts.scores[0], texts.scores[i]), i == 0);
    }
    const Scored& s = scored[i];
    if (!s.yes_no.empty()) {
      m["yes_no_questions"] = s.yes_no.size();
      add_figure(m, "yes_no", accuracy(s.yes_no));
    }
    if (!s.acc.empty()) {
      m["choice_questions"] = s.acc.size();
      add_figure(m, "acc", accuracy(s.acc));
      add_figure(m, "acc_norm", accuracy(s.acc_norm));
    }
    if (!s.layers.empty()) m["layers"] = to_json(s.layers);
    list.push_back(m);
  }
  fmt::print("{}\n", list.dump(2));
}

// "12.345 [11.9, 12.8]".
std::string cell(const Figure& f, int digits, double factor = 1) {
  std::string s = fmt::format("{:.{}f}", factor * f.value, digits);
  if (f.interval)
    s += fmt::format(" [{:.{}f}, {:.{}f}]", factor * f.interval->low, digits,
                     factor * f.interval->high, digits);
  return s;
}
std::string percent(const Figure& f) { return cell(f, 1, 100); }

// "boolq.jsonl: 50 yes/no questions".
std::string questions_line(const std::string& file, size_t count, const char* kind) {
  return fmt::format("{}: {} {} question{}", fs::path(file).filename().string(), count, kind,
                     count == 1 ? "" : "s");
}

// "wiki.txt: 1 passage in 34 windows of 1024 tokens, stride 512; 17407 tokens predicted".
std::string text_line(const Texts& texts) {
  const auto get = [&](const char* key) { return texts.which.at(key).get<size_t>(); };
  const auto counted = [&](const char* key, const char* one) {
    return fmt::format("{} {}{}", get(key), one, get(key) == 1 ? "" : "s");
  };
  return fmt::format("{}: {} {}; {} tokens predicted", texts.which.at("text").get<std::string>(),
                     counted("passages", "passage"),
                     texts.which.contains("window")
                         ? fmt::format("in {} of {} tokens, stride {}",
                                       counted("windows", "window"), get("window"), get("stride"))
                         : fmt::format("of at most {} tokens", get("max_tokens")),
                     summarize(texts.scores[0], texts.scores[0]).tokens);
}

// Figures below each other, models side by side.
void print_table(const EvalFlags& f, const std::vector<ComparedModel>& models, const Texts& texts,
                 const std::vector<Scored>& scored) {
  std::vector<std::vector<std::string>> rows;
  const auto row = [&](const char* name, const std::function<std::string(size_t)>& of) {
    auto& cells = rows.emplace_back(std::vector<std::string>{name});
    for (size_t i = 0; i < models.size(); ++i) cells.push_back(of(i));
  };
  row("model", [&](size_t i) { return models[i].path; });
  row("type", [&](size_t i) { return models[i].folder->type_words(); });
  row("size", [&](size_t i) { return format_bytes(models[i].folder->tensors().total_bytes()); });
  if (!texts.scores.empty()) {
    std::vector<TextSummary> sums;
    for (const auto& scores : texts.scores) sums.push_back(summarize(texts.scores[0], scores));
    const auto against = [&](const char* name, const std::function<std::string(size_t)>& of) {
      row(name, [&](size_t i) { return i == 0 ? "-" : of(i); });
    };
    row("perplexity", [&](size_t i) { return cell(sums[i].perplexity, 3); });
    against("... / the first's", [&](size_t i) { return cell(sums[i].ratio, 4); });
    against("KL per token", [&](size_t i) { return cell(sums[i].kl, 5); });
    against("same top-1, %", [&](size_t i) { return percent(sums[i].top1); });
    against("same top-5, %", [&](size_t i) { return percent(sums[i].top5); });
    against("largest logit error",
            [&](size_t i) { return fmt::format("{:.3f}", sums[i].largest_error); });
  }
  if (!scored[0].yes_no.empty())
    row("yes/no right, %", [&](size_t i) { return percent(accuracy(scored[i].yes_no)); });
  if (!scored[0].acc.empty()) {
    row("choices acc, %", [&](size_t i) { return percent(accuracy(scored[i].acc)); });
    row("choices acc_norm, %", [&](size_t i) { return percent(accuracy(scored[i].acc_norm)); });
  }
  fmt::print("{}", format_table(rows, std::vector<bool>(models.size() + 1, false)));
  if (!texts.scores.empty()) {
    fmt::print("{}\n", text_line(texts));
    if (models.size() > 1)
      fmt::print("ratio, KL, agreement and logit error: against the first model\n");
  }
  if (const size_t n = scored[0].yes_no.size(); n > 0)
    fmt::print("{}\n", questions_line(f.yes_no, n, "yes/no"));
  if (const size_t n = scored[0].acc.size(); n > 0)
    fmt::print("{}\n", questions_line(f.choices, n, "multiple-choice"));
  // The first three rows say what the models are.
  const bool interval = std::any_of(rows.begin() + 3, rows.end(), [](const auto& cells) {
    return std::ranges::any_of(cells, [](const std::string& c) { return c.ends_with("]"); });
  });
  if (interval) fmt::print("[low, high]: 95 % of 1000 bootstrap draws\n");
}

void print_layers(const std::vector<ComparedModel>& models, const std::vector<Scored>& scored) {
  const auto db = [](const std::optional<double>& v) {
    return v ? fmt::format("{:.1f}", *v) : "-";
  };
  for (size_t i = 1; i < models.size(); ++i) {
    fmt::print("\nsignal-to-noise in dB, {} against {}\n", models[i].path, models[0].path);
    std::vector<std::vector<std::string>> rows = {
        {"linear", "type", "rounding of input", "input", "output"}};
    for (const LinearNoise& l : scored[i].layers)
      rows.push_back({l.name, l.type, db(l.rounding), db(l.input), db(l.output)});
    fmt::print("{}", format_table(rows, {false, false, true, true, true}));
  }
}

void check_eval_flags(const EvalFlags& f) {
  if (f.text.file.empty() && f.yes_no.empty() && f.choices.empty())
    throw usage_error("nothing to evaluate on: give --text, --yes-no or --choices FILE");
  if (f.layers && (f.text.file.empty() || f.models.size() < 2))
    throw usage_error("--layers compares models on --text: give that and two models or more");
}

void evaluate_model(const EvalFlags& f, Communicator& ranks) {
  if (f.layers && ranks.size() > 1)
    throw usage_error(
        "--layers looks at whole linears, and a rank has parts of them: give no --tp");
  ThreadTeam team;
  std::vector<ComparedModel> models = load_models(f.models, f.text, team, &ranks);
  std::vector<Scorer*> scorers;
  for (ComparedModel& m : models) scorers.push_back(m.scorer.get());
  ranks.meet();
  if (ranks.rank() != 0) return Scorer::follow(ranks, scorers);
  const text::Tokenizer tokenizer = tokenizer_of(f.models[0]);
  const size_t longest = f.text.max_tokens;
  std::vector<std::vector<int32_t>> texts;
  if (!f.text.file.empty()) texts = encode_texts(f.text, tokenizer);
  std::vector<Question> questions;
  if (!f.yes_no.empty()) questions = encode_yes_no(f.yes_no, tokenizer, longest);
  std::vector<ChoiceQuestion> choices;
  if (!f.choices.empty()) choices = encode_choices(f.choices, tokenizer, longest);

  Progress progress("eval", "passage",
                    static_cast<int64_t>(count_windows(texts, f.text.size(), f.text.step()) +
                                         questions.size() + choices.size()),
                    f.quiet);
  int64_t done = 0;
  const auto step = [&] { progress.update(++done); };
  std::vector<Scored> scored(models.size());
  Texts on_text;
  std::optional<LayerNoise> noise;
  if (!texts.empty()) {
    if (f.layers) {
      std::vector<Transformer*> watched;
      for (ComparedModel& m : models) watched.push_back(m.model.get());
      noise.emplace(watched);
    }
    on_text = {describe_texts(f.text, texts),
               score_texts(scorers, texts, f.text.size(), f.text.step(), step)};
    if (noise) noise->stop();
    for (size_t i = 1; noise && i < models.size(); ++i) scored[i].layers = noise->of(i);
  }
  answer_yes_no(questions, scorers, scored, step);
  answer_choices(choices, scorers, scored, step);
  progress.finish();
  models[0].model->release();
  if (f.as_json) return print_json(models, on_text, scored);
  print_table(f, models, on_text, scored);
  if (f.layers) print_layers(models, scored);
}

}  // namespace

void add_eval(Verb program) {
  const Verb verb = program.verb("eval", "what quantization costs: float beside quantized");
  auto f = std::make_shared<EvalFlags>();
  verb.list("models", f->models, "model folders; the first is the reference").required();
  add_text_flags(verb, f->text, /*questions=*/true);
  verb.toggle("--layers", f->layers,
              "also the signal-to-noise at the input and output of every linear, on --text");
  verb.text(
          "--yes-no", f->yes_no,
          "questions: .jsonl with `inputs_pretokenized` (or `passage` and `question`) and `answer` "
          "(yes, no, true or false), as BoolQ has them")
      .metavar("FILE");
  verb.text("--choices", f->choices,
            "multiple choice: .jsonl with a question, its answers and the right one, as "
            "lm-eval's tasks have them")
      .metavar("FILE");
  verb.toggle("--json", f->as_json, "machine-readable");
  verb.toggle("--quiet", f->quiet, "no progress");
  add_ranks_flag(verb, f->ranks);
  verb.run([f, verb] {
    check_eval_flags(*f);
    verb.expect_companions();
    on_ranks(f->ranks, [&](Communicator& ranks) { evaluate_model(*f, ranks); });
  });
}

}  // namespace octet::cli
