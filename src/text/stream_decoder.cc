#include "src/text/stream_decoder.h"

#include <algorithm>
#include <span>
#include <string_view>

namespace octet::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
// At most this many U+FFFD at the end can still become a character: three bytes of a four-byte one,
// when each is shown by itself.
constexpr int kMaxHeld = 3;
// Tokens without a whole character after which a cut among them is looked for.
constexpr size_t kLongWindow = 32;
// The cut leaves what is held back behind it: kMaxHeld broken characters of up to three bytes, each
// in a token of its own, and one boundary more.
constexpr size_t kMaxTail = 3 * kMaxHeld + 3;
// Tokens without any text after which the context is given up (no real decoder gets here).
constexpr size_t kMaxWindow = 256;

// Bytes of `text` that cannot change any more.
size_t stable_size(std::string_view text) {
  size_t size = text.size();
  for (int held = 0; held < kMaxHeld && text.substr(0, size).ends_with(kReplacement); ++held)
    size -= kReplacement.size();
  return size;
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {}

std::string StreamDecoder::decode(size_t from) const {
  return tokenizer_->decode(std::span(ids_).subspan(from), skip_special_tokens_);
}

// All text of ids_[0, to) is out: keeps the tokens since the previous such point as context.
void StreamDecoder::slide(size_t to) {
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(read_));
  read_ = to - read_;
  emitted_ = tokenizer_->decode(std::span(ids_).first(read_), skip_special_tokens_).size();
}

std::string StreamDecoder::push(int32_t id) {
  if (!tokenizer_->has_token(id)) return {};
  // Skipped tokens would be filtered by decode() anyway; left out, they cannot fill the window.
  if (skip_special_tokens_ && tokenizer_->is_special(id)) return {};
  ids_.push_back(id);
  const std::string text = decode(0);
  const size_t stable = stable_size(text);
  std::string out;
  if (stable > emitted_) {
    // A decoder that rewrote what is out may leave emitted_ inside a character.
    size_t from = emitted_;
    while (from < stable && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
    out = text.substr(from, stable - from);
    emitted_ = stable;
  }
  if (stable == text.size()) {
    if (!out.empty() || ids_.size() >= kMaxWindow) slide(ids_.size());
  } else if (ids_.size() - read_ >= kLongWindow) {
    // A run of broken bytes. A character has at most four, so one of the last boundaries lies
    // between two of them: there the parts decode by themselves to the same text. (If a character
    // straddled the cut, the parts would show more U+FFFD than the whole.)
    for (size_t cut = ids_.size() - 1; cut > read_ && cut + kMaxTail > ids_.size(); --cut) {
      const std::string head = tokenizer_->decode(std::span(ids_).first(cut), skip_special_tokens_);
      if (head.size() > emitted_ || head + decode(cut) != text) continue;
      const size_t out_after_cut = emitted_ - head.size();
      ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(cut));
      read_ = 0;
      emitted_ = out_after_cut;
      break;
    }
  }
  return out;
}

std::string StreamDecoder::flush() {
  std::string text = decode(0);
  std::string out = text.substr(std::min(emitted_, text.size()));
  ids_.clear();
  read_ = 0;
  emitted_ = 0;
  return out;
}

}  // namespace octet::text
