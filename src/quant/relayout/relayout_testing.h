// A hand-made quantized model, and what a plan holds, for tests of converting.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "src/base/float16.h"
#include "src/checkpoint/testing.h"
#include "src/quant/relayout/relayout_plan.h"

namespace octet::tests {

inline const std::string kTinyQ = "model.layers.0.self_attn.q_proj",
                         kTinyK = "model.layers.0.self_attn.k_proj",
                         kTinyV = "model.layers.0.self_attn.v_proj",
                         kTinyO = "model.layers.0.self_attn.o_proj",
                         kTinyGate = "model.layers.0.mlp.gate_proj",
                         kTinyUp = "model.layers.0.mlp.up_proj",
                         kTinyDown = "model.layers.0.mlp.down_proj",
                         kTinyNorm = "model.layers.0.input_layernorm";

inline std::vector<uint16_t> halves(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (float v : values) bits.push_back(to_f16(v).bits);
  return bits;
}

// One layer in float16: hidden 2, one head of 2, intermediate 4, vocabulary 5. All linears are in
// float, every value 0.5, until a test changes them.
class TinyQuantized {
 public:
  explicit TinyQuantized(const std::string& family = "llama") {
    config = {{"model_type", family},     {"hidden_size", 2},
              {"intermediate_size", 4},   {"num_hidden_layers", 1},
              {"num_attention_heads", 1}, {"head_dim", 2},
              {"vocab_size", 5},          {"torch_dtype", "float16"},
              {"attention_bias", false},  {"tie_word_embeddings", false}};
    set_half("model.embed_tokens.weight", {5, 2});
    for (const std::string& name : {kTinyQ, kTinyK, kTinyV, kTinyO})
      set_half(name + ".weight", {2, 2});
    for (const std::string& name : {kTinyGate, kTinyUp}) set_half(name + ".weight", {4, 2});
    set_half(kTinyDown + ".weight", {2, 4});
    set_half(kTinyNorm + ".weight", {2});
    set_half("model.layers.0.post_attention_layernorm.weight", {2});
    if (family == "qwen3")
      for (const char* norm : {"q_norm", "k_norm"})
        set_half(std::string("model.layers.0.self_attn.") + norm + ".weight", {2});
    if (family == "qwen2")
      for (const std::string& name : {kTinyQ, kTinyK, kTinyV}) set_half(name + ".bias", {2});
    set_half("model.norm.weight", {2});
    set_half("lm_head.weight", {5, 2});
  }

  template <typename T>
  void set(const std::string& name, DType dtype, const Shape& shape, const std::vector<T>& values,
           const std::string& type = "FLOAT") {
    remove(name);
    tensors.emplace_back().spec.name = name;
    tensors.back().set(dtype, shape, values);
    types[name] = type;
  }
  void set_half(const std::string& name, const Shape& shape) {
    size_t count = 1;
    for (uint64_t n : shape) count *= n;
    set(name, DType::kF16, shape, halves(std::vector<float>(count, 0.5f)));
  }
  void remove(const std::string& name) {
    std::erase_if(tensors, [&](const LooseTensor& t) { return t.spec.name == name; });
  }

