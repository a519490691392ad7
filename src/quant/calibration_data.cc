#include "src/quant/calibration_data.h"

#include <fmt/format.h>

#include "src/base/error.h"
#include "src/base/json.h"

namespace octet {
namespace {

constexpr const char* kTextKeys[] = {"inputs_pretokenized", "prompt", "text"};

std::string text_of(const json& object, const std::string& where) {
  if (object.is_object())
    for (const char* key : kTextKeys)
      if (const auto it = object.find(key); it != object.end() && it->is_string()) {
        std::string text = it->get<std::string>();
        if (text.empty()) throw Error("an empty calibration text").file(where).field(key);
        return text;
      }
  throw Error("no calibration text")
      .file(where)
      .expected("an object with the string `inputs_pretokenized` (or `prompt`, or `text`)")
      .found(object.is_object() ? "an object without one" : object.type_name());
}

std::vector<std::string> texts_of_lines(std::string_view all, const std::string& name) {
  std::vector<std::string> texts;
  for_each_line(all, [&](size_t number, std::string_view line) {
    const std::string where = fmt::format("{}, line {}", name, number);
    texts.push_back(text_of(parse_json(line, where), where));
  });
  return texts;
}

}  // namespace

extern const char kBuiltinCalibration[];  // made by CMake from models/calibration/calib.jsonl

std::vector<std::string> builtin_calibration_texts() {
  return texts_of_lines(kBuiltinCalibration, "the built-in calibration text");
}

std::vector<std::string> read_calibration_texts(const fs::path& path) {
  const std::string all = read_text(path);
  std::vector<std::string> texts;
  if (path.extension() == ".json") {
    const json list = parse_json(all, path.string());
    if (!list.is_array())
      throw Error("is no list").file(path.string()).expected("a JSON list of objects");
    for (const json& item : list)
      texts.push_back(text_of(item, fmt::format("{}, item {}", path.string(), texts.size())));
  } else {
    texts = texts_of_lines(all, path.string());
  }
  if (texts.empty()) throw Error("the calibration file is empty").file(path.string());
  return texts;
}

std::vector<std::vector<int32_t>> read_calibration_tokens(const fs::path& path) {
  const json list = parse_json(read_text(path), path.string());
  const auto wrong = [&] {
    return Error("is no list of lists of token ids")
        .file(path.string())
        .expected("[[1, 2, 3], [4, 5]]");
  };
  if (!list.is_array() || list.empty()) throw wrong();
  std::vector<std::vector<int32_t>> samples;
  for (const json& sample : list) {
    if (!sample.is_array()) throw wrong();
    std::vector<int32_t>& ids = samples.emplace_back();
    for (const json& id : sample) {
      if (!id.is_number_integer() || id < 0 || id > INT32_MAX) throw wrong();
      ids.push_back(id.get<int32_t>());
    }
  }
  return samples;
}

std::vector<std::vector<int32_t>> tokenize(const std::vector<std::string>& texts,
                                           const text::Tokenizer& tokenizer, size_t max_tokens) {
  std::vector<std::vector<int32_t>> samples;
  for (const std::string& text : texts) {
    std::vector<int32_t> ids = tokenizer.encode(text, /*add_special_tokens=*/true);
    if (ids.size() > max_tokens) ids.resize(max_tokens);
    samples.push_back(std::move(ids));
  }
  return samples;
}

}  // namespace octet
