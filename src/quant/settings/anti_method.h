// The methods of outlier suppression (--anti_method), by name; what they do: msmodelslim/outlier.h.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace octet {

enum class AntiMethod { kNone, kM1, kM2, kM3, kM4, kM5, kM6 };

struct AntiMethodRow {
  AntiMethod method;
  const char* name;   // "m1"; "" for none
  const char* words;  // for people
  bool wraps_norms;   // the tool leaves a bias of zeros on every norm
};
std::span<const AntiMethodRow> anti_method_rows();
const AntiMethodRow& anti_method_row(AntiMethod method);

inline std::string anti_method_name(AntiMethod method) { return anti_method_row(method).name; }
std::optional<AntiMethod> parse_anti_method(const std::string& name);
// As a recipe has them, with "none".
std::vector<std::pair<const char*, AntiMethod>> anti_method_words();

}  // namespace octet
