#include "src/checkpoint/scheme.h"

#include <gtest/gtest.h>

#include <set>

namespace octet {
namespace {

TEST(Scheme, EveryTypeHasARowOfItsOwn) {
  std::set<std::string> words, short_words;
  std::set<int> ranks;
  for (const SchemeRow& row : scheme_rows()) {
    EXPECT_EQ(&scheme_row(row.scheme), &row);
    EXPECT_EQ(parse_scheme(row.word), row.scheme);
    EXPECT_EQ(scheme_name(row.scheme), row.word);
    words.insert(row.word);
    short_words.insert(row.short_word);
    ranks.insert(row.rank);
    EXPECT_EQ(row.int8_weights, !row.tensors.empty()) << row.word;
    EXPECT_TRUE(row.compressed_tensors.empty() || row.not_in_compressed_tensors == nullptr);
  }
  EXPECT_EQ(words.size(), scheme_rows().size());
  EXPECT_EQ(short_words.size(), scheme_rows().size());
  EXPECT_EQ(ranks.size(), scheme_rows().size());
  EXPECT_FALSE(parse_scheme("W4A8"));
  EXPECT_EQ(scheme_names(), "FLOAT, W8A8, W8A8_DYNAMIC, W8A16 or W8A8_MIX");
}

// docs/formats.md: what every type is, and where it has a scale.
TEST(Scheme, Kinds) {
  using enum Scheme;
  for (const auto& [scheme, quantized, fixed, per_token, only_static, weights] :
       {std::tuple(kFloat, false, false, false, false, false),
        std::tuple(kW8A8, true, true, false, true, false),
        std::tuple(kW8A8Dynamic, true, false, true, false, false),
        std::tuple(kW8A16, true, false, false, false, true),
        std::tuple(kW8A8Mix, true, true, true, false, false)}) {
    EXPECT_EQ(is_quantized(scheme), quantized) << scheme_name(scheme);
    EXPECT_EQ(has_static_input(scheme), fixed) << scheme_name(scheme);
    EXPECT_EQ(scales_per_token(scheme), per_token) << scheme_name(scheme);
    EXPECT_EQ(is_static(scheme), only_static) << scheme_name(scheme);
    EXPECT_EQ(is_weight_only(scheme), weights) << scheme_name(scheme);
    EXPECT_EQ(weight_bytes(scheme, DType::kBF16), quantized ? 1u : 2u);
  }
}

// MindIE's tables in docs/formats.md: [n, k] = [8, 4] of a float16 and of a bfloat16 model.
TEST(Scheme, StoredTensors) {
  const auto words = [](Scheme scheme, const StoredTypes& types) {
    std::string all;
    for (const QuantTensor& t : scheme_row(scheme).tensors)
      all += std::string(t.suffix) + (t.spare ? "?" : "") + " " +
             std::string(dtype_name(t.stored_as(types))) + shape_string(t.shape(8)) + "; ";
    return all;
  };
  const StoredTypes half = {DType::kF16, DType::kF16, DType::kI64};
  const StoredTypes brain = {DType::kBF16, DType::kBF16, DType::kF32};
  EXPECT_EQ(words(Scheme::kW8A8, half),
            ".weight_scale? F32[8, 1]; .weight_offset? F32[8, 1]; .input_scale F16[1]; "
            ".input_offset F16[1]; .quant_bias I32[8]; .deq_scale I64[8]; ");
  EXPECT_EQ(words(Scheme::kW8A8Mix, brain),
            ".weight_scale F32[8, 1]; .weight_offset F32[8, 1]; .input_scale BF16[1]; "
            ".input_offset BF16[1]; .quant_bias I32[8]; .deq_scale F32[8]; ");
  EXPECT_EQ(words(Scheme::kW8A8Dynamic, half),
            ".weight_scale F32[8, 1]; .weight_offset F32[8, 1]; ");
  EXPECT_EQ(words(Scheme::kFloat, half), "");
}

TEST(Scheme, TheHighestTypeStandsForTheModel) {
  const auto type = [](const std::map<std::string, Scheme>& types) { return highest(types); };
  using enum Scheme;
  EXPECT_EQ(type({{"a", kFloat}}), kFloat);
  EXPECT_EQ(type({{"a", kW8A16}, {"b", kFloat}}), kW8A16);
  EXPECT_EQ(type({{"a", kW8A8Dynamic}, {"b", kW8A16}}), kW8A8Dynamic);
  EXPECT_EQ(type({{"a", kW8A8Dynamic}, {"b", kW8A8Mix}}), kW8A8Mix);
  EXPECT_EQ(type({{"a", kFloat}, {"b", kW8A8}, {"c", kW8A8Mix}}), kW8A8);
}

}  // namespace
}  // namespace octet
