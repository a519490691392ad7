#include "src/base/json.h"

#include <fmt/format.h>

#include <set>
#include <vector>

#include "src/base/error.h"

template class nlohmann::basic_json<>;
template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace octet {
namespace {

// Callback state for nlohmann's parser: watches depth and doubled keys.
struct Guard {
  int max_depth;
  bool unique_keys;
  const std::string& where;
  std::vector<std::set<std::string>> keys;

  template <typename Json>
  bool operator()(int depth, typename Json::parse_event_t event, Json& parsed) {
    using Event = typename Json::parse_event_t;
    if (depth > max_depth)
      throw Error(fmt::format("JSON is nested deeper than {} levels", max_depth)).file(where);
    if (!unique_keys) return true;
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key &&
        !keys.back().insert(parsed.template get_ref<const std::string&>()).second)
      throw Error("JSON key occurs twice").file(where).field(parsed.template get<std::string>());
    return true;
  }
};

template <typename Json>
Json parse(std::string_view text, const std::string& where, int max_depth, bool unique_keys) {
  Guard guard{max_depth, unique_keys, where, {}};
  try {
    return Json::parse(text.begin(), text.end(),
                       [&guard](int depth, typename Json::parse_event_t event, Json& parsed) {
                         return guard.template operator()<Json>(depth, event, parsed);
                       });
  } catch (const nlohmann::json::exception& e) {
    std::string reason = e.what();  // "[json.exception.parse_error.101] parse error at line ..."
    if (const auto end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    if (reason.size() > 200) reason.resize(200);
    for (char& c : reason)  // the parser quotes its input, whatever that is
      if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
    throw Error("is not valid JSON: " + reason).file(where);
  }
}

const json* find(const json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Error wrong(const std::string& where, const char* key, std::string expected, const json* v) {
  std::string found =
      v == nullptr ? "nothing" : v->dump(-1, ' ', false, json::error_handler_t::replace);
  if (found.size() > 80) found = found.substr(0, 80) + "...";
  return Error("bad value").file(where).field(key).expected(std::move(expected)).found(found);
}

}  // namespace

json parse_json(std::string_view text, const std::string& where, int max_depth, bool unique_keys) {
  return parse<json>(text, where, max_depth, unique_keys);
}

ordered_json parse_ordered_json(std::string_view text, const std::string& where, int max_depth) {
  return parse<ordered_json>(text, where, max_depth, false);
}

int64_t get_int(const json& object, const char* key, const std::string& where, int64_t lo,
                int64_t hi) {
  const json* v = find(object, key);
  const bool fits = v != nullptr && v->is_number_integer() &&
                    !(v->is_number_unsigned() &&
                      v->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()});
  if (!fits || v->get<int64_t>() < lo || v->get<int64_t>() > hi)
    throw wrong(where, key, fmt::format("an integer from {} to {}", lo, hi), v);
  return v->get<int64_t>();
}

int64_t get_int_or(const json& object, const char* key, int64_t fallback, const std::string& where,
                   int64_t lo, int64_t hi) {
  return find(object, key) == nullptr ? fallback : get_int(object, key, where, lo, hi);
}

double get_number(const json& object, const char* key, const std::string& where) {
  const json* v = find(object, key);
  if (v == nullptr || !v->is_number()) throw wrong(where, key, "a number", v);
  return v->get<double>();
}

double get_number_or(const json& object, const char* key, double fallback,
                     const std::string& where) {
  return find(object, key) == nullptr ? fallback : get_number(object, key, where);
}

std::string get_string_or(const json& object, const char* key, std::string fallback,
                          const std::string& where) {
  const json* v = find(object, key);
  if (v == nullptr) return fallback;
  if (!v->is_string()) throw wrong(where, key, "a string", v);
  return v->get<std::string>();
}

bool get_bool_or(const json& object, const char* key, bool fallback, const std::string& where) {
  const json* v = find(object, key);
  if (v == nullptr) return fallback;
  if (!v->is_boolean()) throw wrong(where, key, "true or false", v);
  return v->get<bool>();
}

}  // namespace octet
