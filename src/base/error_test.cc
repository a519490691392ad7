#include "src/base/error.h"

#include <gtest/gtest.h>

#include "src/base/checked.h"
#include "src/base/float16.h"

namespace octet {
namespace {

TEST(Error, NamesEveryPartInOneLine) {
  const Error e = Error("wrong shape")
                      .file("m.safetensors")
                      .tensor("a.weight")
                      .expected("[2, 3]")
                      .found("[3]")
                      .remedy("quantize again");
  EXPECT_STREQ(e.what(),
               "m.safetensors: wrong shape; tensor a.weight; expected [2, 3]; found [3] "
               "(quantize again)");
  EXPECT_EQ(e.kind(), ErrorKind::kFailure);
  EXPECT_EQ(usage_error("x").kind(), ErrorKind::kUsage);
}

TEST(Checked, OverflowThrows) {
  EXPECT_EQ(checked_mul(3, 4, "n"), 12u);
  EXPECT_THROW(checked_mul(1ull << 40, 1ull << 40, "n"), Error);
  EXPECT_THROW(checked_add(~0ull, 1, "n"), Error);
  const uint64_t shape[] = {1ull << 33, 1ull << 31};
  EXPECT_THROW(checked_product(shape, "shape"), Error);
}

TEST(Float16, EveryHalfSurvivesTheRoundTrip) {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const f16 h{static_cast<uint16_t>(b)};
    const float f = to_float(h);
    if (f != f) {
      EXPECT_EQ(to_f16(f).bits & 0x7c00, 0x7c00);
      continue;
    }
    EXPECT_EQ(to_f16(f).bits, b);
    const bf16 r{static_cast<uint16_t>(b)};
    if (to_float(r) == to_float(r)) {
      EXPECT_EQ(to_bf16(to_float(r)).bits, b);
    }
  }
}

TEST(Float16, RoundsHalfToEven) {
  EXPECT_EQ(to_f16(2049.0f).bits, to_f16(2048.0f).bits);
  EXPECT_EQ(to_f16(2051.0f).bits, to_f16(2052.0f).bits);
  EXPECT_EQ(to_f16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_f16(0x1p-25f).bits, 0);  // tie: to even zero
  EXPECT_EQ(to_f16(0x1.8p-25f).bits, 1);
  EXPECT_EQ(to_bf16(1.00390625f).bits, 0x3f80);  // 1 + 2^-8: tie to even
  EXPECT_EQ(to_bf16(1.01171875f).bits, 0x3f82);
}

}  // namespace
}  // namespace octet
