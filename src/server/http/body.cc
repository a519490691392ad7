#include "src/server/http/body.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/beast/core/string.hpp>
#include <charconv>
#include <cmath>

#include "src/base/error.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

// A long prompt as token ids, or a bias for every id of a vocabulary, is one value an id.
constexpr JsonLimits kLimits = {.depth = 64, .values = 4 << 20};

// A number's text without the white space around it, the underscores between its digits and its
// plus sign; nothing when the underscores are elsewhere.
std::optional<std::string> plain_number(const std::string& text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const size_t begin = text.find_first_not_of(kSpace), end = text.find_last_not_of(kSpace);
  if (begin == std::string::npos) return std::nullopt;
  std::string plain;
  for (size_t i = begin; i <= end; ++i) {
    if (text[i] != '_')
      plain += text[i];
    else if (i == begin || i == end || !digit(text[i - 1]) || !digit(text[i + 1]))
      return std::nullopt;
  }
  if (plain[0] == '+' && plain.size() > 1 && plain[1] != '-') plain.erase(0, 1);
  return plain;
}

// All of `text` as a number, or nothing.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> integer_of_text(const std::string& text) {
  const auto plain = plain_number(text);
  if (!plain) return std::nullopt;
  std::string_view digits = *plain;
  if (const size_t point = digits.find('.');
      point != digits.npos && digits.find_first_not_of('0', point + 1) == digits.npos)
    digits = digits.substr(0, point);
  return parse_number<int64_t>(digits);
}

// Python's clients send 5.0 where 5 is meant, and the original accepts it.
std::optional<int64_t> integer_of(const ordered_json& v) {
  if (v.is_boolean()) return v.get<bool>() ? 1 : 0;
  if (v.is_string()) return integer_of_text(v.get_ref<const std::string&>());
  if (v.is_number_unsigned()) {
    const auto u = v.get<uint64_t>();
    if (u > uint64_t{std::numeric_limits<int64_t>::max()}) return std::nullopt;
    return static_cast<int64_t>(u);
  }
  if (v.is_number_integer()) return v.get<int64_t>();
  if (!v.is_number_float()) return std::nullopt;
  const double d = v.get<double>();
  if (d != std::floor(d) || std::fabs(d) > 0x1p53) return std::nullopt;
  return static_cast<int64_t>(d);
}

std::optional<bool> boolean_of(const ordered_json& v) {
  if (v.is_boolean()) return v.get<bool>();
  if (v.is_number()) {
    const double d = v.get<double>();
    return d == 0 || d == 1 ? std::optional(d == 1) : std::nullopt;
  }
  if (!v.is_string()) return std::nullopt;
  static constexpr std::array<const char*, 6> kTrue = {"1", "on", "t", "true", "y", "yes"};
  static constexpr std::array<const char*, 6> kFalse = {"0", "off", "f", "false", "n", "no"};
  const auto in = [&](const auto& words) {
    return std::any_of(words.begin(), words.end(), [&](const char* word) {
      return boost::beast::iequals(v.get_ref<const std::string&>(), word);
    });
  };
  if (in(kTrue)) return true;
  return in(kFalse) ? std::optional(false) : std::nullopt;
}

}  // namespace

ordered_json parse_body(std::string_view text) {
  try {
    ordered_json body = parse_ordered_json(text, "request body", kLimits);
    if (!body.is_object())
      throw ApiError(400, "Bad Request", "the request body must be a JSON object", "body");
    return body;
  } catch (const Error& e) {
    throw ApiError(400, "Bad Request", e.what(), "body");
  }
}

const ordered_json* Fields::find(const char* name) const {
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<int64_t> Fields::integer(const char* name, int64_t lo, int64_t hi) const {
  const ordered_json* v = find(name);
  if (v == nullptr) return std::nullopt;
  const auto value = integer_of(*v);
  if (!value) throw bad_shape(name, "a 64-bit integer", v);
  if (*value < lo || *value > hi)
    throw bad_value(name,
                    hi == std::numeric_limits<int64_t>::max()
                        ? fmt::format("an integer of at least {}", lo)
                        : fmt::format("an integer from {} to {}", lo, hi),
                    *v);
  return value;
}

std::optional<double> Fields::number(const char* name) const {
  const ordered_json* v = find(name);
  if (v == nullptr) return std::nullopt;
  const auto value = number_of(*v);
  if (!value) throw bad_shape(name, "a number", v);
  return value;
}

bool Fields::boolean(const char* name, bool fallback) const {
  const ordered_json* v = find(name);
  if (v == nullptr) return fallback;
  const auto value = boolean_of(*v);
  if (!value) throw bad_shape(name, "true or false", v);
  return *value;
}

std::optional<std::string> Fields::string(const char* name) const {
  const ordered_json* v = find(name);
  if (v == nullptr) return std::nullopt;
  if (!v->is_string()) throw bad_shape(name, "a string", v);
  return v->get<std::string>();
}

const ordered_json* Fields::object(const char* name) const {
  const ordered_json* v = find(name);
  if (v != nullptr && !v->is_object()) throw bad_shape(name, "an object", v);
  return v;
}

const ordered_json* Fields::array(const char* name) const {
  const ordered_json* v = find(name);
  if (v != nullptr && !v->is_array()) throw bad_shape(name, "an array", v);
  return v;
}

std::vector<std::string> Fields::strings(const char* name) const {
  const ordered_json* v = find(name);
  if (v == nullptr) return {};
  if (v->is_string()) return {v->get<std::string>()};
  if (!v->is_array()) throw bad_shape(name, "a string or an array of strings", v);
  std::vector<std::string> out;
  for (const ordered_json& item : *v) {
    if (!item.is_string()) throw bad_shape(name, "a string or an array of strings", v);
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::vector<int32_t> Fields::token_ids(const char* name) const {
  const ordered_json* v = array(name);
  return v == nullptr ? std::vector<int32_t>() : server::token_ids(*v, name);
}

std::vector<int32_t> token_ids(const ordered_json& array, const char* name) {
  std::vector<int32_t> ids;
  ids.reserve(array.size());
  for (const ordered_json& item : array) {
    const auto id = integer_of(item);
    if (!id && !item.is_number_integer()) throw bad_shape(name, "an array of token ids", &item);
    if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max())
      throw bad_request(fmt::format("token id {} in {} is out of vocabulary", dump(item), name),
                        name);
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

std::optional<double> number_of(const ordered_json& v) {
  if (v.is_boolean()) return v.get<bool>() ? 1 : 0;
  if (v.is_number()) return v.get<double>();
  if (!v.is_string()) return std::nullopt;
  const auto plain = plain_number(v.get_ref<const std::string&>());
  return plain ? parse_number<double>(*plain) : std::nullopt;
}

std::optional<int32_t> id_of(const std::string& text) {
  const auto plain = plain_number(text);
  return plain ? parse_number<int32_t>(*plain) : std::nullopt;
}

}  // namespace octet::server
