#include "src/checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/checkpoint/gguf_dequant.h"
#include "src/checkpoint/gguf_testing.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tests::GgufBuilder;

std::string refusal(const GgufBuilder& b) {
  try {
    const GgufFile file(b.bytes(), "bad.gguf");
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("bad.gguf"));
    return e.what();
  }
  ADD_FAILURE() << "accepted";
  return {};
}

GgufBuilder good(uint32_t version = 3) {
  GgufBuilder b;
  b.header(2, 7, version)
      .text("name", "n\xC3\xA9")
      .uint("count", 7)
      .real("eps", 1e-5f)
      .flag("flag", true)
      .texts("words", {"a", "", "ccc"})
      .ints("types", {1, -2})
      .uint("general.alignment", 64)
      .tensor("w", {32, 2}, 8, 0)  // Q8_0: 2 blocks of 34 bytes
      .tensor("b", {3}, 0, 128)
      .align(64);
  for (int block = 0; block < 2; ++block) {
    b.number<uint16_t>(0x3C00);  // 1.0
    for (int i = 0; i < 32; ++i) b.number<int8_t>(static_cast<int8_t>(i - 16 * block));
  }
  b.align(64).number(1.0f).number(2.0f).number(-3.0f);
  return b;
}

TEST(Gguf, ReadsMetadataAndTensors) {
  for (const uint32_t version : {2u, 3u}) {
    const GgufBuilder b = good(version);
    const GgufFile file(b.bytes(), "good.gguf");
    EXPECT_EQ(file.version(), version);
    EXPECT_EQ(file.get_string("name"), "n\xC3\xA9");
    EXPECT_EQ(file.get_uint("count"), 7u);
    EXPECT_EQ(file.get_number("count"), 7.0);
    EXPECT_EQ(file.get_number("eps"), 1e-5);
    EXPECT_TRUE(file.get_bool("flag"));
    EXPECT_THAT(file.get_strings("words"), ElementsAre("a", "", "ccc"));
    EXPECT_THAT(file.get_ints("types"), ElementsAre(1, -2));
    EXPECT_EQ(file.keys().size(), 7u);
    ASSERT_EQ(file.tensors().size(), 2u);
    const GgufTensor* w = file.find_tensor("w");
    ASSERT_NE(w, nullptr);
    EXPECT_THAT(w->dims, ElementsAre(32, 2));
    std::vector<float> values(64);
    gguf_dequantize(w->type, file.bytes(*w), values);
    EXPECT_EQ(values[31], 31.0f);
    EXPECT_EQ(values[32], -16.0f);
    values.resize(3);
    gguf_dequantize(GgufType::kF32, file.bytes(*file.find_tensor("b")), values);
    EXPECT_THAT(values, ElementsAre(1.0f, 2.0f, -3.0f));
    EXPECT_EQ(file.find_tensor("x"), nullptr);
  }
}

// Part `number` of `count`, with one tensor of two values.
void write_part(const fs::path& file, uint32_t number, uint32_t count, const char* tensor,
                float value) {
  GgufBuilder b;
  b.header(1, number == 0 ? 3 : 2).uint("split.no", number).uint("split.count", count);
  if (number == 0) b.text("name", "whole");
  b.tensor(tensor, {2}, 0, 0).align().number(value).number(-value);
  write_text(file, {reinterpret_cast<const char*>(b.bytes().data()), b.bytes().size()});
}

