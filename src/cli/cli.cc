#include "src/cli/cli.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/base/say.h"
#include "src/checkpoint/model_folder.h"
#include "src/cli/flags.h"
#include "src/cli/spelling.h"

namespace octet::cli {

int explain_exception(const std::string& who) {
  try {
    throw;
  } catch (const Exit& e) {
    return e.code;
  } catch (const Interrupted& e) {
    say(fmt::format("octet: interrupted{}{}\n", e.remedy.empty() ? "" : ": ", e.remedy));
    return kInterrupted;
  } catch (const Error& e) {
    say(fmt::format("octet: error: {}{}\n", who, as_typed(e.what())));
    return e.kind() == ErrorKind::kUsage ? 2 : 1;
  } catch (const std::bad_alloc&) {
    for (const std::string_view part : {"octet: error: ", who.c_str(), "out of memory\n"})
      say(part);
  } catch (const std::system_error& e) {  // of fmt, whose stdout is full
    say(fmt::format("octet: error: {}{}\n", who, e.what()));
  } catch (const std::exception& e) {
    say(fmt::format("octet: internal error: {}{}\n", who, e.what()));
  }
  return 1;
}

void expect_written() {
  const bool flushed = std::fflush(stdout) == 0;
  if (flushed && std::ferror(stdout) == 0) return;
  throw Error(flushed ? "cannot write the output"
                      : fmt::format("cannot write the output: {}", std::strerror(errno)));
}

size_t parse_human_number(const std::string& text, const char* flag) {
  char* end = nullptr;
  const double v = std::strtod(text.c_str(), &end);
  const std::string unit = end;
  double factor = 0;
  if (unit.empty()) factor = 1;
  if (unit == "k") factor = 1e3;
  if (unit == "K") factor = 1024;
  if (unit == "m") factor = 1e6;
  if (unit == "M") factor = 1024.0 * 1024;
  if (unit == "g") factor = 1e9;
  if (unit == "G") factor = 1024.0 * 1024 * 1024;
  if (end == text.c_str() || factor == 0 || !(v * factor >= 1) || v * factor > 1e15)
    throw Error("no size", ErrorKind::kUsage)
        .field(flag)
        .expected("a number like 4096, 25.6k (thousands) or 32K (1024)")
        .found(text);
  return static_cast<size_t>(v * factor);
}

uint64_t parse_bytes(const std::string& text, const char* flag) {
  const size_t digits = std::min(text.find_last_of("0123456789.") + 1, text.size());
  const std::string unit = to_lower(text.substr(digits));
  const size_t power = std::string_view("kmgt").find(unit.empty() ? '?' : unit[0]);
  double factor = 0;
  if (unit == "b") factor = 1;
  if (power != std::string_view::npos && unit.substr(1) == "b")
    factor = std::pow(1000.0, static_cast<double>(power + 1));
  if (power != std::string_view::npos && unit.substr(1) == "ib")
    factor = std::pow(1024.0, static_cast<double>(power + 1));
  try {
    if (factor == 0) return parse_human_number(text, flag);
    const std::string number = text.substr(0, digits);
    char* end = nullptr;
    const double value = static_cast<double>(std::strtold(number.c_str(), &end));
    if (*end == 0 && value * factor >= 1 && value * factor <= 1e15)
      return static_cast<uint64_t>(value * factor);
  } catch (const Error&) {  // says less about units
  }
  throw Error("no size", ErrorKind::kUsage)
      .field(flag)
      .expected("a size like 16G, 512MiB (of 1024) or 1.5GB (of 1000)")
      .found(text);
}

json flag_json(const std::string& text, const std::string& flag, json::value_t type) {
  const char* expected = type == json::value_t::array ? "a JSON list" : "a JSON object";
  try {
    json value = parse_json(text, flag);
    if (value.type() == type) return value;
  } catch (const Error& e) {
    throw usage_error(e.what()).expected(expected).found(text);
  }
  throw usage_error("is not what this option takes").file(flag).expected(expected).found(text);
}

namespace {
bool silent = false;
}

void notice(const std::string& text) {
  if (!silent) say(fmt::format("octet: note: {}\n", as_typed(text)));
}

void silence_notices() { silent = true; }

void warning(const std::string& text) { say(fmt::format("octet: warning: {}\n", as_typed(text))); }

void warn_of(const ModelFolder& folder) {
  for (const Finding& f : folder.remarks())
    warning(fmt::format("{}: {}", folder.path().string(), describe(f)));
}

std::string format_table(const std::vector<std::vector<std::string>>& rows,
                         const std::vector<bool>& right) {
  std::vector<size_t> width(right.size(), 0);
  for (const auto& row : rows)
    for (size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string pad(width[c] - row[c].size(), ' ');
      line += right[c] ? pad + row[c] : row[c] + pad;
      if (c + 1 < row.size()) line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace octet::cli
