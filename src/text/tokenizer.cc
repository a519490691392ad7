#include "src/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "octet-text-ffi/src/lib.rs.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/text/ffi_call.h"
#include "src/text/slow_tokenizer.h"

namespace octet::text {

struct Tokenizer::Impl {
  rust::Box<ffi::TokenizerHandle> handle;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::string how_to_get_tokenizer(const fs::path& folder) {
  std::error_code ec;
  if (!fs::exists(folder / "tokenizer.model", ec))
    return "copy it from the model that this one was made of";
  return fmt::format(
      "transformers makes it of tokenizer.model: pip install transformers sentencepiece tiktoken, "
      "then python3 -c \"from transformers import AutoTokenizer as T; "
      "T.from_pretrained('{0}').save_pretrained('{0}')\"",
      folder.string());
}

Tokenizer Tokenizer::load(const std::filesystem::path& dir_or_file) {
  std::error_code ignored;  // a path that cannot be looked at fails with its name in read_text
  if (!fs::is_directory(dir_or_file, ignored))
    return from_json(read_text(dir_or_file), dir_or_file.string());
  Tokenizer t = load_as_filed(dir_or_file);
  if (const auto tokens = tokens_around(dir_or_file)) t.surround(*tokens);
  return t;
}

Tokenizer Tokenizer::load_as_filed(const std::filesystem::path& folder) {
  const fs::path path = folder / "tokenizer.json";
  if (has_entry(path)) return from_json(read_text(path), path.string());
  if (has_slow_tokenizer(folder))
    return from_json(slow_tokenizer_json(folder).dump(), folder.string());
  throw Error("the model folder has no tokenizer.json")
      .file(path.string())
      .remedy(how_to_get_tokenizer(folder));
}

Tokenizer Tokenizer::load(const std::filesystem::path& dir_or_file, int64_t vocab) {
  Tokenizer t = load(dir_or_file);
  t.model_vocab_ = vocab;
  return t;
}

Tokenizer Tokenizer::from_json(std::string_view json, const std::string& where) {
  try {
    return Tokenizer(std::make_unique<Impl>(Impl{ffi::load_tokenizer(ffi_bytes(json))}));
  } catch (const rust::Error& e) {
    throw Error(std::string("is not a usable tokenizer: ") + e.what()).file(where);
  }
}

void Tokenizer::surround(const TokensAround& tokens) {
  ffi_call("cannot add special tokens: ",
           [&] { impl_->handle->surround(ffi_bytes(tokens.before), ffi_bytes(tokens.after)); });
}

void Tokenizer::check_id(int32_t id) const {
  if (id < model_vocab_) return;
  throw Error("a token of the text is not in the model's vocabulary")
      .expected(fmt::format("ids below {} (vocab_size of config.json)", model_vocab_))
      .found(fmt::format("{}, \"{}\"", id, id_to_token(id)))
      .remedy(fmt::format("the tokenizer has {} tokens: is it of another model, or were "
                          "tokens added without resizing the embedding?",
                          vocab_size()));
}

std::vector<PlacedToken> Tokenizer::places_of(std::string_view utf8,
                                              const std::function<void(size_t)>& go_on) const {
  ffi_call("cannot encode: ", [&] { ffi::check_utf8(ffi_bytes(utf8)); });
  const auto encode = [&](std::string_view text) {
    const auto tokens =
        ffi_call("cannot encode: ", [&] { return impl_->handle->encode_places(ffi_bytes(text)); });
    std::vector<PlacedToken> places;
    places.reserve(tokens.size());
    for (const ffi::PlacedToken& t : tokens) places.push_back({t.id, t.begin, t.end});
    return places;
  };
  return encode_piecewise(utf8, encode, [&](size_t tokens) {
    if (go_on) go_on(tokens);
  });
}

std::vector<int32_t> Tokenizer::encode(std::string_view utf8, bool add_special_tokens,
                                       const std::string& where,
                                       const std::function<void(size_t)>& go_on) const {
  try {
    std::vector<int32_t> ids;
    if (add_special_tokens) std::ranges::copy(impl_->handle->before(), std::back_inserter(ids));
    if (utf8.size() <= kPieceBytes) {
      std::ranges::copy(
          ffi_call("cannot encode: ", [&] { return impl_->handle->encode(ffi_bytes(utf8)); }),
          std::back_inserter(ids));
    } else {
      for (const PlacedToken& t : places_of(utf8, go_on)) ids.push_back(t.id);
    }
    if (add_special_tokens) std::ranges::copy(impl_->handle->after(), std::back_inserter(ids));
    for (int32_t id : ids) check_id(id);
    return ids;
  } catch (Error& e) {
    if (where.empty()) throw;
    throw std::move(e).file(where);
  }
}

std::vector<PlacedToken> Tokenizer::encode_places(std::string_view utf8, bool add_special_tokens,
                                                  const std::function<void(size_t)>& go_on) const {
  std::vector<PlacedToken> tokens = places_of(utf8, go_on);
  if (add_special_tokens) {
    std::vector<PlacedToken> before;
    for (int32_t id : impl_->handle->before()) before.push_back({id, 0, 0});
    tokens.insert(tokens.begin(), before.begin(), before.end());
    for (int32_t id : impl_->handle->after()) tokens.push_back({id, utf8.size(), utf8.size()});
  }
  for (const PlacedToken& t : tokens) check_id(t.id);
  return tokens;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  return std::string(ffi_call("cannot decode: ", [&] {
    return impl_->handle->decode({ids.data(), ids.size()}, skip_special_tokens);
  }));
}

size_t Tokenizer::vocab_size() const { return impl_->handle->vocab_size(); }

bool Tokenizer::has_token(int32_t id) const { return impl_->handle->has_token(id); }

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  const int32_t id =
      ffi_call("bad token: ", [&] { return impl_->handle->token_to_id(ffi_bytes(token)); });
  return id < 0 ? std::nullopt : std::optional(id);
}

std::string Tokenizer::id_to_token(int32_t id) const {
  return std::string(ffi_call("", [&] { return impl_->handle->id_to_token(id); }));
}

bool Tokenizer::is_special(int32_t id) const { return impl_->handle->is_special(id); }

size_t Tokenizer::longest_token_bytes() const { return impl_->handle->longest_token_bytes(); }

}  // namespace octet::text
