#include "src/quant/int8/encode.h"

#include <gmock/gmock.h>

#include <bit>
#include <cstring>

#include "src/base/error.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename T>
std::vector<T> as(const std::vector<std::byte>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

template <typename F>
std::string message_of(const F& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

// IEEE 754: 1.5 = 1.1b; bfloat16 is the upper half of a float32, float16 has 5 bits of exponent.
TEST(Encode, SixteenBitsAndThirtyTwo) {
  const std::vector<float> v = {1.5f, -2};
  EXPECT_THAT(as<uint16_t>(encode(v, DType::kBF16)), ElementsAre(0x3fc0, 0xc000));
  EXPECT_THAT(as<uint16_t>(encode(v, DType::kF16)), ElementsAre(0x3e00, 0xc000));
  EXPECT_THAT(as<float>(encode(v, DType::kF32)), ElementsAre(1.5f, -2));
}

TEST(Encode, RoundsToNearestEven) {
  EXPECT_EQ(round_to(1 + 1.0f / 256, DType::kBF16), 1);  // half a step of 2^-7
  EXPECT_EQ(round_to(1 + 3.0f / 256, DType::kBF16), 1 + 1.0f / 64);
  EXPECT_EQ(round_to(0.1f, DType::kF32), 0.1f);
}

TEST(Encode, AFiniteValueThatOverflowsIsAnError) {
  EXPECT_THAT(message_of([] { encode(std::vector<float>{70000}, DType::kF16); }),
              HasSubstr("16-bit"));
}

TEST(Encode, WhatOverflowsIsNamed) {
  std::vector<float> v = {1 + 1.0f / 4096, -65519};
  round_all(v, DType::kF16, "w");
  EXPECT_THAT(v, ElementsAre(1, -65504));
  for (const auto& [dtype, value, words] : {std::tuple(DType::kF16, 65520.0f, "float16"),
                                            std::tuple(DType::kBF16, 3.4e38f, "bfloat16")}) {
    std::vector<float> big = {1, value};
    EXPECT_THAT(message_of([&] { round_all(big, dtype, "a.weight"); }),
                ::testing::AllOf(HasSubstr("a.weight"), HasSubstr(words)));
    EXPECT_THAT(message_of([&] { encode(big, dtype, "a.weight"); }), HasSubstr("a.weight"));
  }
  std::vector<float> infinite = {INFINITY};  // no overflow: what reads it has looked at that
  round_all(infinite, DType::kF16, "w");
}

TEST(Encode, DeqScaleIsItsBitsOrItself) {
  const std::vector<float> v = {0.5f, -1};
  EXPECT_THAT(as<int64_t>(encode_deq_scale(v, DType::kI64)),
              ElementsAre(0x3f000000, static_cast<int64_t>(std::bit_cast<int32_t>(-1.0f))));
  EXPECT_THAT(as<float>(encode_deq_scale(v, DType::kF32)), ElementsAre(0.5f, -1));
}

// Two outputs of three inputs: row sums 6 and -3, scales 0.5 and 0.25, input 0.5 with offset 2.
TEST(Encode, DeqScaleAndQuantBias) {
  const RoundedWeight w{{1, 2, 3, -1, -1, -1}, {0.5f, 0.25f}, {0, 0}, {6, -3}};
  const QuantParams input{0.5f, 2};
  EXPECT_THAT(deq_scale(w, input), ElementsAre(0.25f, 0.125f));
  // rne(bias / deq_scale) - offset * row sum: 4 - 12, 8 + 6.
  EXPECT_THAT(quant_bias("a", w, input, {1, 1}, false), ElementsAre(-8, 14));
  EXPECT_THAT(quant_bias("a", w, input, {1, 1}, true), ElementsAre(-8, 14));
  EXPECT_THAT(quant_bias("a", w, input, {}, false), ElementsAre(-12, 6));
  EXPECT_THAT(message_of([&] {
                quant_bias("a.b", w, input, {1e9f, 0}, false);
              }),
              HasSubstr("a.b.quant_bias"));
}

}  // namespace
}  // namespace octet
