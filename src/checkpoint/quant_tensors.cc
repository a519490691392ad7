#include "src/checkpoint/quant_tensors.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "src/base/error.h"
#include "src/checkpoint/scheme.h"

namespace octet {
namespace {

using Form = QuantTensor::Form;
using Type = QuantTensor::Type;
using Values = QuantTensor::Values;

bool has_type(DType dtype, Type type) {
  switch (type) {
    case Type::kFloat32:
    case Type::kFloat:
      return is_float(dtype);
    case Type::kFloatOrInt8:
      return is_float(dtype) || dtype == DType::kI8;
    case Type::kInt32:
      return dtype == DType::kI32;
    case Type::kInt8OrInt32:
      return dtype == DType::kI8 || dtype == DType::kI32;
    case Type::kDeqScale:
      return dtype == DType::kI64 || dtype == DType::kF32;
  }
  OCTET_CHECK(false);
}

const char* type_words(Type type) {
  switch (type) {
    case Type::kFloat32:
    case Type::kFloat:
      return "F16, BF16 or F32";
    case Type::kFloatOrInt8:
      return "F16, BF16, F32 or I8";
    case Type::kInt32:
      return "I32";
    case Type::kInt8OrInt32:
      return "I8 or I32";
    case Type::kDeqScale:
      return "I64 or F32";
  }
  OCTET_CHECK(false);
}

bool good(float v, Values values) {
  switch (values) {
    case Values::kFinite:
      return std::isfinite(v);
    case Values::kPositive:
      return v > 0 && std::isfinite(v);
    case Values::kInt8:
      return v >= -128 && v <= 127 && v == std::nearbyint(v);
    case Values::kZero:
      return v == 0;
  }
  OCTET_CHECK(false);
}

const char* value_words(Values values) {
  switch (values) {
    case Values::kFinite:
      return "finite numbers";
    case Values::kPositive:
      return "positive numbers";
    case Values::kInt8:
      return "an integer from -128 to 127";
    case Values::kZero:
      return "zeros: weights of this type are symmetric";
  }
  OCTET_CHECK(false);
}

}  // namespace

bool fits(const TensorView& t, const QuantTensor& rule, uint64_t n) {
  const bool one = t.elements() == 1 && t.shape.size() <= 1;
  if (rule.form == Form::kAnyColumn && (one || t.shape == Shape{n})) return true;
  return (rule.form == Form::kOne && one) || t.shape == rule.shape(n);
}

std::span<const QuantTensor> quant_tensors(const ModelFolder& folder, Scheme scheme) {
  const SchemeRow& row = scheme_row(scheme);
  return folder.compressed_tensors() ? row.compressed_tensors : row.tensors;
}

std::optional<TensorProblem> problem_of(const TensorView& t, const QuantTensor& rule, uint64_t n) {
  if (!fits(t, rule, n))
    return TensorProblem{"wrong shape", shape_string(rule.shape(n)),
                         fmt::format("{} {}", dtype_name(t.dtype), shape_string(t.shape))};
  if (!has_type(t.dtype, rule.type))
    return TensorProblem{"wrong dtype", type_words(rule.type), std::string(dtype_name(t.dtype))};
  if (rule.type == Type::kInt32) return std::nullopt;
  if (t.dtype == DType::kI64)
    for (int64_t bits : t.values<int64_t>())
      if (bits != static_cast<int64_t>(static_cast<int32_t>(bits)))
        return TensorProblem{"bad value", "the bits of a float32", std::to_string(bits)};
  for (float v : quant_values(t))
    if (!good(v, rule.values))
      return TensorProblem{"bad value", value_words(rule.values), fmt::format("{}", v)};
  return std::nullopt;
}

void expect_quant_tensors(const ModelFolder& folder, const std::string& prefix,
                          std::span<const QuantTensor> rules, uint64_t n) {
  for (const QuantTensor& rule : rules) {
    const std::string name = prefix + rule.suffix;
    if (rule.spare || (!rule.needed && folder.tensors().find(name) == nullptr)) continue;
    const TensorView& t = folder.tensors().get(name);
    if (const auto problem = problem_of(t, rule, n))
      throw Error(problem->problem)
          .file(t.file->path().string())
          .tensor(t.name)
          .expected(problem->expected)
          .found(problem->found)
          .remedy("the checkpoint is damaged; run `octet check`");
  }
}

std::vector<float> quant_values(const TensorView& t) {
  std::vector<float> out;
  if (t.dtype == DType::kI8) {
    for (int8_t v : t.values<int8_t>()) out.push_back(v);
    return out;
  }
  if (t.dtype == DType::kI32) {
    for (int32_t v : t.values<int32_t>()) out.push_back(static_cast<float>(v));
    return out;
  }
  if (t.dtype == DType::kI64) {
    for (int64_t bits : t.values<int64_t>())
      out.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    return out;
  }
  return t.floats();
}

InputQuant input_quant(const ModelFolder& folder, const std::string& prefix) {
  const TensorStore& tensors = folder.tensors();
  const float scale = quant_values(tensors.get(prefix + suffix::kInputScale))[0];
  if (!folder.compressed_tensors())
    return {scale, quant_values(tensors.get(prefix + suffix::kInputOffset))[0]};
  const TensorView* zero = tensors.find(prefix + suffix::kInputZeroPoint);
  return {scale, zero == nullptr ? 0.0f : quant_values(*zero)[0]};
}

std::vector<float> weight_scales(const ModelFolder& folder, const std::string& prefix, uint64_t n) {
  const TensorStore& tensors = folder.tensors();
  if (!folder.compressed_tensors() && is_static(folder.scheme(prefix))) {
    std::vector<float> scales = quant_values(tensors.get(prefix + suffix::kDeqScale));
    const float input = input_quant(folder, prefix).scale;
    for (float& s : scales) s /= input;
    return scales;
  }
  std::vector<float> scales = quant_values(tensors.get(prefix + suffix::kWeightScale));
  if (scales.size() == 1) scales.resize(n, scales[0]);  // one for the whole tensor
  return scales;
}

std::vector<int64_t> row_sums(const TensorView& weight) {
  const uint64_t n = weight.shape[0], k = weight.shape[1];
  const int8_t* q = reinterpret_cast<const int8_t*>(weight.data.data());
  std::vector<int64_t> sums(n);
  for (uint64_t j = 0; j < n; ++j)
    for (uint64_t i = 0; i < k; ++i) sums[j] += q[j * k + i];
  return sums;
}

}  // namespace octet
