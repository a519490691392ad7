// Members of JSON objects that may be absent. Writers of config.json say "none" by null or by
// leaving a member out, and readers must not tell the two apart. And members of large objects.
#pragma once

#include <string>
#include <utility>

#include "src/base/json.h"

namespace octet {

// The member, or nullptr when it is absent or null. `object` is a JSON object of either kind.
template <typename Json>
const Json* find_member(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

// Adds a member whose key is not there yet. An ordered object's own functions look for the key
// among all others, so that building one with them takes quadratic time.
inline ordered_json& append_member(ordered_json& object, std::string key, ordered_json value) {
  auto& members =
      static_cast<ordered_json::object_t::Container&>(object.get_ref<ordered_json::object_t&>());
  return members.emplace_back(std::move(key), std::move(value)).second;
}

}  // namespace octet
