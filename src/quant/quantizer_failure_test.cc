// What a quantization that fails leaves, at whichever layer it does: one error, and nothing that
// runs on or lies around. The address sanitizer sees what the background writer uses.
#include <gmock/gmock.h>
#include <unistd.h>

#include <limits>

#include "src/base/error.h"
#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/safetensors_writer.h"
#include "src/quant/quantizer.h"

namespace octet {
namespace {

using ::testing::HasSubstr;

const fs::path kQwen3Model = fs::path(OCTET_SOURCE_DIR) / "tests/golden/qwen3_bf16/model";

class FailureAtALayer : public ::testing::TestWithParam<std::tuple<int, bool>> {
 protected:
  FailureAtALayer()
      : dir_(fs::path(::testing::TempDir()) / ("octet_failure_" + std::to_string(::getpid()))) {
    fs::create_directories(model_);
    fs::copy_file(kQwen3Model / "config.json", model_ / "config.json");
    data_.samples.push_back({{3, 4, 5, 6, 7, 8, 9, 10}});
    options_.run.quiet = true;
    if (std::get<1>(GetParam())) {
      options_.take_recipe(load_recipe("octet"));
      settle(options_, DType::kBF16);
    }
  }
  ~FailureAtALayer() override { fs::remove_all(dir_); }

  // The golden model with one of its tensors changed: left out, or its first value infinite.
  void write_model(const std::string& tensor, bool left_out) {
    const ModelFolder whole(kQwen3Model);
    std::vector<TensorSpec> specs;
    for (const TensorView* t : whole.tensors().all())
      if (!left_out || t->name != tensor) specs.push_back({t->name, t->dtype, t->shape});
    SafetensorsWriter writer(model_, specs, {});
    for (const TensorView* t : whole.tensors().all()) {
      std::vector<std::byte> bytes(t->data.begin(), t->data.end());
      if (t->name == tensor) {
        if (left_out) continue;
        const uint16_t infinite = 0x7f80;  // of bfloat16
        std::memcpy(bytes.data(), &infinite, sizeof infinite);
      }
      writer.write(t->name, bytes);
    }
    writer.finish();
  }
  std::string error() {
    try {
      quantize(model_, out_, data_, options_);
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  }
  void expect_nothing_left() {
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_), fs::directory_iterator()), 1);
  }

  fs::path dir_, model_ = dir_ / "model", out_ = dir_ / "out";
  CalibrationData data_;
  QuantizeOptions options_;
  std::string layer_ = "model.layers." + std::to_string(std::get<0>(GetParam())) + ".";
};

TEST_P(FailureAtALayer, AMissingTensorEndsItBeforeTheFirstLayer) {
  write_model(layer_ + "mlp.down_proj.weight", /*left_out=*/true);
  EXPECT_THAT(error(), HasSubstr(layer_ + "mlp.down_proj.weight"));
  expect_nothing_left();
}

// Found when the layer is read, while the one before is still being written.
TEST_P(FailureAtALayer, AValueThatIsNoNumberEndsIt) {
  write_model(layer_ + "post_attention_layernorm.weight", /*left_out=*/false);
  const std::string said = error();
  EXPECT_THAT(said, HasSubstr(layer_ + "post_attention_layernorm.weight"));
  EXPECT_THAT(said, ::testing::Not(HasSubstr("--resume")));  // the mended model is another one
  expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(BothWays, FailureAtALayer,
                         ::testing::Combine(::testing::Values(0, 1, 2), ::testing::Bool()));

}  // namespace
}  // namespace octet
