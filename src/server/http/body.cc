#include "src/server/http/body.h"

#include <fmt/format.h>

#include <cmath>

#include "src/base/error.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

// A long prompt as token ids, or a bias for every id of a vocabulary, is one value an id.
constexpr JsonLimits kLimits = {.depth = 64, .values = 4 << 20};

// Python's clients send 5.0 where 5 is meant, and the original accepts it.
std::optional<int64_t> exact_integer(const ordered_json& v) {
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
  const auto value = exact_integer(*v);
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
  if (!v->is_number()) throw bad_shape(name, "a number", v);
  return v->get<double>();
}

bool Fields::boolean(const char* name, bool fallback) const {
  const ordered_json* v = find(name);
  if (v == nullptr) return fallback;
  if (!v->is_boolean()) throw bad_shape(name, "true or false", v);
  return v->get<bool>();
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
    if (!item.is_number_integer()) throw bad_shape(name, "an array of token ids", &item);
    const auto id = exact_integer(item);
    if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max())
      throw bad_request(fmt::format("token id {} in {} is out of vocabulary", dump(item), name),
                        name);
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

}  // namespace octet::server
