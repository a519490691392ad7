// A map of a YAML file whose fields are taken one by one; what is left over is refused by name.
#pragma once

#include <yaml-cpp/yaml.h>

#include <set>
#include <string>
#include <vector>

#include "src/base/error.h"

namespace octet {

// The fields of one map. What reads a field takes it, see finish(); a value of another type, or
// outside of [low, high], is a kUsage Error. A field that is not there has the value `fallback`.
class YamlMap {
 public:
  // `path`: where in the file it is, for messages: "spec.process[0]". A null node is an empty map.
  YamlMap(const YAML::Node& node, std::string where, std::string path);

  bool has(const std::string& name);
  std::string text(const std::string& name, const std::string& fallback);
  // One of `words`.
  std::string word(const std::string& name, const std::string& fallback,
                   const std::vector<std::string>& words);
  double number(const std::string& name, double fallback, double low, double high);
  int64_t integer(const std::string& name, int64_t fallback, int64_t low, int64_t high);
  bool flag(const std::string& name, bool fallback);
  std::vector<std::string> names(const std::string& name, std::vector<std::string> fallback);
  // The map, or the maps of the list, under a field; empty ones where it is not there.
  YamlMap map(const std::string& name);
  std::vector<YamlMap> list(const std::string& name);
  void ignore(const std::string& name) { taken_.insert(name); }
  // Throws kUsage Error for a field that nobody has taken; those that were taken are the known
  // ones.
  void finish() const;

  const std::string& path() const { return path_; }
  // With the line of the field, or of the map that lacks it.
  Error wrong(const std::string& name, const std::string& expected, const std::string& found) const;

 private:
  YAML::Node find(const std::string& name) const;
  YAML::Node take(const std::string& name);
  Error error(const char* what, const std::string& name, const YAML::Mark& mark) const;

  YAML::Node node_;
  std::string where_, path_;
  std::set<std::string> taken_;
};

}  // namespace octet
