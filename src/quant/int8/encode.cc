#include "src/quant/int8/encode.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "src/base/error.h"
#include "src/base/float16.h"

namespace octet {
namespace {

template <typename T, typename Convert>
std::vector<std::byte> encode_as(std::span<const float> values, Convert convert) {
  std::vector<std::byte> out(values.size() * sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    const T v = convert(values[i]);
    if (std::isfinite(values[i]) && !std::isfinite(to_float(v)))
      throw Error("a value does not fit the model's 16-bit type")
          .found(std::to_string(values[i]))
          .remedy("use another --anti_method, or a bfloat16 model");
    std::memcpy(out.data() + i * sizeof(T), &v, sizeof(T));
  }
  return out;
}

}  // namespace

float round_to(float v, DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return to_float(to_f16(v));
    case DType::kBF16:
      return to_float(to_bf16(v));
    case DType::kF32:
      return v;
    default:
      OCTET_CHECK(false);
  }
}

std::vector<std::byte> encode(std::span<const float> values, DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return encode_as<f16>(values, to_f16);
    case DType::kBF16:
      return encode_as<bf16>(values, to_bf16);
    case DType::kF32:
      return encode_as<float>(values, [](float v) { return v; });
    default:
      OCTET_CHECK(false);
  }
}

std::vector<float> deq_scale(const RoundedWeight& w, const QuantParams& input) {
  std::vector<float> d(w.scale.size());
  for (size_t j = 0; j < d.size(); ++j) d[j] = input.scale * w.scale[j];
  return d;
}

std::vector<std::byte> bytes_of(std::span<const std::byte> data) {
  return {data.begin(), data.end()};
}

std::vector<std::byte> encode_deq_scale(std::span<const float> values, DType dtype) {
  if (dtype != DType::kI64) return encode(values, dtype);
  std::vector<std::byte> out(values.size() * sizeof(int64_t));
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t bits = std::bit_cast<int32_t>(values[i]);
    std::memcpy(out.data() + i * sizeof bits, &bits, sizeof bits);
  }
  return out;
}

std::vector<int32_t> quant_bias(const std::string& name, const RoundedWeight& w,
                                const QuantParams& input, const std::vector<float>& bias,
                                bool in_float32) {
  const std::vector<float> d = deq_scale(w, input);
  std::vector<int32_t> q(d.size());
  for (size_t j = 0; j < q.size(); ++j) {
    const float b = bias.empty() ? 0.0f : bias[j];
    const double value =
        in_float32 ? double{std::nearbyint(b / d[j] - static_cast<float>(w.sum[j]) * input.offset)}
                   : std::nearbyint(double{b} / d[j]) -
                         static_cast<double>(w.sum[j]) * double{input.offset};
    if (!(std::fabs(value) < 2147483648.0))
      throw Error("quant_bias does not fit 32 bits")
          .tensor(name + ".quant_bias")
          .field(fmt::format("output {}", j))
          .expected("less than 2^31 either way")
          .found(fmt::format("{:.6g}", value))
          .remedy(
              fmt::format("quantize again with this linear in float: --disable_names {}", name));
    q[j] = static_cast<int32_t>(value);
  }
  return q;
}

}  // namespace octet
