// FNV-1a, 64 bits: to tell damage and difference, not malice.
#pragma once

#include <cstdint>
#include <string_view>

namespace octet {

inline uint64_t fnv1a(std::string_view bytes, uint64_t hash = 0xcbf29ce484222325) {
  for (char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace octet
