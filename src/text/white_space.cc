#include "src/text/white_space.h"

#include <array>
#include <cstddef>

namespace octet::text {
namespace {

// Unicode white space outside ASCII, as UTF-8.
constexpr auto kWide = std::to_array<std::string_view>(
    {"\u0085", "\u00A0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005",
     "\u2006", "\u2007", "\u2008", "\u2009", "\u200A", "\u2028", "\u2029", "\u202F", "\u205F",
     "\u3000"});

// Python counts the information separators 0x1C to 0x1F as white space.
bool is_narrow(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F); }

// Bytes of white space at one end of `s`; 0 when there is none.
size_t space_at_end(std::string_view s) {
  if (!s.empty() && is_narrow(s.back())) return 1;
  for (const std::string_view w : kWide)
    if (s.ends_with(w)) return w.size();
  return 0;
}

size_t space_at_start(std::string_view s) {
  if (!s.empty() && is_narrow(s.front())) return 1;
  for (const std::string_view w : kWide)
    if (s.starts_with(w)) return w.size();
  return 0;
}

}  // namespace

std::string_view strip_right(std::string_view s) {
  while (const size_t n = space_at_end(s)) s.remove_suffix(n);
  return s;
}

std::string_view strip(std::string_view s) {
  s = strip_right(s);
  while (const size_t n = space_at_start(s)) s.remove_prefix(n);
  return s;
}

}  // namespace octet::text
