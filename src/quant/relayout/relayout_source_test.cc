#include "src/quant/relayout/relayout_source.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "src/quant/relayout/relayout_testing.h"

namespace octet {
namespace {

using ::testing::HasSubstr;
using tests::kTinyDown;
using tests::kTinyK;
using tests::kTinyQ;
using tests::kTinyUp;
using tests::TinyQuantized;

class RelayoutSource : public tests::RelayoutTest {
 protected:
  std::string refusal_of(const TinyQuantized& model, Layout layout = Layout::kOctet) {
    for (const auto& entry : fs::directory_iterator(from())) fs::remove(entry.path());
    model.write(from(), layout);
    return tests::message_of([&] { QuantizedSource{from()}; });
  }
  static constexpr LinearShape kSquare{2, 2, false};
};

TEST_F(RelayoutSource, RefusesAFloatCheckpoint) {
  const fs::path model = tests::kGolden / "llama_fp16/model";
  EXPECT_THAT(tests::message_of([&] { QuantizedSource{model}; }),
              HasSubstr("a float checkpoint has no other layout"));
}

TEST_F(RelayoutSource, FindsTheLayoutOfHandMadeFolders) {
  for (const Layout layout : {Layout::kOctet, Layout::kMsmodelslim, Layout::kMindie,
                              Layout::kMsmodelslimV1, Layout::kCompressedTensors}) {
    const tests::TempFolder folder("relayout_layout");
    TinyQuantized model;
    if (layout == Layout::kCompressedTensors)
      model.make_compressed_static(kTinyQ, {1, 2, 3, -8}, {0.25f, 0.125f}, 0.5f, {});
    else
      model.make_static_q();
    model.write(folder.path(), layout);
    const QuantizedSource source(folder.path());
    EXPECT_EQ(source.layout(), layout) << layout_name(layout);
    EXPECT_EQ(source.scheme(kTinyQ), Scheme::kW8A8);
    EXPECT_EQ(source.scheme(kTinyK), Scheme::kFloat);
    EXPECT_EQ(source.scheme(kHead), Scheme::kFloat);
    EXPECT_EQ(source.schemes().size(), 8u);
    EXPECT_FALSE(source.int8_kv());
  }
}

TEST_F(RelayoutSource, FindsTheLayoutOfTheToolsFolders) {
  take_golden("llama_fp16", "mindie_m1");
  EXPECT_EQ(QuantizedSource(from()).layout(), Layout::kMindie);
  EXPECT_EQ(QuantizedSource(from()).description_file(),
            from() / "quant_model_description_w8a8.json");
  tests::copy_quantized(tests::kGolden / "llama_fp16", "kv8", to_);
  const QuantizedSource other(to());
  EXPECT_EQ(other.layout(), Layout::kMsmodelslim);
  EXPECT_EQ(other.description_file(), to() / "quant_model_description.json");
  EXPECT_TRUE(other.int8_kv());
}

// docs/formats.md, "The W8A8 formula".
TEST_F(RelayoutSource, NumbersOfAStaticLinear) {
  TinyQuantized model;
  model.make_static_q();
  model.write(from(), Layout::kOctet);
  const StaticLinear l = QuantizedSource(from()).static_linear(kTinyQ, kSquare);
  EXPECT_EQ(l.input.scale, 0.5f);
  EXPECT_EQ(l.input.offset, 3);
  EXPECT_EQ(l.deq_scale, (std::vector<float>{0.125f, 0.0625f}));
  EXPECT_EQ(l.weight_scale, (std::vector<float>{0.25f, 0.125f}));  // deq_scale / 0.5
  EXPECT_EQ(l.row_sum, (std::vector<int64_t>{3, -5}));
  EXPECT_EQ(l.quant_bias, (std::vector<int32_t>{-1, 7}));
  EXPECT_EQ(l.bias_levels(), (std::vector<int64_t>{8, -8}));  // -1 + 3 * 3, 7 + 3 * -5
}

TEST(RelayoutStaticLinear, LevelsOfABiasBeyond32Bits) {
  StaticLinear l;
  l.input = {1, -128};
  l.row_sum = {-127 * 100000};
  l.quant_bias = {INT32_MAX};
  EXPECT_EQ(l.bias_levels(),
            (std::vector<int64_t>{int64_t{INT32_MAX} + int64_t{128} * 127 * 100000}));
}

// Loaders compute with deq_scale, so a stored weight_scale counts only where the two agree.
TEST_F(RelayoutSource, AStoredWeightScaleGivesWayToDeqScale) {
  TinyQuantized model;
  model.make_static_q();
  model.set(kTinyQ + ".weight_scale", DType::kF32, {2, 1}, std::vector<float>{0.25f, 7}, "W8A8");
  model.write(from(), Layout::kMsmodelslim);
  EXPECT_EQ(QuantizedSource(from()).static_linear(kTinyQ, kSquare).weight_scale,
            (std::vector<float>{0.25f, 0.125f}));
}

// The w for which input_scale * w is deq_scale in float32 (docs/convert.md), or for a deq_scale
// that no w gives the nearest.
TEST_F(RelayoutSource, WeightScalesGiveDeqScaleBack) {
  std::mt19937 engine(5);
  std::uniform_real_distribution<float> scale(0.001f, 0.01f);
  size_t beside = 0;
  for (int i = 0; i < 20; ++i) {
    const float input = scale(engine);
    const std::vector<float> deq = {input * scale(engine), input * scale(engine),
                                    1e-3f * scale(engine), 1e-3f * scale(engine)};
    TinyQuantized model;
    model.make_static(kTinyUp, std::vector<int8_t>(8, 1), 1, 3, deq, std::vector<int32_t>(4));
    model.set(kTinyUp + ".input_scale", DType::kF32, {1}, std::vector<float>{input}, "W8A8");
    model.write(from(), Layout::kOctet);
    const StaticLinear l = QuantizedSource(from()).static_linear(kTinyUp, {4, 2, false});
    EXPECT_EQ(input * l.weight_scale[0], deq[0]);
    EXPECT_EQ(input * l.weight_scale[1], deq[1]);
    for (size_t j : {2, 3}) {
      const auto miss = [&](float w) {
        return std::fabs(double{input} * double{w} - double{deq[j]});
      };
      const float w = l.weight_scale[j];
      EXPECT_LE(miss(w), miss(std::nextafter(w, 0.0f)));
      EXPECT_LE(miss(w), miss(std::nextafter(w, 1.0f)));
      beside += input * w != deq[j];
    }
  }
  EXPECT_GT(beside, 0u);
}

// deq_scale = input_scale * weight_scale; quant_bias = rne(bias / deq_scale) - offset * row sum.
TEST_F(RelayoutSource, NumbersOfCompressedTensors) {
  TinyQuantized model("qwen2");
  model.make_compressed_static(kTinyQ, {1, 2, 3, -8}, {0.25f, 0.125f}, 0.5f, {3});
  model.set(kTinyQ + ".bias", DType::kF32, {2}, std::vector<float>{0.3125f, -0.3f});
  model.write(from(), Layout::kCompressedTensors);
  const QuantizedSource source(from());
  const StaticLinear l = source.static_linear(kTinyQ, {2, 2, true});
  EXPECT_EQ(l.input.scale, 0.5f);
  EXPECT_EQ(l.input.offset, 3);
  EXPECT_EQ(l.weight_scale, (std::vector<float>{0.25f, 0.125f}));
  EXPECT_EQ(l.deq_scale, (std::vector<float>{0.125f, 0.0625f}));
  // 0.3125 / 0.125 = 2.5, to even; -0.3 / 0.0625 = -4.8.
  EXPECT_EQ(l.bias_levels(), (std::vector<int64_t>{2, -5}));
  EXPECT_EQ(l.quant_bias, (std::vector<int32_t>{2 - 9, -5 + 15}));
  EXPECT_EQ(source.description_file(), fs::path());
}

TEST_F(RelayoutSource, CompressedTensorsWithoutZeroPointAndBias) {
  TinyQuantized model;
  model.make_compressed_static(kTinyQ, {1, 2, 3, -8}, {0.25f, 0.125f}, 0.5f, {});
  model.set(kTinyQ + ".weight_scale", DType::kF32, {1}, std::vector<float>{0.25f});
  model.write(from(), Layout::kCompressedTensors);
  const StaticLinear l = QuantizedSource(from()).static_linear(kTinyQ, kSquare);
  EXPECT_EQ(l.input.offset, 0);
  EXPECT_EQ(l.weight_scale, (std::vector<float>{0.25f, 0.25f}));  // one for the whole matrix
  EXPECT_EQ(l.quant_bias, (std::vector<int32_t>{0, 0}));
}

// MindIE's older layout has no word for W8A8_MIX, but says in config.json that there are some.
TEST_F(RelayoutSource, MixOfMindiesOlderLayout) {
  TinyQuantized model;
  model.make_static_q();
  model.set(kTinyQ + ".weight_scale", DType::kF32, {2, 1}, std::vector<float>{0.25f, 0.125f},
            "W8A8");
  model.set(kTinyQ + ".weight_offset", DType::kF32, {2, 1}, std::vector<float>(2), "W8A8");
  model.make_dynamic(kTinyDown, std::vector<int8_t>(8, 1), {1, 1});
  model.config["quantization_config"] = {{"group_size", 0}, {"pdmix", true}};
  model.write(from(), Layout::kMindie);
  const QuantizedSource source(from());
  EXPECT_EQ(source.layout(), Layout::kMindie);
  EXPECT_EQ(source.scheme(kTinyQ), Scheme::kW8A8Mix);
  EXPECT_EQ(source.scheme(kTinyDown), Scheme::kW8A8Dynamic);
  model.config["quantization_config"]["pdmix"] = false;
  model.write(from(), Layout::kMindie);
  EXPECT_EQ(QuantizedSource(from()).scheme(kTinyQ), Scheme::kW8A8);
}

TEST_F(RelayoutSource, PlainConfigHasNothingOfQuantization) {
  TinyQuantized model;
  model.make_static_q();
  model.config["rope_theta"] = 12345;
  model.write(from(), Layout::kOctet);
  const QuantizedSource source(from());
  EXPECT_TRUE(source.config().raw.contains("quantization_config"));
  EXPECT_TRUE(source.config().raw.contains("quantize"));
  EXPECT_EQ(source.plain_config().dump(), model.config.dump());  // the order, too
}

TEST_F(RelayoutSource, RefusesWhatIsBroken) {
  TinyQuantized model;
  model.make_static_q();
  TinyQuantized broken = model;
  broken.remove(kTinyQ + ".deq_scale");
  EXPECT_THAT(refusal_of(broken), HasSubstr(kTinyQ + ".deq_scale"));
  broken = model;
  broken.set(kTinyQ + ".input_scale", DType::kF32, {1}, std::vector<float>{0}, "W8A8");
  EXPECT_THAT(refusal_of(broken), HasSubstr(kTinyQ + ".input_scale"));
  broken = model;
  broken.set(kTinyQ + ".input_offset", DType::kF32, {1}, std::vector<float>{128}, "W8A8");
  EXPECT_THAT(refusal_of(broken), HasSubstr(kTinyQ + ".input_offset"));
  broken = model;
  broken.set_weight(kTinyQ, {1, 2, 3, 4, 5, 6}, 2, "W8A8");
  EXPECT_THAT(refusal_of(broken), HasSubstr(kTinyQ + ".weight"));
  broken = model;
  broken.types[kTinyQ + ".weight"] = "W4A4";
  EXPECT_THAT(refusal_of(broken), HasSubstr("this quantization type is not supported"));
}

// Biases are read beside the scales of as many outputs.
TEST_F(RelayoutSource, RefusesABiasOfAnotherLength) {
  for (const size_t length : {1, 3}) {
    TinyQuantized model("qwen2");
    model.make_static_q();
    model.set(kTinyQ + ".bias", DType::kF32, {length}, std::vector<float>(length));
    EXPECT_THAT(refusal_of(model), HasSubstr(kTinyQ + ".bias"));
    TinyQuantized compressed("qwen2");
    compressed.make_compressed_static(kTinyQ, {1, 2, 3, -8}, {0.25f, 0.125f}, 0.5f, {3});
    compressed.set(kTinyQ + ".bias", DType::kF32, {length}, std::vector<float>(length));
    EXPECT_THAT(refusal_of(compressed, Layout::kCompressedTensors), HasSubstr(kTinyQ + ".bias"));
  }
}

}  // namespace
}  // namespace octet
