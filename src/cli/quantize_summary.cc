// What `octet quantize` says at its end: where the bytes are, and what stayed in float.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "src/base/progress.h"
#include "src/checkpoint/model_folder.h"
#include "src/cli/cli.h"
#include "src/cli/quantize.h"

namespace octet::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// Roles in the order of the model; a role of several types is named once.
Rows size_rows(const QuantizeSummary& s) {
  const auto size = [](uint64_t bytes) { return bytes == 0 ? "-" : format_bytes(bytes); };
  Rows rows = {{"tensors", "type", "count", "before", "after"}};
  std::string last;
  for (const SummaryRow& r : s.rows) {
    rows.push_back({r.role == last ? "" : r.role, r.type, std::to_string(r.count),
                    size(r.bytes_before), size(r.bytes_after)});
    last = r.role;
  }
  rows.push_back({"all", "", "", format_bytes(s.bytes_before), format_bytes(s.bytes_after)});
  return rows;
}

// Ascending numbers as "0-4, 7", in lines that leave room beside them.
std::vector<std::string> ranges(const std::vector<int64_t>& numbers) {
  constexpr size_t kWidth = 20;
  std::vector<std::string> lines = {""};
  for (size_t i = 0; i < numbers.size();) {
    const size_t first = i++;
    while (i < numbers.size() && numbers[i] == numbers[i - 1] + 1) ++i;
    std::string range = std::to_string(numbers[first]);
    if (i - first > 1) range += fmt::format("-{}", numbers[i - 1]);
    if (lines.back().size() + range.size() > kWidth) lines.emplace_back();
    lines.back() += range + (i < numbers.size() ? ", " : "");
  }
  return lines;
}

// Linears of one role that have something in common.
struct Linears {
  std::vector<int64_t> layers;       // the head has none
  std::optional<std::string> words;  // a column of its own
};

void count_linear(const std::string& name, Linears& linears) {
  if (const auto layer = layer_of(name)) linears.layers.push_back(*layer);
}

void add_rows(std::string role, Linears linears, Rows& rows) {
  std::sort(linears.layers.begin(), linears.layers.end());  // names had 10 before 2
  for (const std::string& layers : ranges(linears.layers)) {
    std::vector<std::string>& row = rows.emplace_back(std::vector{role, layers});
    if (linears.words) row.push_back(*std::exchange(linears.words, ""));
    role.clear();
  }
}

std::string role_of(const std::string& name) { return name.substr(name.rfind('.') + 1); }

// A row for every role and reason: "--disable_level: score 6.6" for one linear, "--disable_level"
// for several whose scores differ.
Rows kept_rows(const QuantizeSummary& s) {
  std::map<std::string, std::map<std::string, Linears>> roles;
  for (const auto& [name, reason] : s.kept) {
    const std::string kind = reason.substr(0, reason.find(": "));
    const auto [it, first] = roles[role_of(name)].try_emplace(kind, Linears{{}, reason});
    if (it->second.words != reason) it->second.words = kind;
    count_linear(name, it->second);
  }
  Rows rows = {{"kept in float", "layers", "why"}};
  const auto of_role = [&](const std::string& role) {
    for (auto& [kind, linears] : roles[role]) add_rows(role, std::move(linears), rows);
  };
  for (const LinearRow& row : linear_rows()) of_role(short_name(row));
  of_role(kHead);
  if (s.kept.empty()) rows.push_back({"nothing", "", ""});
  return rows;
}

Rows per_token_rows(const QuantizeSummary& s) {
  std::map<std::string, Linears> roles;
  for (const std::string& name : s.per_token) count_linear(name, roles[role_of(name)]);
  Rows rows = {{"scale per token", "layers"}};
  for (const LinearRow& row : linear_rows())
    if (const auto it = roles.find(short_name(row)); it != roles.end())
      add_rows(it->first, std::move(it->second), rows);
  return rows;
}

}  // namespace

void warn_of_cut_groups(const QuantizeSummary& s) {
  const std::vector<std::string> cut = cut_from_groups(s.kept);
  if (cut.empty()) return;
  warning(fmt::format(
      "{}{} in float beside int8 of the same q/k/v or gate/up, as the tool leaves it: vLLM-Ascend "
      "refuses the folder. Leave --compat out, which keeps such groups whole, or name all linears "
      "of the group in --disable_names",
      cut[0], cut.size() == 1 ? " is" : fmt::format(" and {} more are", cut.size() - 1)));
}

void print_summary(const QuantizeSummary& s, const std::string& target) {
  fmt::print("{}\n{}\n", format_table(size_rows(s), {false, false, true, true, true}),
             format_table(kept_rows(s), {false, false, false}));
  if (!s.per_token.empty()) fmt::print("{}\n", format_table(per_token_rows(s), {false, false}));
  fmt::print("{} {} in {}\n", target, s.method, format_seconds(s.seconds));
}

}  // namespace octet::cli
