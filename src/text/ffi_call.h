// Helpers of the .cc files that call the Rust crate; not for other levels.
#pragma once

#include <string>
#include <string_view>

#include "rust/cxx.h"
#include "src/base/error.h"

namespace octet::text {

// Bytes, not rust::Str: whether they are UTF-8 is checked on the other side, where it is an Error.
inline rust::Slice<const uint8_t> ffi_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Runs `call`; what Rust reports becomes a kUsage Error, since it is the caller's text, ids or
// template that was refused.
template <typename Call>
auto ffi_call(const char* context, Call&& call) {
  try {
    return call();
  } catch (const rust::Error& e) {
    throw usage_error(std::string(context) + e.what());
  }
}

}  // namespace octet::text
