#include "src/quant/settings/anti_method.h"

#include "src/base/error.h"

namespace octet {
namespace {

constexpr AntiMethodRow kRows[] = {
    {AntiMethod::kNone, "", "none", false},
    {AntiMethod::kM1, "m1", "SmoothQuant", true},
    {AntiMethod::kM2, "m2", "SmoothQuant with a search", true},
    {AntiMethod::kM3, "m3", "AWQ", true},
    {AntiMethod::kM4, "m4", "iterative smooth", true},
    {AntiMethod::kM5, "m5", "CBQ", true},
    {AntiMethod::kM6, "m6", "flex smooth", false},
};

}  // namespace

std::span<const AntiMethodRow> anti_method_rows() { return kRows; }

const AntiMethodRow& anti_method_row(AntiMethod method) {
  const AntiMethodRow& row = kRows[static_cast<size_t>(method)];
  OCTET_CHECK(row.method == method);
  return row;
}

std::optional<AntiMethod> parse_anti_method(const std::string& name) {
  for (const AntiMethodRow& row : kRows)
    if (name == row.name) return row.method;
  return std::nullopt;
}

std::vector<std::pair<const char*, AntiMethod>> anti_method_words() {
  std::vector<std::pair<const char*, AntiMethod>> words;
  for (const AntiMethodRow& row : kRows)
    words.emplace_back(row.method == AntiMethod::kNone ? "none" : row.name, row.method);
  return words;
}

}  // namespace octet
