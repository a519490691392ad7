#include "src/quant/int8/encode.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "src/base/error.h"
#include "src/base/float16.h"
#include "src/checkpoint/scheme.h"

namespace octet {
namespace {

bool overflows(float v, float stored) { return std::isfinite(v) && !std::isfinite(stored); }

Error overflow(float v, DType dtype, const std::string& tensor) {
  const bool half = dtype == DType::kF16;
  return Error("a value does not fit the model's 16-bit type")
      .tensor(tensor)
      .expected(half ? "a magnitude below 65520 (float16)" : "a finite bfloat16")
      .found(fmt::format("{:g}", v))
      .remedy(half ? "set torch_dtype to bfloat16, or use another --anti_method"
                   : "use another --anti_method");
}

template <typename T, typename Convert>
std::vector<std::byte> encode_as(std::span<const float> values, DType dtype,
                                 const std::string& tensor, Convert convert) {
  std::vector<std::byte> out(values.size() * sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    const T v = convert(values[i]);
    if (overflows(values[i], to_float(v))) throw overflow(values[i], dtype, tensor);
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

void round_all(std::vector<float>& values, DType dtype, const std::string& tensor) {
  for (float& v : values) {
    const float stored = round_to(v, dtype);
    if (overflows(v, stored)) throw overflow(v, dtype, tensor);
    v = stored;
  }
}

std::vector<std::byte> encode(std::span<const float> values, DType dtype,
                              const std::string& tensor) {
  switch (dtype) {
    case DType::kF16:
      return encode_as<f16>(values, dtype, tensor, to_f16);
    case DType::kBF16:
      return encode_as<bf16>(values, dtype, tensor, to_bf16);
    case DType::kF32:
      return encode_as<float>(values, dtype, tensor, [](float v) { return v; });
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
          .tensor(name + suffix::kQuantBias)
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
