// JSON parsing with the limits that untrusted text needs, and typed look-ups that name the field.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace octet {

using json = nlohmann::json;
using ordered_json = nlohmann::ordered_json;
}  // namespace octet

// Instantiated once, in json.cc: otherwise every file that handles JSON compiles it anew.
extern template class nlohmann::basic_json<>;
extern template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace octet {

struct JsonLimits {
  size_t depth = 128;        // of objects and arrays in each other
  size_t values = 1 << 26;   // of the document: objects, arrays and what they hold
  bool unique_keys = false;  // a key that occurs twice is an error; else the last one counts
};

// Parses one JSON document in time linear in its length. `where` (a file name, "request body", ...)
// goes into the Error that is thrown for what is no JSON, or beyond the limits.
json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits = {});
ordered_json parse_ordered_json(std::string_view text, const std::string& where,
                                const JsonLimits& limits = {});

// Look-ups in an object read from file `where`. get_* throw Error when the field is absent or of
// another type or out of range; the variants with a default return it when absent or null.
int64_t get_int(const json& object, const char* key, const std::string& where, int64_t lo,
                int64_t hi);
int64_t get_int_or(const json& object, const char* key, int64_t fallback, const std::string& where,
                   int64_t lo, int64_t hi);
double get_number(const json& object, const char* key, const std::string& where);
double get_number_or(const json& object, const char* key, double fallback,
                     const std::string& where);
std::string get_string_or(const json& object, const char* key, std::string fallback,
                          const std::string& where);
bool get_bool_or(const json& object, const char* key, bool fallback, const std::string& where);

}  // namespace octet
