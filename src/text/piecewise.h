// Long texts to tokens, piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace octet::text {

// A token and the bytes [begin, end) of the text that it stands for. Tokens inside a character have
// the same bytes; one that was added around the text, or a space that it was given, has none.
struct PlacedToken {
  int32_t id;
  size_t begin, end;
  bool operator==(const PlacedToken&) const = default;
};

// Texts up to this size are one piece.
inline constexpr size_t kPieceBytes = 64 << 10;

// What `encode` makes of the whole text, with memory for a piece of it, and a call of `go_on` with
// the number of tokens so far after each; what that throws ends the work.
//
// A piece ends before a token where the rest of the text, up to some kilobytes behind it, becomes
// the same tokens when it stands alone, and with some more of the text: no word or character goes
// on over such a place, no space is put before it, and nothing in sight depends on what follows.
// White space and combining marks must end in sight. (A word longer than that is cut where the
// tokens agree so far.) Where no such place is found the piece grows, up to the whole text: a
// tokenizer that takes the whole text as one word, as Llama 2's does, is cut between its words.
std::vector<PlacedToken> encode_piecewise(
    std::string_view utf8, const std::function<std::vector<PlacedToken>(std::string_view)>& encode,
    const std::function<void(size_t tokens)>& go_on, size_t piece_bytes = kPieceBytes);

}  // namespace octet::text
