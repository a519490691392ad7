// Which observer msModelSlim's automatic choice takes, on whole models.
#include <gtest/gtest.h>

#include "src/checkpoint/testing.h"
#include "src/quant/quantizer.h"

namespace octet {
namespace {

using octet::tests::TempFolder;

const fs::path kLlamaModel = fs::path(OCTET_SOURCE_DIR) / "tests/golden/llama_fp16/model";
constexpr const char* kLinear = "model.layers.0.self_attn.q_proj";
constexpr int32_t kHigh = 8, kLow = 9;  // tokens that the samples hold once

CalibrationData samples() {
  CalibrationData data;
  for (int32_t i = 0; i < 2; ++i) {
    std::vector<int32_t> ids;
    for (int32_t t = 0; t < 200; ++t) ids.push_back(10 + (i * 37 + t * 11) % 140);
    data.samples.push_back({ids});
  }
  data.samples[0][0][7] = kHigh;
  data.samples[0][0][70] = kLow;
  return data;
}

float input_scale(const fs::path& model, ActMethod method, const fs::path& target) {
  QuantizeOptions o;
  o.tool().act_method = method;
  o.run.quiet = o.run.overwrite = true;
  quantize(model, target, samples(), o);
  return ModelFolder(target).tensors().get(std::string(kLinear) + ".input_scale").floats()[0];
}

TEST(ActMethodAuto, HistogramsUpToAScoreOfFiftyAndMinMaxAbove) {
  const TempFolder place("act_method_auto");
  // Two tokens have all of their energy in the first channel, which is zero in all others: after
  // the norm it is 8 w and -8 w among 200 tokens of 64 channels, where w is the norm's weight of
  // it. So the score is 8 w / sqrt(1 + 128 w^2 / 12800): 8 for w = 1, 72 for w = 20.
  for (const auto& [weight, same] :
       {std::pair(1.0f, ActMethod::kHistogram), std::pair(20.0f, ActMethod::kMinMax)}) {
    const fs::path model = place / ("model" + std::to_string(weight));
    octet::tests::copy_in_float32(kLlamaModel, model, [&](const std::string& name, auto& values) {
      if (name == "model.embed_tokens.weight") {
        for (size_t i = 0; i < values.size(); i += 64) values[i] = 0;
        for (const auto& [token, value] : {std::pair(kHigh, 1.0f), std::pair(kLow, -1.0f)}) {
          const auto row = values.begin() + std::ptrdiff_t{token} * 64;
          std::fill(row, row + 64, 0.0f);
          *row = value;
        }
      } else if (name == "model.layers.0.input_layernorm.weight") {
        std::fill(values.begin(), values.end(), 1.0f);
        values[0] = weight;
      }
    });
    const float by_auto = input_scale(model, ActMethod::kAuto, place / "out");
    const float histogram = input_scale(model, ActMethod::kHistogram, place / "out");
    const float minmax = input_scale(model, ActMethod::kMinMax, place / "out");
    ASSERT_NE(histogram, minmax);
    EXPECT_EQ(by_auto, same == ActMethod::kMinMax ? minmax : histogram) << weight;
  }
}

}  // namespace
}  // namespace octet
