#include "src/checkpoint/scheme.h"

#include <fmt/format.h>

#include "src/base/error.h"

namespace octet {
namespace {

using Role = QuantTensor::Role;
using Form = QuantTensor::Form;
using Type = QuantTensor::Type;
using Values = QuantTensor::Values;

// Scales of weights are float32 whatever the model's type: small ones are no float16.
constexpr QuantTensor kWeightScale = {Role::kWeightScale, suffix::kWeightScale, Form::kColumn,
                                      Type::kFloat32, Values::kPositive};
constexpr QuantTensor kWeightOffset = {Role::kWeightOffset, suffix::kWeightOffset, Form::kColumn,
                                       Type::kFloat32, Values::kFinite};
constexpr QuantTensor kNoOffset = {Role::kWeightOffset, suffix::kWeightOffset, Form::kColumn,
                                   Type::kFloat32, Values::kZero};
// Static linears need neither: deq_scale holds the scale.
constexpr QuantTensor spare(QuantTensor t) {
  t.needed = false;
  t.spare = true;
  return t;
}
constexpr QuantTensor kInputScale = {Role::kInputScale, suffix::kInputScale, Form::kOne,
                                     Type::kFloat, Values::kPositive};
constexpr QuantTensor kInputOffset = {Role::kInputOffset, suffix::kInputOffset, Form::kOne,
                                      Type::kFloatOrInt8, Values::kInt8};
constexpr QuantTensor kQuantBias = {Role::kQuantBias, suffix::kQuantBias, Form::kRow, Type::kInt32,
                                    Values::kFinite};
constexpr QuantTensor kDeqScale = {Role::kDeqScale, suffix::kDeqScale, Form::kRow, Type::kDeqScale,
                                   Values::kFinite};

constexpr QuantTensor kStatic[] = {spare(kWeightScale), spare(kWeightOffset), kInputScale,
                                   kInputOffset,        kQuantBias,           kDeqScale};
constexpr QuantTensor kDynamic[] = {kWeightScale, kNoOffset};
constexpr QuantTensor kWeightOnly[] = {kWeightScale, kWeightOffset};
constexpr QuantTensor kMix[] = {kWeightScale, kNoOffset,  kInputScale,
                                kInputOffset, kQuantBias, kDeqScale};
// compressed-tensors: no zero point for symmetric inputs.
constexpr QuantTensor kAnyWeightScale = {Role::kWeightScale, suffix::kWeightScale, Form::kAnyColumn,
                                         Type::kFloat, Values::kPositive};
constexpr QuantTensor kZeroPoint = {Role::kInputOffset, suffix::kInputZeroPoint, Form::kOne,
                                    Type::kInt8OrInt32, Values::kInt8,           false};
constexpr QuantTensor kCompressedStatic[] = {kInputScale, kZeroPoint, kAnyWeightScale};
constexpr QuantTensor kCompressedDynamic[] = {kAnyWeightScale};
constexpr QuantTensor kKvCache[] = {
    {Role::kKvScale, suffix::kKvScale, Form::kRow, Type::kFloat32, Values::kPositive},
    {Role::kKvOffset, suffix::kKvOffset, Form::kRow, Type::kFloat32, Values::kFinite}};

constexpr SchemeRow kRows[] = {
    {.scheme = Scheme::kFloat,
     .word = kFloatWord,
     .mindie_word = kFloatWord,
     .short_word = "float",
     .int8_weights = false,
     .static_input = false,
     .per_token = false,
     .rank = 0},
    {.scheme = Scheme::kW8A8,
     .word = "W8A8",
     .mindie_word = "W8A8",
     .short_word = "static",
     .int8_weights = true,
     .static_input = true,
     .per_token = false,
     .rank = 4,
     .tensors = kStatic,
     .compressed_tensors = kCompressedStatic},
    {.scheme = Scheme::kW8A8Dynamic,
     .word = "W8A8_DYNAMIC",
     .mindie_word = "W8A8_DYNAMIC",
     .short_word = "token",
     .int8_weights = true,
     .static_input = false,
     .per_token = true,
     .rank = 2,
     .tensors = kDynamic,
     .compressed_tensors = kCompressedDynamic},
    {.scheme = Scheme::kW8A16,
     .word = "W8A16",
     .mindie_word = "W8A16",
     .short_word = "W8A16",
     .int8_weights = true,
     .static_input = false,
     .per_token = false,
     .rank = 1,
     .tensors = kWeightOnly,
     .not_in_compressed_tensors =
         "W8A16: its int8 weights are packed there, which is not supported"},
    {.scheme = Scheme::kW8A8Mix,
     .word = "W8A8_MIX",
     .mindie_word = "W8A8",
     .short_word = "mix",
     .int8_weights = true,
     .static_input = true,
     .per_token = true,
     .rank = 3,
     .tensors = kMix,
     .not_in_compressed_tensors = "W8A8_MIX, static and dynamic in one"}};

}  // namespace

std::span<const SchemeRow> scheme_rows() { return kRows; }

const SchemeRow& scheme_row(Scheme scheme) {
  const SchemeRow& row = kRows[static_cast<size_t>(scheme)];
  OCTET_CHECK(row.scheme == scheme);
  return row;
}

std::string scheme_name(Scheme scheme) { return scheme_row(scheme).word; }

std::optional<Scheme> parse_scheme(const std::string& name) {
  for (const SchemeRow& row : kRows)
    if (name == row.word) return row.scheme;
  return std::nullopt;
}

std::string scheme_names() {
  std::string all;
  for (size_t i = 0; i < std::size(kRows); ++i)
    all += fmt::format("{}{}",
                       i == 0                      ? ""
                       : i + 1 == std::size(kRows) ? " or "
                                                   : ", ",
                       kRows[i].word);
  return all;
}

Scheme highest(const std::map<std::string, Scheme>& types) {
  Scheme best = Scheme::kFloat;
  for (const auto& [name, scheme] : types)
    if (scheme_row(scheme).rank > scheme_row(best).rank) best = scheme;
  return best;
}

std::span<const QuantTensor> kv_cache_tensors() { return kKvCache; }

Shape QuantTensor::shape(uint64_t n) const {
  if (form == Form::kOne) return {1};
  return form == Form::kRow ? Shape{n} : Shape{n, 1};
}

DType QuantTensor::stored_as(const StoredTypes& types) const {
  switch (type) {
    case Type::kFloat32:
      return DType::kF32;
    case Type::kFloat:
    case Type::kFloatOrInt8:
      return types.linears;
    case Type::kInt32:
      return DType::kI32;
    case Type::kInt8OrInt32:
      return DType::kI8;
    case Type::kDeqScale:
      return types.deq_scale;
  }
  OCTET_CHECK(false);
}

}  // namespace octet