TEST(Gguf, AllPartsOfASplitModelAreRead) {
  const tests::TempFolder dir("gguf_split");
  const fs::path one = dir / "m-00001-of-00002.gguf", two = dir / "m-00002-of-00002.gguf";
  const auto refused = [&](const fs::path& file, const std::string& words) {
    EXPECT_THAT(tests::message_of([&] { GgufFile{file}; }), HasSubstr(words));
  };
  write_part(one, 0, 2, "a", 1);
  refused(one, "is part 1 of 2 of a split model, and another is missing");
  write_part(two, 1, 2, "b", 2);
  const GgufFile file(one);
  EXPECT_EQ(file.get_string("name"), "whole");
  ASSERT_EQ(file.tensors().size(), 2u);
  for (const auto& [name, value] : {std::pair("a", 1.0f), std::pair("b", 2.0f)}) {
    const GgufTensor* t = file.find_tensor(name);
    ASSERT_NE(t, nullptr);
    std::vector<float> values(2);
    gguf_dequantize(t->type, file.bytes(*t), values);
    EXPECT_THAT(values, ElementsAre(value, -value));
    file.release(*t);
  }
  refused(two, "is part 2 of 2 of a split model (name its first part");
  write_part(two, 1, 2, "a", 2);
  refused(one, "a tensor occurs in two parts");
  write_part(two, 0, 2, "b", 2);
  refused(one, "another part than its name says");
  fs::rename(one, dir / "m.gguf");
  refused(dir / "m.gguf", "a name that ends in -00001-of-00002.gguf");
}

TEST(Gguf, NamesTheKeyThatIsMissingOrOfAnotherKind) {
  const GgufBuilder b = good();
  const GgufFile file(b.bytes(), "good.gguf");
  const auto text = [&](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(text([&] { (void)file.get_uint("nothing"); }), HasSubstr("nothing"));
  EXPECT_THAT(text([&] { (void)file.get_uint("name"); }), HasSubstr("name"));
  EXPECT_THAT(text([&] { (void)file.get_uint("eps"); }), HasSubstr("eps"));
  EXPECT_THAT(text([&] { (void)file.get_uint("words"); }), HasSubstr("words"));
  EXPECT_THAT(text([&] { (void)file.get_string("count"); }), HasSubstr("count"));
  EXPECT_THAT(text([&] { (void)file.get_bool("count"); }), HasSubstr("count"));
  EXPECT_THAT(text([&] { (void)file.get_number("flag"); }), HasSubstr("flag"));
  EXPECT_THAT(text([&] { (void)file.get_strings("types"); }), HasSubstr("types"));
  EXPECT_THAT(text([&] { (void)file.get_ints("words"); }), HasSubstr("words"));
  EXPECT_THAT(text([&] { (void)file.get_ints("count"); }), HasSubstr("count"));
}

TEST(Gguf, RefusesWhatIsNoGguf) {
  EXPECT_THAT(refusal(GgufBuilder()), HasSubstr("no GGUF"));
  EXPECT_THAT(refusal(GgufBuilder().raw("GGU")), HasSubstr("no GGUF"));
  EXPECT_THAT(refusal(GgufBuilder().raw("GGML").number<uint32_t>(3)), HasSubstr("no GGUF"));
  EXPECT_THAT(refusal(GgufBuilder().header(0, 0, 1)), HasSubstr("version"));
  EXPECT_THAT(refusal(GgufBuilder().header(0, 0, 0x03000000)), HasSubstr("version"));
  EXPECT_THAT(refusal(GgufBuilder().header(0, 0, 4)), HasSubstr("version"));
}

TEST(Gguf, RefusesCountsThatTheFileDoesNotHold) {
  constexpr uint64_t kHuge = ~uint64_t{0};
  EXPECT_THAT(refusal(GgufBuilder().header(kHuge, 0)), HasSubstr("too many tensors"));
  EXPECT_THAT(refusal(GgufBuilder().header(0, kHuge)), HasSubstr("too many metadata"));
  EXPECT_THAT(refusal(GgufBuilder().header(1000, 0)), HasSubstr("ends too early"));
  EXPECT_THAT(refusal(GgufBuilder().header(0, 1000)), HasSubstr("ends too early"));
  // Lengths of strings: of a key, of a value, of an element.
  EXPECT_THAT(refusal(GgufBuilder().header(0, 1).number(kHuge)), HasSubstr("too long"));
  EXPECT_THAT(refusal(GgufBuilder().header(0, 1).string("k").number<uint32_t>(8).number(kHuge)),
              HasSubstr("field k"));
  EXPECT_THAT(refusal(GgufBuilder()
                          .header(0, 1)
                          .string("k")
                          .number<uint32_t>(9)
                          .number<uint32_t>(8)
                          .number<uint64_t>(2)
                          .number(kHuge)
                          .number(kHuge)),
              HasSubstr("field k"));
  // Arrays: too many elements, an overflowing size, and the same for strings.
  for (const uint32_t type : {0u, 6u, 8u, 10u}) {
    for (const uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 61, kHuge}) {
      refusal(
          GgufBuilder().header(0, 1).string("k").number<uint32_t>(9).number(type).number(count));
    }
  }
}

