#include "src/text/piecewise.h"

#include <algorithm>
#include <optional>
#include <span>

#include "src/base/utf8.h"

namespace octet::text {
namespace {

using PlacedTokens = std::vector<PlacedToken>;

// What is seen of the text behind the end of a piece.
constexpr size_t kLookahead = 2 << 10;
// Places that are tried for the end of a piece, from the last one back: words of the text, or runs
// of tokens within one.
constexpr size_t kTries = 48;

bool same_ids(std::span<const PlacedToken> a, std::span<const PlacedToken> b) {
  return std::ranges::equal(a, b, {}, &PlacedToken::id, &PlacedToken::id);
}

// Whether a run of white space, which an added token may take in from behind, and one of combining
// marks, which composition may reorder, end in the text.
bool ends_runs(std::string_view utf8) {
  bool no_mark = false, no_space = false;
  for (const char c : utf8) {
    const auto byte = static_cast<unsigned char>(c);  // the first of a character tells
    const bool ascii = byte < 0x80, cjk_or_hangul = byte >= 0xE4 && byte <= 0xED;
    no_mark |= ascii || cjk_or_hangul || byte == 0xF0;
    no_space |=
        (ascii && byte > ' ') || byte == 0xE0 || byte >= 0xE4 || (byte > 0xC2 && byte < 0xE0);
  }
  return no_mark && no_space;
}

struct Cut {
  size_t tokens, bytes;  // of the piece
};

// Finds where a piece may end in the first `seen` bytes of a text.
class CutFinder {
 public:
  CutFinder(std::string_view utf8, size_t seen,
            const std::function<PlacedTokens(std::string_view)>& encode)
      : seen_(utf8.substr(0, seen)), longer_(utf8_prefix(utf8, seen + 4)), encode_(encode) {}

  // A piece of at most `most` bytes; `tokens` are those of what is seen.
  std::optional<Cut> find(std::span<const PlacedToken> tokens, size_t most) const {
    const auto past = std::ranges::upper_bound(tokens, most, {}, &PlacedToken::begin);
    size_t i = static_cast<size_t>(past - tokens.begin());
    for (size_t tries = 0; i-- > 1 && tries < kTries; ++tries) {
      const size_t at = tokens[i].begin;
      if (at == 0 || tokens[i - 1].end > at || !ends_runs(seen_.substr(at))) continue;
      if (begins_at(at, tokens.subspan(i))) return Cut{i, at};
      // A tokenizer that puts a space before a text makes up for the one that is left out.
      if (seen_[at] == ' ' && begins_at(at + 1, tokens.subspan(i))) return Cut{i, at + 1};
    }
    return std::nullopt;
  }

 private:
  // Whether what is seen from `at` on becomes `tokens` by itself, and nothing of it depends on
  // where that ends: digits that are grouped from their last one would become others with some
  // more.
  bool begins_at(size_t at, std::span<const PlacedToken> tokens) const {
    if (!same_ids(encode_(seen_.substr(at)), tokens)) return false;
    const PlacedTokens more = encode_(longer_.substr(at));
    const size_t first = tokens.size() / 2 + 1;
    return more.size() >= first && same_ids(std::span(more).first(first), tokens.first(first));
  }

  std::string_view seen_, longer_;
  const std::function<PlacedTokens(std::string_view)>& encode_;
};

}  // namespace

PlacedTokens encode_piecewise(std::string_view utf8,
                              const std::function<PlacedTokens(std::string_view)>& encode,
                              const std::function<void(size_t)>& go_on, size_t piece_bytes) {
  PlacedTokens all;
  size_t begin = 0;
  for (size_t size = piece_bytes;;) {
    const std::string_view rest = utf8.substr(begin), chunk = utf8_prefix(rest, size + kLookahead);
    PlacedTokens tokens = encode(chunk);
    Cut cut{tokens.size(), chunk.size()};
    if (chunk.size() < rest.size()) {
      const auto found = CutFinder(rest, chunk.size(), encode).find(tokens, size);
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
