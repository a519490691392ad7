#include "src/eval/choices.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/json_member.h"
#include "src/base/utf8.h"

namespace octet {
namespace {

const json* first_of(const json& object, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (const json* member = find_member(object, key)) return member;
  return nullptr;
}

std::vector<std::string> strings(const json& list, const std::string& where, const char* field) {
  if (!list.is_array()) throw Error("is no list").file(where).field(field);
  std::vector<std::string> out;
  for (const json& item : list) {
    if (!item.is_string() || item.get<std::string>().empty())
      throw Error("an answer that is no text").file(where).field(field);
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::optional<size_t> position(const std::vector<std::string>& list, const std::string& word) {
  const auto it = std::find(list.begin(), list.end(), word);
  if (it == list.end()) return std::nullopt;
  return static_cast<size_t>(it - list.begin());
}

// Labels, if there are any, win: ARC counts some of its answers from "1".
std::optional<size_t> gold_of(const json& gold, const std::vector<std::string>& labels,
                              const std::vector<std::string>& choices) {
  if (gold.is_number_integer()) {
    const int64_t index = gold.get<int64_t>();
    return index < 0 ? std::nullopt : std::optional<size_t>(static_cast<size_t>(index));
  }
  if (!gold.is_string()) return std::nullopt;
  const std::string word = gold.get<std::string>();
  if (!labels.empty()) return position(labels, word);
  if (const auto at = position(choices, word)) return at;
  if (word.size() == 1 && word[0] >= 'A' && word[0] <= 'Z') return word[0] - 'A';
  if (word.size() == 1 && word[0] >= '0' && word[0] <= '9') return word[0] - '0';
  return std::nullopt;
}

ChoiceText parse(const json& object, const std::string& where) {
  if (!object.is_object()) throw Error("is no object").file(where);
  ChoiceText q;
  const json* context =
      first_of(object, {"query", "question", "ctx", "context", "prompt", "inputs_pretokenized"});
  if (context == nullptr || !context->is_string() || context->get<std::string>().empty())
    throw Error("no question")
        .file(where)
        .expected("a string under query, question, ctx, context, prompt or inputs_pretokenized");
  q.context = context->get<std::string>();
  const json* choices = first_of(object, {"choices", "endings"});
  if (choices == nullptr)
    throw Error("no answers").file(where).expected("a list under choices or endings");
  std::vector<std::string> labels;
  const json* texts = choices->is_object() ? find_member(*choices, "text") : nullptr;
  if (texts != nullptr) {  // ARC names its answers, "A" or "1"
    if (const json* names = find_member(*choices, "label"))
      labels = strings(*names, where, "choices.label");
    q.choices = strings(*texts, where, "choices.text");
  } else {
    q.choices = strings(*choices, where, "choices");
  }
  if (q.choices.size() < 2)
    throw Error("too few answers")
        .file(where)
        .expected("two or more")
        .found(std::to_string(q.choices.size()));
  const json* gold = first_of(object, {"gold", "label", "answer", "answerKey"});
  if (gold == nullptr)
    throw Error("no right answer").file(where).expected("gold, label, answer or answerKey");
  const std::optional<size_t> at = gold_of(*gold, labels, q.choices);
  if (!at || *at >= q.choices.size())
    throw Error("the right answer is none of the answers")
        .file(where)
        .expected(
            fmt::format("a number below {}, a letter, a label or an answer", q.choices.size()))
        .found(gold->dump());
  q.gold = *at;
  return q;
}

}  // namespace

std::vector<ChoiceText> read_choices(const fs::path& path) {
  std::vector<ChoiceText> questions;
  for_each_line(read_text(path), [&](size_t number, std::string_view line) {
    const std::string where = fmt::format("{}, line {}", path.string(), number);
    questions.push_back(parse(parse_json(line, where), where));
  });
  if (questions.empty()) throw Error("no questions").file(path.string());
  return questions;
}

size_t ChoiceQuestion::longest() const {
  size_t most = 0;
  for (const auto& a : answers) most = std::max(most, a.size());
  return context.size() + most;
}

ChoiceQuestion encode(const ChoiceText& text, const text::Tokenizer& tokenizer,
                      const std::string& where) {
  const size_t end = text.context.find_last_not_of(" \t\n\r\f\v") + 1;
  if (end == 0) throw Error("a question of white space").file(where);
  const std::string context = text.context.substr(0, end), space = text.context.substr(end) + " ";
  ChoiceQuestion q;
  q.gold = text.gold;
  q.context = tokenizer.encode(context, true, where);
  for (const std::string& choice : text.choices) {
    const std::vector<int32_t> all = tokenizer.encode(context + space + choice, true, where);
    if (all.size() <= q.context.size())
      throw Error("an answer that adds no token").file(where).found(choice);
    q.answers.emplace_back(all.begin() + static_cast<ptrdiff_t>(q.context.size()), all.end());
    q.characters.push_back(utf8_length(choice));
  }
  return q;
}

std::vector<double> log_likelihoods(Scorer& model, const ChoiceQuestion& q) {
  const size_t vocab = model.vocab();
  const auto log_p = [&](const float* logits, int32_t id) {
    return static_cast<double>(logits[id]) - log_sum_exp(logits, vocab);
  };
  model.rewind(0);
  const float* after_context = model.last_logits(q.context);
  std::vector<double> sums;
  for (const auto& answer : q.answers) sums.push_back(log_p(after_context, answer[0]));
  for (size_t a = 0; a < q.answers.size(); ++a) {
    model.rewind(q.context.size());
    const std::span<const int32_t> answer = q.answers[a];
    for (size_t begin = 0; begin + 1 < answer.size(); begin += Scorer::kChunk) {
      const size_t count = std::min(Scorer::kChunk, answer.size() - 1 - begin);
      const float* logits = model.next(answer.subspan(begin, count)).data();
      for (size_t r = 0; r < count; ++r)
        sums[a] += log_p(logits + r * vocab, answer[begin + r + 1]);
    }
  }
  return sums;
}

ChoiceResult judge(const ChoiceQuestion& q, const std::vector<double>& sums) {
  std::vector<double> scaled;
  for (size_t i = 0; i < sums.size(); ++i)
    scaled.push_back(sums[i] / static_cast<double>(q.characters[i]));
  const auto best = [](const std::vector<double>& v) {
    return static_cast<size_t>(std::max_element(v.begin(), v.end()) - v.begin());
  };
  return {best(sums) == q.gold, best(scaled) == q.gold};
}

}  // namespace octet