  void set_weight(const std::string& name, const std::vector<int8_t>& weight, size_t n,
                  const std::string& type) {
    set(name + ".weight", DType::kI8, {n, weight.size() / n}, weight, type);
  }
  void make_static(const std::string& name, const std::vector<int8_t>& weight, float input_scale,
                   float input_offset, const std::vector<float>& deq_scale,
                   const std::vector<int32_t>& quant_bias) {
    const size_t n = deq_scale.size();
    std::vector<int64_t> bits;  // of a float32 as int32, sign-extended
    for (float v : deq_scale) bits.push_back(std::bit_cast<int32_t>(v));
    set_weight(name, weight, n, "W8A8");
    set(name + ".input_scale", DType::kF16, {1}, halves({input_scale}), "W8A8");
    set(name + ".input_offset", DType::kF16, {1}, halves({input_offset}), "W8A8");
    set(name + ".quant_bias", DType::kI32, {n}, quant_bias, "W8A8");
    set(name + ".deq_scale", DType::kI64, {n}, bits, "W8A8");
  }
  // The linear of most tests. Its rows add up to 3 and -5; the float bias [1, -0.5] is [8, -8] in
  // units of deq_scale, and quant_bias that minus 3 times the sums.
  void make_static_q() {
    make_static(kTinyQ, {1, 2, 3, -8}, 0.5f, 3, {0.125f, 0.0625f}, {8 - 9, -8 + 15});
  }
  // Every linear of the layer but q static: zero weights, no bias.
  void make_rest_static() {
    for (const std::string& name : {kTinyK, kTinyV, kTinyO})
      make_static(name, std::vector<int8_t>(4), 0.5f, 3, {0.5f, 0.5f}, {0, 0});
    for (const std::string& name : {kTinyGate, kTinyUp})
      make_static(name, std::vector<int8_t>(8), 0.5f, 3, std::vector<float>(4, 0.5f),
                  std::vector<int32_t>(4));
    make_static(kTinyDown, std::vector<int8_t>(8), 0.5f, 3, {0.5f, 0.5f}, {0, 0});
  }
  void make_dynamic(const std::string& name, const std::vector<int8_t>& weight,
                    const std::vector<float>& weight_scale) {
    const size_t n = weight_scale.size();
    set_weight(name, weight, n, "W8A8_DYNAMIC");
    set(name + ".weight_scale", DType::kF32, {n, 1}, weight_scale, "W8A8_DYNAMIC");
    set(name + ".weight_offset", DType::kF32, {n, 1}, std::vector<float>(n), "W8A8_DYNAMIC");
  }
  // As compressed-tensors has it; without `zero_points` ([1]) a symmetric input.
  void make_compressed_static(const std::string& name, const std::vector<int8_t>& weight,
                              const std::vector<float>& weight_scale, float input_scale,
                              const std::vector<int8_t>& zero_points) {
    const size_t n = weight_scale.size();
    set_weight(name, weight, n, "static");
    set(name + ".weight_scale", DType::kF32, {n, 1}, weight_scale);
    set(name + ".input_scale", DType::kF32, {1}, std::vector<float>{input_scale});
    if (!zero_points.empty()) set(name + ".input_zero_point", DType::kI8, {1}, zero_points);
    symmetric_ = zero_points.empty();
  }

  // The files of a layout by docs/formats.md.
  void write(const fs::path& folder, Layout layout, uint64_t part_bytes = 0) const {
    ordered_json all = config, description = {{"version", "1.0.0"}, {"model_quant_type", "W8A8"}};
    for (const LooseTensor& t : tensors) description[t.spec.name] = types.at(t.spec.name);
    if (!description.contains("lm_head.weight")) description["lm_head.weight"] = "FLOAT";
    std::string stem = "quant_model_weight_w8a8", file = "quant_model_description.json";
    if (layout == Layout::kOctet) {
      all["quantize"] = "w8a8";
      all["quantization_config"] = description;
    } else if (layout == Layout::kMindie) {
      file = "quant_model_description_w8a8.json";
      description.erase("version");
    } else if (layout == Layout::kMsmodelslimV1) {
      stem = "quant_model_weights";
    } else if (layout == Layout::kCompressedTensors) {
      stem = "model";
      file = "";
      all["quantization_config"] = dictionary();
    }
    write_text(folder / "config.json", all.dump(1));
    if (!file.empty()) write_text(folder / file, description.dump(1));
    write_tensors(folder, tensors, {stem, part_bytes, true});
  }

  ordered_json config;
  std::vector<LooseTensor> tensors;
  std::map<std::string, std::string> types;  // of the tensors, in the description

