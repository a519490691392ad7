#include "src/text/piecewise.h"

#include <algorithm>
#include <optional>
#include <span>

namespace octet::text {
namespace {

using PlacedTokens = std::vector<PlacedToken>;

// What is seen of the text behind the end of a piece.
constexpr size_t kLookahead = 2 << 10;
// Places that are tried for the end of a piece, from the last one back: words of the text, or runs
// of tokens within one.
constexpr size_t kTries = 48;

// The first bytes of the text, at most so many, that end with a character.
std::string_view prefix(std::string_view utf8, size_t bytes) {
  if (bytes >= utf8.size()) return utf8;
  while (bytes > 0 && (static_cast<unsigned char>(utf8[bytes]) & 0xC0) == 0x80) --bytes;
  return utf8.substr(0, bytes);
}

bool same_ids(std::span<const PlacedToken> a, std::span<const PlacedToken> b) {
  return std::ranges::equal(a, b, {}, &PlacedToken::id, &PlacedToken::id);
}

struct Cut {
  size_t tokens, bytes;  // of the piece
};

// Where a piece of at most `most` bytes of `chunk`, whose tokens these are, may end.
std::optional<Cut> find_cut(std::string_view chunk, std::span<const PlacedToken> tokens,
                            size_t most,
                            const std::function<PlacedTokens(std::string_view)>& encode) {
  const auto past = std::ranges::upper_bound(tokens, most, {}, &PlacedToken::begin);
  size_t i = static_cast<size_t>(past - tokens.begin());
  for (size_t tries = 0; i-- > 1 && tries < kTries; ++tries) {
    const size_t at = tokens[i].begin;
    if (at == 0 || tokens[i - 1].end > at) continue;
    const std::span<const PlacedToken> rest = tokens.subspan(i);
    PlacedTokens alone = encode(chunk.substr(at));
    if (same_ids(alone, rest) && alone.front().end + at == tokens[i].end) return Cut{i, at};
    // A tokenizer that puts a space before a text makes up for the one that is left out.
    if (chunk[at] != ' ') continue;
    alone = encode(chunk.substr(at + 1));
    if (same_ids(alone, rest)) return Cut{i, at + 1};
  }
  return std::nullopt;
}

}  // namespace

PlacedTokens encode_piecewise(std::string_view utf8,
                              const std::function<PlacedTokens(std::string_view)>& encode,
                              const std::function<void(size_t)>& go_on, size_t piece_bytes) {
  PlacedTokens all;
  size_t begin = 0;
  for (size_t size = piece_bytes;;) {
    const std::string_view rest = utf8.substr(begin), chunk = prefix(rest, size + kLookahead);
    PlacedTokens tokens = encode(chunk);
    Cut cut{tokens.size(), chunk.size()};
    if (chunk.size() < rest.size()) {
      const auto found = find_cut(chunk, tokens, size, encode);
      if (!found) {
        go_on(all.size());
        size *= 2;
        continue;
      }
      cut = *found;
    }
    for (size_t i = 0; i < cut.tokens; ++i)
      all.push_back({tokens[i].id, tokens[i].begin + begin, tokens[i].end + begin});
    go_on(all.size());
    if (chunk.size() == rest.size()) return all;
    begin += cut.bytes;
    size = piece_bytes;
  }
}

}  // namespace octet::text
