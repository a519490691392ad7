#include "src/quant/settings/yaml_map.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace octet {
namespace {

std::string shown(const YAML::Node& node) {
  return node.IsScalar() ? node.Scalar()
         : node.IsMap()  ? "a map"
         : node.IsNull() ? "nothing"
                         : "a list";
}

}  // namespace

YamlMap::YamlMap(const YAML::Node& node, std::string where, std::string path)
    : node_(node), where_(std::move(where)), path_(std::move(path)) {
  if (!node_.IsNull() && !node_.IsMap()) throw wrong("", "a map of fields", shown(node_));
}

// The field, or null.
YAML::Node YamlMap::find(const std::string& name) const {
  if (!node_.IsMap()) return {};
  const YAML::Node value = node_[name];
  return value.IsDefined() ? value : YAML::Node();
}

YAML::Node YamlMap::take(const std::string& name) {
  taken_.insert(name);
  return find(name);
}

bool YamlMap::has(const std::string& name) { return !take(name).IsNull(); }

std::string YamlMap::text(const std::string& name, const std::string& fallback) {
  if (!has(name)) return fallback;
  const YAML::Node value = take(name);
  if (!value.IsScalar()) throw wrong(name, "a text", shown(value));
  return value.Scalar();
}

std::string YamlMap::word(const std::string& name, const std::string& fallback,
                          const std::vector<std::string>& words) {
  const std::string value = text(name, fallback);
  if (std::ranges::find(words, value) == words.end())
    throw wrong(name, fmt::format("{}", fmt::join(words, ", ")), value.empty() ? "nothing" : value);
  return value;
}

double YamlMap::number(const std::string& name, double fallback, double low, double high) {
  if (!has(name)) return fallback;
  const YAML::Node value = take(name);
  double number = 0;
  if (!value.IsScalar() || !YAML::convert<double>::decode(value, number) ||
      !(number >= low && number <= high))
    throw wrong(name, fmt::format("a number from {} to {}", low, high), shown(value));
  return number;
}

int64_t YamlMap::integer(const std::string& name, int64_t fallback, int64_t low, int64_t high) {
  if (!has(name)) return fallback;
  const YAML::Node value = take(name);
  int64_t number = 0;
  if (!value.IsScalar() || !YAML::convert<int64_t>::decode(value, number) || number < low ||
      number > high)
    throw wrong(name, fmt::format("a whole number from {} to {}", low, high), shown(value));
  return number;
}

bool YamlMap::flag(const std::string& name, bool fallback) {
  if (!has(name)) return fallback;
  const YAML::Node value = take(name);
  bool flag = false;
  if (!value.IsScalar() || !YAML::convert<bool>::decode(value, flag))
    throw wrong(name, "True or False", shown(value));
  return flag;
}

std::vector<std::string> YamlMap::names(const std::string& name,
                                        std::vector<std::string> fallback) {
  if (!has(name)) return fallback;
  const YAML::Node value = take(name);
  if (!value.IsSequence()) throw wrong(name, "a list of names", shown(value));
  std::vector<std::string> names;
  for (const YAML::Node& item : value) {
    if (!item.IsScalar()) throw wrong(name, "a list of names", shown(item));
    names.push_back(item.Scalar());
  }
  return names;
}

YamlMap YamlMap::map(const std::string& name) {
  return {take(name), where_, path_.empty() ? name : path_ + "." + name};
}

std::vector<YamlMap> YamlMap::list(const std::string& name) {
  if (!has(name)) return {};
  const YAML::Node value = take(name);
  if (!value.IsSequence()) throw wrong(name, "a list", shown(value));
  std::vector<YamlMap> maps;
  for (size_t i = 0; i < value.size(); ++i)
    maps.emplace_back(value[i], where_, fmt::format("{}.{}[{}]", path_, name, i));
  return maps;
}

void YamlMap::finish() const {
  if (!node_.IsMap()) return;
  for (const auto& entry : node_)
    if (const std::string name = entry.first.Scalar(); !taken_.contains(name))
      throw error("an unknown field", name, entry.first.Mark())
          .expected(taken_.empty() ? "no field" : fmt::format("{}", fmt::join(taken_, ", ")));
}

Error YamlMap::wrong(const std::string& name, const std::string& expected,
                     const std::string& found) const {
  const YAML::Mark mark = find(name).Mark();
  return error("this is not supported", name, mark.is_null() ? node_.Mark() : mark)
      .expected(expected)
      .found(found);
}

Error YamlMap::error(const char* what, const std::string& name, const YAML::Mark& mark) const {
  return Error(what, ErrorKind::kUsage)
      .file(mark.is_null() ? where_ : fmt::format("{}, line {}", where_, mark.line + 1))
      .field(name.empty() || path_.empty() ? path_ + name : path_ + "." + name);
}

}  // namespace octet
