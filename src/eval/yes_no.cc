#include "src/eval/yes_no.h"

#include <fmt/format.h>

#include <optional>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/json_member.h"

namespace octet {
namespace {

std::optional<bool> answer_of(const json& v) {
  if (v.is_boolean()) return v.get<bool>();
  if (v == "yes" || v == 1) return true;
  if (v == "no" || v == 0) return false;
  return std::nullopt;
}

std::string prompt_of(const json& object, const std::string& where) {
  const auto text = [&](const char* key) { return get_string_or(object, key, "", where); };
  if (std::string whole = text("inputs_pretokenized"); !whole.empty()) return whole;
  std::string passage = text("passage"), question = text("question");
  if (passage.empty() || question.empty())
    throw Error("no question")
        .file(where)
        .expected("a string `inputs_pretokenized`, or strings `passage` and `question`");
  if (const std::string title = text("title"); !title.empty() && !passage.starts_with(title))
    passage = title + " -- " + passage;
  if (!question.ends_with("?")) question += "?";
  return passage + "\nQuestion: " + question + "\nAnswer:";
}

}  // namespace

std::vector<YesNoText> read_yes_no(const fs::path& path) {
  std::vector<YesNoText> questions;
  for_each_line(read_text(path), [&](size_t number, std::string_view line) {
    const std::string where = fmt::format("{}, line {}", path.string(), number);
    const json object = parse_json(line, where);
    if (!object.is_object()) throw Error("is no object").file(where);
    const json* given = find_member(object, "answer");
    if (given == nullptr) given = find_member(object, "label");
    const std::optional<bool> yes = given == nullptr ? std::nullopt : answer_of(*given);
    if (!yes)
      throw Error("no answer")
          .file(where)
          .field("answer")
          .expected("yes, no, true or false")
          .found(given == nullptr ? "nothing" : given->dump());
    questions.push_back({prompt_of(object, where), *yes});
  });
  if (questions.empty()) throw Error("no questions").file(path.string());
  return questions;
}

}  // namespace octet
