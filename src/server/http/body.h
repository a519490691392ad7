// Request bodies: JSON from strangers, parsed within limits, and look-ups that name the field.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"

namespace octet::server {

// Parses a body that must be a JSON object. ApiError 400 when it is not, when it is nested too
// deeply, or when an object has so many members that looking for doubled ones would take long.
ordered_json parse_body(std::string_view text);

// The members of an object. Absent and null are the same: nothing. What has the wrong type or is
// out of range throws ApiError 400 naming the member. Numbers and booleans are read as pydantic's
// lax mode reads them, as clients of the original rely on: 5.0 and "5" are integers, "0.7" is a
// number, 0, "0", "off" and "no" are false. The object must outlive the look-ups.
class Fields {
 public:
  explicit Fields(const ordered_json& object) : object_(object) {}

  const ordered_json* find(const char* name) const;
  std::optional<int64_t> integer(const char* name, int64_t lo = std::numeric_limits<int64_t>::min(),
                                 int64_t hi = std::numeric_limits<int64_t>::max()) const;
  std::optional<double> number(const char* name) const;
  bool boolean(const char* name, bool fallback) const;
  std::optional<std::string> string(const char* name) const;
  const ordered_json* object(const char* name) const;
  const ordered_json* array(const char* name) const;
  std::vector<std::string> strings(const char* name) const;  // a string is a list of one
  std::vector<int32_t> token_ids(const char* name) const;    // each at least 0

 private:
  const ordered_json& object_;
};

// The token ids in an array; `name` is for errors.
std::vector<int32_t> token_ids(const ordered_json& array, const char* name);
// The number that a value stands for, as Fields::number reads it; nothing when it is none.
std::optional<double> number_of(const ordered_json& value);
// The token id that a text spells, as Python's int() reads it; nothing when it is none.
std::optional<int32_t> id_of(const std::string& text);

}  // namespace octet::server