TEST(Gguf, RefusesUnknownTypes) {
  EXPECT_THAT(refusal(GgufBuilder().header(0, 1).string("k").number<uint32_t>(13)),
              HasSubstr("unknown type"));
  EXPECT_THAT(refusal(GgufBuilder()
                          .header(0, 1)
                          .string("k")
                          .number<uint32_t>(9)
                          .number<uint32_t>(9)
                          .number<uint64_t>(1)),
              HasSubstr("unknown type"));
  EXPECT_THAT(refusal(GgufBuilder().header(1, 0).tensor("t", {32}, 4, 0)), HasSubstr("tensor t"));
  EXPECT_THAT(refusal(GgufBuilder().header(1, 0).tensor("t", {32}, 0xFFFFFFFF, 0)),
              HasSubstr("unsupported tensor type"));
}

TEST(Gguf, RefusesDoubledNames) {
  EXPECT_THAT(refusal(GgufBuilder().header(0, 2).uint("k", 1).uint("k", 2)), HasSubstr("twice"));
  EXPECT_THAT(refusal(GgufBuilder().header(2, 0).tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 0)),
              HasSubstr("twice"));
}

TEST(Gguf, RefusesTensorsOutsideTheFile) {
  constexpr uint64_t kHuge = ~uint64_t{0};
  const auto one = [](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    return refusal(GgufBuilder().header(1, 0).tensor("t", dims, type, offset).align().number(1.0f));
  };
  EXPECT_THAT(one({}, 0, 0), HasSubstr("dimensions"));
  EXPECT_THAT(one({1, 1, 1, 1, 1}, 0, 0), HasSubstr("dimensions"));
  EXPECT_THAT(one({0}, 0, 0), HasSubstr("shape"));
  EXPECT_THAT(one({31}, 8, 0), HasSubstr("multiple of 32"));
  EXPECT_THAT(one({uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0), HasSubstr("overflows"));
  EXPECT_THAT(one({uint64_t{1} << 62}, 0, 0), HasSubstr("overflows"));
  EXPECT_THAT(one({2}, 0, 0), HasSubstr("not inside the file"));
  EXPECT_THAT(one({1}, 0, 32), HasSubstr("not inside the file"));
  EXPECT_THAT(one({1}, 0, 1), HasSubstr("aligned"));
  EXPECT_THAT(one({1}, 0, kHuge - 31), HasSubstr("overflows"));
  for (const uint32_t alignment : {0u, 3u, 48u, 1u << 20}) {
    EXPECT_THAT(refusal(GgufBuilder().header(0, 1).uint("general.alignment", alignment)),
                HasSubstr("alignment"));
  }
}

TEST(Gguf, EveryTruncationAndManyDamagesAreErrors) {
  const GgufBuilder whole = good();
  const auto bytes = whole.bytes();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<std::byte> part(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_THROW(GgufFile(part, "cut.gguf"), Error) << size;
  }
  // Damaged files may still be right; they must not crash (the sanitizers watch).
  std::mt19937 random(3);
  for (int round = 0; round < 5000; ++round) {
    GgufBuilder b = good();
    auto& damaged = b.mutable_bytes();
    for (int n = 0; n < 3; ++n) damaged[random() % damaged.size()] = std::byte(random() % 256);
    try {
      const GgufFile file(b.bytes(), "damaged.gguf");
      for (const GgufTensor& t : file.tensors()) {
        std::vector<float> values(t.elements);
        gguf_dequantize(t.type, file.bytes(t), values);
      }
      for (const auto key : file.keys()) {
        try {
          (void)file.get_strings(key);
        } catch (const Error&) {
        }
      }
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace octet
