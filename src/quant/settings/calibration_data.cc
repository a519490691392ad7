#include "src/quant/settings/calibration_data.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/base/json.h"

namespace octet {
namespace {

constexpr const char* kNoun = "calibration text";
constexpr const char* kTextKeys[] = {"inputs_pretokenized", "prompt", "text"};

// `noun`: what errors call such a text.
std::string text_of(const json& object, const std::string& where, const std::string& noun) {
  if (object.is_object())
    for (const char* key : kTextKeys)
      if (const auto it = object.find(key); it != object.end() && it->is_string()) {
        std::string text = it->get<std::string>();
        if (text.empty()) throw Error("an empty " + noun).file(where).field(key);
        return text;
      }
  throw Error("no " + noun)
      .file(where)
      .expected("an object with the string `inputs_pretokenized` (or `prompt`, or `text`)")
      .found(object.is_object() ? "an object without one" : object.type_name());
}

// `line` with its newline.
std::string text_as_msmodelslim(std::string_view line, const std::string& where, const char* key) {
  const json object = parse_json(line, where);
  if (!object.is_object() || !object.contains(key)) return std::string(line);
  if (!object[key].is_string())
    throw Error("no calibration text").file(where).field(key).expected("a string");
  return object[key].get<std::string>();
}

json read_list(const fs::path& path, const char* expected) {
  json list = parse_json(read_text(path), path.string());
  if (!list.is_array()) throw Error("is no list").file(path.string()).expected(expected);
  return list;
}

void expect_texts(const std::vector<std::string>& texts, const fs::path& path,
                  const std::string& noun) {
  if (texts.empty()) throw Error("the file is empty: no " + noun).file(path.string());
}

std::string passage_name(const std::string& source, size_t number) {
  return fmt::format("{}, text {}", source, number);
}

std::vector<std::string> texts_of_lines(std::string_view all, const std::string& name,
                                        const std::string& noun) {
  std::vector<std::string> texts;
  for_each_line(all, [&](size_t number, std::string_view line) {
    const std::string where = fmt::format("{}, line {}", name, number);
    texts.push_back(text_of(parse_json(line, where), where, noun));
  });
  return texts;
}

}  // namespace

extern const char kBuiltinCalibration[];  // made by CMake from models/calibration/calib.jsonl

std::vector<std::string> builtin_calibration_texts() {
  return texts_of_lines(kBuiltinCalibration, "the built-in calibration text", kNoun);
}

std::vector<std::string> read_calibration_texts(const fs::path& path) {
  return read_texts(path, kNoun);
}

std::vector<std::string> read_texts(const fs::path& path, const std::string& noun) {
  std::vector<std::string> texts;
  if (path.extension() == ".json") {
    for (const json& item : read_list(path, "a JSON list of objects"))
      texts.push_back(text_of(item, fmt::format("{}, item {}", path.string(), texts.size()), noun));
  } else {
    texts = texts_of_lines(read_text(path), path.string(), noun);
  }
  expect_texts(texts, path, noun);
  return texts;
}

std::vector<std::string> read_calibration_texts_as_msmodelslim(const fs::path& path) {
  std::vector<std::string> texts;
  if (path.extension() == ".json") {
    for (const json& item : read_list(path, "a JSON list of objects")) {
      const std::string where = fmt::format("{}, item {}", path.string(), texts.size());
      if (!item.is_object() || !item.contains("prompt") || !item["prompt"].is_string())
        throw Error("no calibration text").file(where).expected("an object with a `prompt`");
      texts.push_back(item["prompt"].get<std::string>());
    }
  } else {
    const char* key = path == "humaneval_x.jsonl" ? "prompt" : kTextKeys[0];
    const std::string all = read_text(path);
    for (size_t begin = 0; begin < all.size();) {
      const size_t end = std::min(all.find('\n', begin), all.size() - 1) + 1;
      texts.push_back(
          text_as_msmodelslim(std::string_view(all).substr(begin, end - begin),
                              fmt::format("{}, line {}", path.string(), texts.size() + 1), key));
      begin = end;
    }
  }
  expect_texts(texts, path, kNoun);
  return texts;
}

std::vector<std::string> OutlierTexts::all() const {
  std::vector<std::string> texts;
  for (const auto& group : groups) texts.insert(texts.end(), group.begin(), group.end());
  return texts;
}

OutlierTexts read_outlier_texts(const fs::path& path, bool as_msmodelslim) {
  constexpr size_t kGroup = 4;
  OutlierTexts result;
  if (path.extension() != ".json") {
    result.special_tokens = false;
    for (std::string& text : as_msmodelslim ? read_calibration_texts_as_msmodelslim(path)
                                            : read_calibration_texts(path)) {
      if (result.groups.empty() || result.groups.back().size() == kGroup)
        result.groups.emplace_back();
      result.groups.back().push_back(std::move(text));
    }
    return result;
  }
  for (const json& item : read_list(path, "a JSON list of lists of texts, or of objects")) {
    const std::string where = fmt::format("{}, item {}", path.string(), result.groups.size());
    std::vector<std::string>& group = result.groups.emplace_back();
    if (!item.is_array()) {
      group.push_back(text_of(item, where, kNoun));
      continue;
    }
    for (const json& text : item) {
      if (!text.is_string() || text.get<std::string>().empty())
        throw Error("no calibration text").file(where).expected("a list of texts");
      group.push_back(text.get<std::string>());
    }
    if (group.empty()) throw Error("no calibration text").file(where).expected("a list of texts");
  }
  expect_texts(result.all(), path, kNoun);
  return result;
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
                                           const std::string& source,
                                           const text::Tokenizer& tokenizer, size_t max_tokens) {
  std::vector<std::vector<int32_t>> samples;
  for (const std::string& text : texts) {
    std::vector<int32_t> ids = tokenizer.encode(text, /*add_special_tokens=*/true,
                                                passage_name(source, samples.size() + 1));
    if (ids.size() > max_tokens) ids.resize(max_tokens);
    samples.push_back(std::move(ids));
  }
  return samples;
}

std::vector<std::vector<std::vector<int32_t>>> tokenize_padded(const OutlierTexts& texts,
                                                               const std::string& source,
                                                               const text::Tokenizer& tokenizer) {
  std::vector<std::vector<std::vector<int32_t>>> batches;
  size_t number = 0;
  for (const auto& group : texts.groups) {
    auto& batch = batches.emplace_back();
    size_t longest = 0;
    for (const std::string& text : group) {
      batch.push_back(tokenizer.encode(text, texts.special_tokens, passage_name(source, ++number)));
      longest = std::max(longest, batch.back().size());
    }
    for (auto& ids : batch) ids.resize(longest, 0);
  }
  return batches;
}

}  // namespace octet
