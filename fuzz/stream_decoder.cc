// Token ids, two bytes each, as text piece by piece: the pieces are the whole.
#include "src/text/stream_decoder.h"

#include <cstdlib>

#include "src/base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizer = octet::text::Tokenizer::from_json(
      octet::read_text(OCTET_SEEDS "/tokenizer_bytes.json"), "seed");
  std::vector<int32_t> ids;
  for (size_t i = 0; i + 1 < size; i += 2)
    ids.push_back((data[i] << 8 | data[i + 1]) % static_cast<int32_t>(tokenizer.vocab_size() + 8));
  const size_t prompt = size == 0 ? 0 : data[0] % (ids.size() + 1);
  for (const bool skip : {false, true}) {
    octet::text::StreamDecoder decoder(tokenizer, skip, std::span(ids).first(prompt));
    for (int32_t id : std::span(ids).subspan(prompt)) {
      decoder.peek(id);
      decoder.push(id);
    }
    decoder.flush();
    if (decoder.window() > ids.size() + 1) std::abort();
  }
  return 0;
}
