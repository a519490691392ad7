#include "src/checkpoint/gguf_dequant.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/base/json.h"

namespace octet {
namespace {

std::vector<std::byte> from_hex(const std::string& hex) {
  std::vector<std::byte> bytes(hex.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
  return bytes;
}

// tools/gguf_dequant_golden.py: random blocks, decoded by the `gguf` Python package.
TEST(GgufDequant, EveryTypeDecodesToTheSameBits) {
  const std::string file = OCTET_SOURCE_DIR "/src/checkpoint/testdata/gguf_dequant.json";
  const json golden = parse_json(read_text(file), file);
  ASSERT_EQ(golden.size(), 13u);
  for (const auto& [name, entry] : golden.items()) {
    SCOPED_TRACE(name);
    const auto type = static_cast<GgufType>(entry["type"].get<uint32_t>());
    const std::vector<std::byte> blocks = from_hex(entry["blocks"]);
    const std::vector<std::byte> expected = from_hex(entry["values"]);
    const auto block = gguf_block(type);
    ASSERT_TRUE(block.has_value());
    std::vector<float> out(expected.size() / sizeof(float));
    ASSERT_EQ(blocks.size() / block->bytes * block->elements, out.size());
    gguf_dequantize(type, blocks, out);
    for (size_t i = 0; i < out.size(); ++i) {
      float want;
      std::memcpy(&want, expected.data() + i * sizeof want, sizeof want);
      ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(want))
          << "element " << i << ": " << out[i] << " instead of " << want;
    }
  }
}

TEST(GgufDequant, UnknownTypesHaveNoBlock) {
  for (const uint32_t type : {4u, 5u, 9u, 14u + 1u, 24u, 39u, 0xFFFFFFFFu})
    EXPECT_FALSE(gguf_block(static_cast<GgufType>(type)).has_value());
}

}  // namespace
}  // namespace octet
