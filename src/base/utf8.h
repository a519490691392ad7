// Characters of UTF-8 text. What is not UTF-8 gives some number or prefix, no error.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace octet {

// Whether a byte goes on with a character that another one begins.
inline bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Code points, as Python counts a text's length.
inline size_t utf8_length(std::string_view utf8) {
  return utf8.size() - static_cast<size_t>(std::ranges::count_if(utf8, continues_character));
}

// The first bytes of the text, at most so many, that end with a character.
inline std::string_view utf8_prefix(std::string_view utf8, size_t bytes) {
  if (bytes >= utf8.size()) return utf8;
  while (bytes > 0 && continues_character(utf8[bytes])) --bytes;
  return utf8.substr(0, bytes);
}

}  // namespace octet
