// Text to token ids and back, as the model's tokenizer.json defines it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/text/piecewise.h"
#include "src/text/tokens_around.h"

namespace octet::text {

// How to get a tokenizer.json into the folder, which has none.
std::string how_to_get_tokenizer(const std::filesystem::path& folder);

// A thin face on the `tokenizers` crate (src/text/ffi). Move-only; the const methods may be called
// from many threads at once. Text is UTF-8; what is not throws Error, as does any failure inside
// the crate.
class Tokenizer {
 public:
  // Reads `tokenizer.json` (the file, or the one in the folder, or what slow_tokenizer.h makes of
  // an older form). Throws Error naming the file when it is missing or broken, and how to get one.
  // Truncation and padding in the file are ignored. BOS and EOS of a folder are those of
  // transformers 4 (tokens_around.h), which other loaders' models see.
  static Tokenizer load(const std::filesystem::path& dir_or_file);
  // The same for a model of `vocab` embeddings: encode() never gives an id that it has no row for.
  static Tokenizer load(const std::filesystem::path& dir_or_file, int64_t vocab);
  // The tokenizer of a folder with what tokenizer.json alone puts around a text.
  static Tokenizer load_as_filed(const std::filesystem::path& folder);
  // The same from the text of a tokenizer.json; `where` names it in errors.
  static Tokenizer from_json(std::string_view json, const std::string& where);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // From now on encode() puts these tokens around a text, in place of what the file says; empty
  // ones, and what is no token, are left out.
  void surround(const TokensAround& tokens);

  // The ids of `utf8`. Special tokens spelled out in the text become their ids; with
  // `add_special_tokens` the post-processor adds what the model expects around it (BOS).
  // kUsage Error when the text is not valid UTF-8; Error when it has a token that the model lacks.
  // `where`, if given, names the text in both. A long text is encoded in pieces (piecewise.h), with
  // a call of `go_on` after each.
  std::vector<int32_t> encode(std::string_view utf8, bool add_special_tokens,
                              const std::string& where = "",
                              const std::function<void(size_t tokens)>& go_on = {}) const;
  // The same tokens, each with the bytes of the text that it stands for.
  std::vector<PlacedToken> encode_places(
      std::string_view utf8, bool add_special_tokens,
      const std::function<void(size_t tokens)>& go_on = {}) const;

  // The text of `ids`; broken UTF-8 in it shows as U+FFFD. kUsage Error for an id without a token.
  // No clean-up of spaces before punctuation: the text is what the tokens spell.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // How many tokens there are, added ones included. Models may have more rows than that (padding);
  // `has_token` is false for those ids, and for ids in gaps.
  size_t vocab_size() const;
  bool has_token(int32_t id) const;

  // The token's id, or nothing. `token` is spelled as in the vocabulary (byte-level: "Ġhello").
  std::optional<int32_t> token_to_id(std::string_view token) const;
  // The token's spelling in the vocabulary; kUsage Error for an id without a token.
  std::string id_to_token(int32_t id) const;
  // Whether decode() leaves the token out on request. False for ids without a token.
  bool is_special(int32_t id) const;

  // Bytes of text that the longest token stands for: a text of more than n times as many bytes
  // cannot fit into n tokens, so that over-long prompts are refused before they are encoded.
  // (Exact for byte-level tokenizers, up to what Unicode composition (NFC) shortens and white space
  // that added tokens with lstrip/rstrip take in.)
  size_t longest_token_bytes() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::vector<PlacedToken> places_of(std::string_view utf8,
                                     const std::function<void(size_t tokens)>& go_on) const;
  void check_id(int32_t id) const;  // that the model has it
  std::unique_ptr<Impl> impl_;
  int64_t model_vocab_ = INT64_MAX;
};

}  // namespace octet::text