 private:
  // What is not static is in float.
  ordered_json dictionary() const {
    const auto arguments = [](const char* strategy, bool symmetric) -> ordered_json {
      return {{"num_bits", 8},
              {"type", "int"},
              {"symmetric", symmetric},
              {"strategy", strategy},
              {"dynamic", false}};
    };
    ordered_json targets = ordered_json::array(), ignore = {"lm_head"};
    for (const std::string& name : {kTinyQ, kTinyK, kTinyV, kTinyO, kTinyGate, kTinyUp, kTinyDown})
      (types.at(name + ".weight") == "static" ? targets : ignore).push_back(name);
    const ordered_json group = {{"targets", targets},
                                {"weights", arguments("channel", true)},
                                {"input_activations", arguments("tensor", symmetric_)}};
    return {{"quant_method", "compressed-tensors"},
            {"format", "int-quantized"},
            {"config_groups", {{"group_0", group}}},
            {"ignore", ignore}};
  }

  bool symmetric_ = true;
};

// A plan's tensor; throws std::out_of_range for one that it does not have.
inline const PlannedTensor& planned(const LayoutPlan& plan, const std::string& name) {
  for (const PlannedTensor& t : plan.tensors)
    if (t.spec.name == name) return t;
  throw std::out_of_range(name);
}
inline bool is_planned(const LayoutPlan& plan, const std::string& name) {
  return std::any_of(plan.tensors.begin(), plan.tensors.end(),
                     [&](const PlannedTensor& t) { return t.spec.name == name; });
}
// The names below a prefix, in the plan's order.
inline std::vector<std::string> planned_below(const LayoutPlan& plan, const std::string& prefix) {
  std::vector<std::string> names;
  for (const PlannedTensor& t : plan.tensors)
    if (t.spec.name.starts_with(prefix + ".")) names.push_back(t.spec.name.substr(prefix.size()));
  return names;
}
template <typename T>
std::vector<T> values_of(const PlannedTensor& t) {
  const std::vector<std::byte> bytes = t.make();
  EXPECT_EQ(bytes.size(), t.spec.bytes()) << t.spec.name;
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}
inline ordered_json config_of(const LayoutPlan& plan) {
  return parse_ordered_json(plan.config, "config.json");
}

// The folder that the plan describes.
inline void write_planned(const LayoutPlan& plan, const fs::path& folder, uint64_t part_bytes = 0) {
  std::vector<LooseTensor> all;
  for (const PlannedTensor& t : plan.tensors) all.push_back({t.spec, t.make()});
  write_tensors(folder, all, {plan.stem, part_bytes, plan.metadata});
  write_text(folder / "config.json", plan.config);
  if (!plan.description_name.empty()) write_text(folder / plan.description_name, plan.description);
}

// Whether the plan has the very tensors of the folder, in their order.
inline void expect_planned(const LayoutPlan& plan, const fs::path& folder) {
  const std::vector<LooseTensor> want = loose_tensors(folder);
  std::vector<std::string> names, wanted;
  for (const PlannedTensor& t : plan.tensors) names.push_back(t.spec.name);
  for (const LooseTensor& t : want) wanted.push_back(t.spec.name);
  ASSERT_EQ(names, wanted);
  for (size_t i = 0; i < want.size(); ++i) {
    const PlannedTensor& t = plan.tensors[i];
    EXPECT_EQ(t.spec.dtype, want[i].spec.dtype) << t.spec.name;
    EXPECT_EQ(t.spec.shape, want[i].spec.shape) << t.spec.name;
    EXPECT_TRUE(t.make() == want[i].data) << t.spec.name;
  }
}

// Two folders of its own for every test.
class RelayoutTest : public ::testing::Test {
 protected:
  RelayoutTest() : from_(name("from")), to_(name("to")) {}
  const fs::path& from() const { return from_.path(); }
  const fs::path& to() const { return to_.path(); }
  // A golden output of msModelSlim as from().
  void take_golden(const std::string& model, const std::string& output) {
    copy_quantized(kGolden / model, output, from_);
  }

  TempFolder from_, to_;

 private:
  static std::string name(const std::string& end) {
    const ::testing::TestInfo& test = *::testing::UnitTest::GetInstance()->current_test_info();
    std::string all = std::string(test.test_suite_name()) + test.name() + end;
    std::replace(all.begin(), all.end(), '/', '_');
    return all;
  }
};

}  // namespace octet::tests
