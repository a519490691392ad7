#include "src/quant/relayout/relayout_plan.h"

#include <gmock/gmock.h>

#include <cmath>

#include "src/quant/relayout/relayout_testing.h"

namespace octet {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using tests::halves;
using tests::kTinyNorm;
using tests::kTinyQ;
using tests::TinyQuantized;
using tests::values_of;

class RelayoutPlan : public tests::RelayoutTest {
 protected:
  RelayoutPlan() { model_.make_static_q(); }

  // The tensor `kTinyNorm`.weight with these values, given to copy_float().
  template <typename T>
  PlannedTensor passed_float(DType stored, const std::vector<T>& values, DType wanted) {
    model_.set(kTinyNorm + ".weight", stored, {values.size()}, values);
    model_.write(from(), Layout::kOctet);
    source_.emplace(from());
    LayoutPlan plan;
    PlanBuilder(*source_, plan)
        .copy_float("norm", source_->tensors().get(kTinyNorm + ".weight"), wanted);
    EXPECT_EQ(plan.tensors.size(), 1u);
    EXPECT_EQ(plan.tensors[0].spec.name, "norm");
    EXPECT_EQ(plan.tensors[0].spec.shape, Shape{values.size()});
    EXPECT_EQ(plan.tensors[0].type, "FLOAT");
    return plan.tensors[0];
  }

