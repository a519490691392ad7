#include "src/checkpoint/quant_tensors.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "src/base/error.h"

namespace octet {
namespace {

using Form = QuantTensor::Form;
using Type = QuantTensor::Type;
using Values = QuantTensor::Values;

constexpr QuantTensor kInputScale = {".input_scale", Form::kOne, Type::kFloat, Values::kPositive,
                                     true};
constexpr QuantTensor kInputOffset = {".input_offset", Form::kOne, Type::kFloatOrInt8,
                                      Values::kInt8, true};
constexpr QuantTensor kQuantBias = {".quant_bias", Form::kRow, Type::kInt32, Values::kFinite, true};
constexpr QuantTensor kDeqScale = {".deq_scale", Form::kRow, Type::kDeqScale, Values::kFinite,
                                   true};
constexpr QuantTensor kWeightScale = {".weight_scale", Form::kColumn, Type::kFloat,
                                      Values::kPositive, true};
constexpr QuantTensor kNoOffset = {".weight_offset", Form::kColumn, Type::kFloat, Values::kZero,
                                   true};
constexpr QuantTensor kWeightOffset = {".weight_offset", Form::kColumn, Type::kFloat,
                                       Values::kFinite, true};
// Static linears need no weight scale: deq_scale holds it.
constexpr QuantTensor kSpareScale = {".weight_scale", Form::kColumn, Type::kFloat,
                                     Values::kPositive, false};
constexpr QuantTensor kSpareOffset = {".weight_offset", Form::kColumn, Type::kFloat,
                                      Values::kFinite, false};

constexpr QuantTensor kStatic[] = {kInputScale, kInputOffset, kQuantBias,
                                   kDeqScale,   kSpareScale,  kSpareOffset};
constexpr QuantTensor kDynamic[] = {kWeightScale, kNoOffset};
constexpr QuantTensor kWeightOnly[] = {kWeightScale, kWeightOffset};
constexpr QuantTensor kMix[] = {kInputScale, kInputOffset, kQuantBias,
                                kDeqScale,   kWeightScale, kNoOffset};
constexpr QuantTensor kKvCache[] = {
    {".kv_cache_scale", Form::kRow, Type::kFloat, Values::kPositive, true},
    {".kv_cache_offset", Form::kRow, Type::kFloat, Values::kFinite, true}};

bool has_type(DType dtype, Type type) {
  switch (type) {
    case Type::kFloat:
      return is_float(dtype);
    case Type::kFloatOrInt8:
      return is_float(dtype) || dtype == DType::kI8;
    case Type::kInt32:
      return dtype == DType::kI32;
    case Type::kDeqScale:
      return dtype == DType::kI64 || dtype == DType::kF32;
  }
  OCTET_CHECK(false);
}

const char* type_words(Type type) {
  switch (type) {
    case Type::kFloat:
      return "F16, BF16 or F32";
    case Type::kFloatOrInt8:
      return "F16, BF16, F32 or I8";
    case Type::kInt32:
      return "I32";
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

Shape QuantTensor::shape(uint64_t n) const {
  if (form == Form::kOne) return {1};
  return form == Form::kRow ? Shape{n} : Shape{n, 1};
}

std::span<const QuantTensor> quant_tensors(Scheme scheme) {
  switch (scheme) {
    case Scheme::kFloat:
      return {};
    case Scheme::kW8A8:
      return kStatic;
    case Scheme::kW8A8Dynamic:
      return kDynamic;
    case Scheme::kW8A16:
      return kWeightOnly;
    case Scheme::kW8A8Mix:
      return kMix;
  }
  OCTET_CHECK(false);
}

std::span<const QuantTensor> kv_cache_tensors() { return kKvCache; }

std::optional<TensorProblem> problem_of(const TensorView& t, const QuantTensor& rule, uint64_t n) {
  if (t.shape != rule.shape(n) && !(rule.form == Form::kOne && t.elements() == 1))
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
    if (!rule.needed) continue;
    const TensorView& t = folder.tensors().get(prefix + rule.suffix);
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
  if (t.dtype == DType::kI64) {
    for (int64_t bits : t.values<int64_t>())
      out.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    return out;
  }
  return t.floats();
}

}  // namespace octet
