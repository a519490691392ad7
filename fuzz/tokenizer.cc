#include "src/text/tokenizer.h"
#include "src/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = octet::text::Tokenizer::from_json(json, "fuzz");
    tokenizer.longest_token_bytes();
    const std::string text = " hello <|end|> w\u00f6rld \u65e5\u672c\n\n42";
    const auto ids = tokenizer.encode(text, true);
    for (int32_t id : ids) tokenizer.is_special(id);
    tokenizer.decode(ids, true);
    tokenizer.decode(ids, false);
  } catch (const octet::Error&) {
  }
  return 0;
}
