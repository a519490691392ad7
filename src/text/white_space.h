// Stripping white space as Python's str.strip does, for text that must match what Python made.
#pragma once

#include <string_view>

namespace octet::text {

// `s` (UTF-8) without white space at the end, or at both ends. Views into `s`.
std::string_view strip_right(std::string_view s);
std::string_view strip(std::string_view s);

}  // namespace octet::text
