#include "src/text/stream_decoder.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace octet::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
// At most this many U+FFFD at the end can still become a character: three bytes of a four-byte one,
// when each is shown by itself.
constexpr size_t kMaxHeld = 3;
// Tokens without a whole character after which a cut among them is looked for.
constexpr size_t kLongWindow = 32;
// The cut leaves what is held back behind it: kMaxHeld broken characters of up to three bytes, each
// in a token of its own, and one boundary more.
constexpr size_t kMaxTail = 3 * kMaxHeld + 3;
// Tokens without any text after which the context is given up (no real decoder gets here).
constexpr size_t kMaxWindow = 256;
// Of the prompt: tokens of context, and how far back they are looked for.
constexpr size_t kContext = 4, kMaxContext = 24;

bool whole(std::string_view text) { return !text.ends_with(kReplacement); }

std::string without_incomplete(std::string text) {
  for (size_t held = 0; held < kMaxHeld && !whole(text); ++held)
    text.resize(text.size() - kReplacement.size());
  return text;
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens,
                             std::span<const int32_t> prompt, bool prompt_is_text)
    : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {
  prime(prompt, prompt_is_text);
}

// Skipped tokens would be filtered by decode() anyway; left out, they cannot fill the window.
bool StreamDecoder::visible(int32_t id) const {
  return tokenizer_->has_token(id) && !(skip_special_tokens_ && tokenizer_->is_special(id));
}

// Takes a stretch near the prompt's end that is whole as context; what follows it may be inside a
// character, whose text is to come.
void StreamDecoder::prime(std::span<const int32_t> prompt, bool prompt_is_text) {
  std::vector<int32_t> last;
  for (auto id = prompt.rbegin(); id != prompt.rend() && last.size() < kMaxContext; ++id)
    if (visible(*id)) last.push_back(*id);
  std::reverse(last.begin(), last.end());
  const std::span<const int32_t> end = last;
  for (size_t rest = 0; rest <= (prompt_is_text ? 0 : kMaxHeld); ++rest)
    for (size_t n = std::min(rest + kContext, end.size()); n > rest && n <= end.size(); ++n) {
      const std::span<const int32_t> context = end.subspan(end.size() - n, n - rest);
      const std::string text = decode(context);
      if (text.empty() || text.find(kReplacement) != std::string::npos) continue;
      ids_.assign(context.begin(), context.end());
      read_ = context.size();
      out_ = text;
      for (int32_t id : end.last(rest)) push(id);
      return;
    }
  // Broken all over, or without text: at most one character is still to come.
  ids_ = std::move(last);
  out_ = decode(ids_);
  if (prompt_is_text)
    read_ = ids_.size();
  else
    out_ = without_incomplete(std::move(out_));
}

std::string StreamDecoder::decode(std::span<const int32_t> ids) const {
  return tokenizer_->decode(ids, skip_special_tokens_);
}

// What `text`, that of `ids`, adds to the text of the context. A decoder that took back what is out
// leaves the new tokens to be decoded by themselves.
std::string StreamDecoder::addition(std::string_view text, std::span<const int32_t> ids) const {
  if (text.starts_with(out_)) return std::string(text.substr(out_.size()));
  return decode(ids.subspan(read_));
}

// All text is out: keeps the tokens since the previous such point as context.
void StreamDecoder::slide() {
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(read_));
  read_ = ids_.size();
  out_ = decode(ids_);
}

std::string StreamDecoder::push(int32_t id) {
  if (!visible(id)) return {};
  ids_.push_back(id);
  const std::string text = decode(ids_);
  if (!whole(text)) return ids_.size() - read_ < kLongWindow ? std::string() : push_broken(text);
  std::string out = addition(text, ids_);
  if (!out.empty() || ids_.size() >= kMaxWindow) slide();
  return out;
}

std::string StreamDecoder::peek(int32_t id) const {
  if (!visible(id)) return {};
  std::vector<int32_t> ids = ids_;
  ids.push_back(id);
  const std::string text = decode(ids);
  return whole(text) ? addition(text, ids) : std::string();
}

// A run of broken bytes, with `text` that of all of ids_. A character has at most four, so one of
// the last boundaries lies between two of them: there the parts decode by themselves to the same
// text. (If a character straddled the cut, the parts would show more U+FFFD than the whole.)
std::string StreamDecoder::push_broken(const std::string& text) {
  for (size_t cut = ids_.size() - 1; cut > read_ && cut + kMaxTail > ids_.size(); --cut) {
    const std::span<const int32_t> head = std::span(ids_).first(cut);
    const std::string head_text = decode(head);
    if (head_text + decode(std::span(ids_).subspan(cut)) != text) continue;
    std::string out = addition(head_text, head);
    ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(cut));
    read_ = 0;
    out_.clear();
    return out;
  }
  return {};
}

std::string StreamDecoder::flush() {
  std::string out = without_incomplete(addition(decode(ids_), ids_));
  ids_.clear();
  read_ = 0;
  out_.clear();
  return out;
}

}  // namespace octet::text