  TinyQuantized model_;
  std::optional<QuantizedSource> source_;
};

TEST_F(RelayoutPlan, TensorsInTheOrderInWhichTheyAreAdded) {
  model_.write(from(), Layout::kOctet);
  const QuantizedSource source(from());
  LayoutPlan plan;
  PlanBuilder build(source, plan);
  build.make("made", DType::kI8, {2, 1}, "W8A8", [] {
    return std::vector<std::byte>{std::byte{7}, std::byte{9}};
  });
  build.copy("other", source.tensors().get(kTinyQ + ".weight"), "C8");
  build.make_zeros("zeros", DType::kF32, {3, 1}, "W8A16");
  ASSERT_EQ(plan.tensors.size(), 3u);
  EXPECT_EQ(plan.tensors[0].spec.name, "made");
  EXPECT_EQ(plan.tensors[0].spec.shape, (Shape{2, 1}));
  EXPECT_EQ(plan.tensors[0].type, "W8A8");
  EXPECT_EQ(values_of<int8_t>(plan.tensors[0]), (std::vector<int8_t>{7, 9}));
  EXPECT_EQ(plan.tensors[1].spec.name, "other");
  EXPECT_EQ(plan.tensors[1].spec.dtype, DType::kI8);
  EXPECT_EQ(plan.tensors[1].spec.shape, (Shape{2, 2}));
  EXPECT_EQ(plan.tensors[1].type, "C8");
  EXPECT_EQ(values_of<int8_t>(plan.tensors[1]), (std::vector<int8_t>{1, 2, 3, -8}));
  EXPECT_EQ(values_of<int8_t>(plan.tensors[1]), (std::vector<int8_t>{1, 2, 3, -8}));  // once more
  EXPECT_EQ(plan.tensors[2].spec.dtype, DType::kF32);
  EXPECT_EQ(plan.tensors[2].type, "W8A16");
  EXPECT_EQ(values_of<float>(plan.tensors[2]), (std::vector<float>{0, 0, 0}));
}

TEST_F(RelayoutPlan, FloatsInTheWantedTypeIfItHoldsThem) {
  // 1 and -0.5 in bfloat16: the upper halves of 3f800000 and bf000000.
  const PlannedTensor bf16 = passed_float(DType::kF16, halves({1, -0.5f}), DType::kBF16);
  EXPECT_EQ(bf16.spec.dtype, DType::kBF16);
  EXPECT_EQ(values_of<uint16_t>(bf16), (std::vector<uint16_t>{0x3f80, 0xbf00}));
  const PlannedTensor wide = passed_float(DType::kF16, halves({1, 0x1p-24f}), DType::kF32);
  EXPECT_EQ(wide.spec.dtype, DType::kF32);
  EXPECT_EQ(values_of<float>(wide), (std::vector<float>{1, 0x1p-24f}));
  const std::vector<float> limits = {65504, 0x1p-24f, -2};  // the largest and the least of float16
  const PlannedTensor f16 = passed_float(DType::kF32, limits, DType::kF16);
  EXPECT_EQ(f16.spec.dtype, DType::kF16);
  EXPECT_EQ(values_of<uint16_t>(f16), (std::vector<uint16_t>{0x7bff, 0x0001, 0xc000}));
}

TEST_F(RelayoutPlan, FloatsAsTheyAreWhereTheWantedTypeRounds) {
  // 1 + 2^-10 has 10 bits behind the point, bfloat16 has 7.
  const PlannedTensor half = passed_float(DType::kF16, halves({1, 1 + 0x1p-10f}), DType::kBF16);
  EXPECT_EQ(half.spec.dtype, DType::kF16);
  EXPECT_EQ(values_of<uint16_t>(half), (std::vector<uint16_t>{0x3c00, 0x3c01}));
  for (const float v : {65536.0f, 65505.0f, 0x1p-25f, 1 + 0x1p-11f, std::nanf("")}) {
    const PlannedTensor kept = passed_float(DType::kF32, std::vector<float>{1, v}, DType::kF16);
    EXPECT_EQ(kept.spec.dtype, DType::kF32) << v;
    EXPECT_EQ(values_of<uint32_t>(kept)[1], std::bit_cast<uint32_t>(v));
  }
}

TEST_F(RelayoutPlan, RefusesTheFirstTensorThatIsNotUsed) {
  model_.tensors.clear();
  model_.types.clear();
  for (const char* name : {"a.weight", "b.weight", "c.weight", "d.weight", "e.weight"})
    model_.set_half(name, {2});
  model_.set_half("model.layers.0.self_attn.rotary_emb.inv_freq", {1});  // every loader makes it
  model_.make_static_q();
  for (const auto& name : {tests::kTinyK, tests::kTinyV, tests::kTinyO, tests::kTinyGate,
                           tests::kTinyUp, tests::kTinyDown})
    model_.set_half(name + ".weight", {1});
  model_.write(from(), Layout::kOctet);
  const QuantizedSource source(from());
  LayoutPlan plan;
  PlanBuilder build(source, plan);
  for (const TensorView* t : source.tensors().all())
    if (t->name.starts_with("model.") && !t->name.ends_with("inv_freq")) build.mark_used(t->name);
  build.copy("another name", source.tensors().get("a.weight"), "");
  build.mark_used("c.weight");
  build.copy_float("x", source.tensors().get("e.weight"), DType::kF32);
  const std::string refusal = tests::message_of([&] { build.refuse_unused(); });
  EXPECT_THAT(refusal, HasSubstr("the other layout has no place for this tensor"));
  EXPECT_THAT(refusal, HasSubstr("b.weight"));
  EXPECT_THAT(refusal, Not(HasSubstr("d.weight")));
  build.mark_used("b.weight");
  EXPECT_THAT(tests::message_of([&] { build.refuse_unused(); }), HasSubstr("d.weight"));
  // A tensor of that name which is made does not use the stored one.
  build.make_zeros("d.weight", DType::kF32, {1}, "");
  EXPECT_THAT(tests::message_of([&] { build.refuse_unused(); }), HasSubstr("d.weight"));
  build.mark_used("d.weight");
  EXPECT_NO_THROW(build.refuse_unused());
}

TEST_F(RelayoutPlan, OfEachLayoutByItsName) {
  model_.write(from(), Layout::kMsmodelslim);
  const QuantizedSource source(from());
  const std::map<Layout, std::string> stems = {{Layout::kOctet, "quant_model_weight_w8a8"},
                                               {Layout::kMsmodelslim, "quant_model_weight_w8a8"},
                                               {Layout::kMindie, "quant_model_weight_w8a8"},
                                               {Layout::kMsmodelslimV1, "quant_model_weights"},
                                               {Layout::kCompressedTensors, "model"}};
  const std::map<Layout, std::string> descriptions = {
      {Layout::kOctet, "quant_model_description.json"},
      {Layout::kMsmodelslim, "quant_model_description.json"},
      {Layout::kMindie, "quant_model_description_w8a8.json"},
      {Layout::kMsmodelslimV1, "quant_model_description.json"},
      {Layout::kCompressedTensors, ""}};
  for (const auto& [layout, stem] : stems) {
    const LayoutPlan plan = plan_layout(source, layout);
    EXPECT_EQ(plan.stem, stem);
    EXPECT_EQ(plan.description_name, descriptions.at(layout));
    EXPECT_EQ(plan.metadata, layout != Layout::kMsmodelslim && layout != Layout::kMindie);
  }
}

}  // namespace
}  // namespace octet
