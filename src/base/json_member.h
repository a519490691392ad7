// Members of JSON objects that may be absent. Writers of config.json say "none" by null or by
// leaving a member out, and readers must not tell the two apart.
#pragma once

namespace octet {

// The member, or nullptr when it is absent or null. `object` is a JSON object of either kind.
template <typename Json>
const Json* find_member(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

}  // namespace octet
