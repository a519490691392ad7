// For tests of kernels: all sets that this machine can run, and values as storage types hold them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "src/base/float16.h"
#include "src/kernels/kernels.h"
#include "src/machine/cpu.h"

namespace octet::kernels {

// Sets with the instructions beyond AVX2 emulated, for which they need AVX2.
namespace avxvnni_emulated {
const KernelTable& emulated_table() noexcept;
}
namespace avx512_emulated {
const KernelTable& emulated_table() noexcept;
}
namespace amx_emulated {
const KernelTable& emulated_table() noexcept;
}

inline std::vector<const KernelTable*> tables() {
  std::vector<const KernelTable*> out;
  for (Isa isa : supported_isas()) out.push_back(table_named(isa_name(isa).c_str()));
#ifdef OCTET_KERNELS_EMULATED
  if (table_named("avx2") != nullptr)
    for (const KernelTable* set :
         {&avxvnni_emulated::emulated_table(), &avx512_emulated::emulated_table(),
          &amx_emulated::emulated_table()})
      out.push_back(set);
#endif
  return out;
}

inline std::string set_name(const testing::TestParamInfo<const KernelTable*>& info) {
  return info.param->name;
}

inline constexpr double kU = double{FLT_EPSILON} / 2;  // relative error of one rounded operation

// v rounded to the digits of a storage type, ties to even; int8 saturates, and NaN becomes -128
// there (other values are in range here).
inline float rounded(float v, FloatType type) {
  if (type == FloatType::kF32 || v == 0) return v;
  if (type == FloatType::kI8)
    return std::isnan(v) ? -128 : std::clamp(std::nearbyint(v), -128.0f, 127.0f);
  const int digits = type == FloatType::kF16 ? 11 : 8;
  const int lowest = type == FloatType::kF16 ? -24 : -133;  // exponents of the smallest values
  const int last = std::max(std::ilogb(v) + 1 - digits, lowest);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(double{v}, -last)), last));
}

inline float element(const void* p, FloatType type, size_t i) {
  switch (type) {
    case FloatType::kF32:
      return static_cast<const float*>(p)[i];
    case FloatType::kF16:
      return to_float(static_cast<const f16*>(p)[i]);
    case FloatType::kBF16:
      return to_float(static_cast<const bf16*>(p)[i]);
    case FloatType::kI8:
      return static_cast<const int8_t*>(p)[i];
  }
  return NAN;
}

// w [n, k] in a storage type: the bytes, and the values that they stand for.
struct StoredWeights {
  StoredWeights(const std::vector<float>& w, FloatType type) {
    for (float v : w) {
      values.push_back(rounded(v, type));
      const auto append = [&](auto stored) {
        const auto* p = reinterpret_cast<const uint8_t*>(&stored);
        bytes.insert(bytes.end(), p, p + sizeof stored);
      };
      if (type == FloatType::kF32) append(values.back());
      if (type == FloatType::kF16) append(to_f16(v).bits);
      if (type == FloatType::kBF16) append(to_bf16(v).bits);
      if (type == FloatType::kI8) append(static_cast<int8_t>(values.back()));
    }
  }
  const void* data() const { return bytes.data(); }
  std::vector<uint8_t> bytes;
  std::vector<float> values;
};

// Values of a size that the type stores with most of its digits.
inline float span_of(FloatType type) { return type == FloatType::kI8 ? 120.0f : 1.0f; }

inline constexpr FloatType kTypes[] = {FloatType::kF32, FloatType::kF16, FloatType::kBF16,
                                       FloatType::kI8};

class KernelTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  std::vector<float> random(size_t n, float lo = -1, float hi = 1) {
    std::uniform_real_distribution<float> d(lo, hi);
    std::vector<float> v(n);
    for (float& f : v) f = d(rng_);
    return v;
  }
  std::mt19937 rng_{7};
};

}  // namespace octet::kernels
