// FNV-1a, 64 bits: to tell damage and difference, not malice.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace octet {

inline uint64_t fnv1a(std::string_view bytes, uint64_t hash = 0xcbf29ce484222325) {
  for (char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

// A checksum for large data: the same by eight bytes at a time.
inline uint64_t fnv1a_words(std::span<const std::byte> bytes, uint64_t hash = 0xcbf29ce484222325) {
  for (size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, std::min(sizeof word, bytes.size() - i));
    hash = (hash ^ word) * 0x100000001b3;
    hash ^= hash >> 32;  // the product leaves a word's upper bytes in the upper bits only
  }
  return hash;
}

}  // namespace octet
