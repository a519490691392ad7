// Layers from folders made here, of whole numbers: every product is exact whatever the storage
// type, and equal to the sums written out.
#include "src/model/weights.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <typeinfo>
#include <vector>

#include "src/base/float16.h"
#include "src/checkpoint/testing.h"
#include "src/model/head.h"
#include "src/model/linear_group.h"

namespace octet {
namespace {

using octet::tests::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr size_t kWidth = 16, kHeadWidth = 4, kQueryHeads = 4, kValueHeads = 2, kMlp = 64,
                 kVocab = 128;
const std::string kQ0 = "model.layers.0.self_attn.q_proj", kK0 = "model.layers.0.self_attn.k_proj",
                  kV = "model.layers.0.self_attn.v_proj", kO = "model.layers.0.self_attn.o_proj",
                  kGate = "model.layers.0.mlp.gate_proj", kUp = "model.layers.0.mlp.up_proj",
                  kDown = "model.layers.0.mlp.down_proj",
                  kInputNorm = "model.layers.0.input_layernorm",
                  kPostNorm = "model.layers.0.post_attention_layernorm";

struct Numbers {
  size_t n, k;
  std::vector<int> w, bias;  // [n, k], [n]
};

class Weights : public ::testing::Test {
 protected:
  Weights()
      : dir_(std::string("weights_") +
             ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    const size_t q = kQueryHeads * kHeadWidth, kv = kValueHeads * kHeadWidth;
    for (const auto& [name, n, k] : {std::tuple(kQ0, q, kWidth),
                                     {kK0, kv, kWidth},
                                     {kV, kv, kWidth},
                                     {kO, kWidth, q},
                                     {kGate, kMlp, kWidth},
                                     {kUp, kMlp, kWidth},
                                     {kDown, kWidth, kMlp}}) {
      Numbers& l = linears_[name] = {n, k, {}, {}};
      for (size_t i = 0; i < n * k; ++i) l.w.push_back(number(-8, 8));
      for (size_t j = 0; j < n; ++j) l.bias.push_back(number(-50, 50));
      store(name, "FLOAT");
    }
    linears_["lm_head"] = {kVocab, kWidth, {}, std::vector<int>(kVocab)};
    for (size_t i = 0; i < kVocab * kWidth; ++i) linears_["lm_head"].w.push_back(number(-8, 8));
    set("lm_head.weight", {kVocab, kWidth}, as<float>(linears_["lm_head"].w));
    for (const std::string& norm : {kInputNorm, kPostNorm})
      set(norm + ".weight", {kWidth}, std::vector<float>(kWidth, 1.5f));
  }

  int number(int lo, int hi) { return std::uniform_int_distribution<int>(lo, hi)(rng_); }
  template <typename T>
  static std::vector<T> as(const std::vector<int>& values, int add = 0) {
    std::vector<T> out;
    for (int v : values) out.push_back(static_cast<T>(v + add));
    return out;
  }

  template <typename T>
  void set(const std::string& name, const Shape& shape, const std::vector<T>& values,
           const std::string& type = "FLOAT") {
    const auto bytes = std::as_bytes(std::span(values));
    tensors_[name] = {{name, dtype_of(T{}), shape}, {bytes.begin(), bytes.end()}};
    description_[name] = type;
  }
  static DType dtype_of(float) { return DType::kF32; }
  static DType dtype_of(bf16) { return DType::kBF16; }
  static DType dtype_of(int8_t) { return DType::kI8; }
  static DType dtype_of(int32_t) { return DType::kI32; }

  // The linear in this type; scales of one, so that nothing is rounded.
  void store(const std::string& name, const std::string& type, float input_offset = 0) {
    const Numbers& l = linears_.at(name);
    const auto floats = [&](const char* suffix, float value, const Shape& shape) {
      set(name + suffix, shape, std::vector<float>(shape[0], value), type);
    };
    set(name + ".bias", {l.n}, as<float>(l.bias));
    if (type == "FLOAT") {
      set(name + ".weight", {l.n, l.k}, as<float>(l.w));
      return;
    }
    const int shift = type == "W8A16" ? 3 : 0;  // of asymmetric weights
    set(name + ".weight", {l.n, l.k}, as<int8_t>(l.w, shift), type);
    if (type != "W8A8") {
      floats(".weight_scale", 1, {l.n, 1});
      floats(".weight_offset", static_cast<float>(shift), {l.n, 1});
    }
    if (type != "W8A8" && type != "W8A8_MIX") return;
    std::vector<int> bias = l.bias;
    for (size_t j = 0; j < l.n; ++j)
      for (size_t i = 0; i < l.k; ++i) bias[j] -= static_cast<int>(input_offset) * l.w[j * l.k + i];
    floats(".input_scale", 1, {1});
    floats(".input_offset", input_offset, {1});
    floats(".deq_scale", 1, {l.n});
    set(name + ".quant_bias", {l.n}, as<int32_t>(bias), type);
  }

  // The folder of the tensors so far.
  const ModelFolder& folder() {
    json config = {{"model_type", "llama"},
                   {"hidden_size", kWidth},
                   {"intermediate_size", kMlp},
                   {"num_hidden_layers", 1},
                   {"num_attention_heads", kQueryHeads},
                   {"num_key_value_heads", kValueHeads},
                   {"head_dim", kHeadWidth},
                   {"vocab_size", kVocab},
                   {"attention_bias", true},
                   {"mlp_bias", true},
                   {"torch_dtype", "float32"}};
    write_text(dir_ / "config.json", config.dump());
    write_text(dir_ / "quant_model_description.json", description_.dump());
    std::vector<TensorSpec> specs;
    for (const auto& [name, tensor] : tensors_) specs.push_back(tensor.first);
    SafetensorsWriter writer(dir_.path(), specs, {});
    for (const auto& [name, tensor] : tensors_) writer.write(name, tensor.second);
    writer.finish();
    return folder_.emplace(dir_.path());
  }
  DecoderLayer layer(size_t rank = 0, size_t ranks = 1) {
    const ModelFolder& f = folder();
    return load_layer(f, 0, make_shard(f.config(), rank, ranks), team_);
  }
  std::string layer_error() {
    return message_of([&] { layer(); });
  }

  // x [3, k] of whole numbers; every fourth is 127, the token's largest in any shard, so that a
  // scale of its own is one.
  std::vector<float> input(size_t k, int largest = 127) {
    std::vector<float> x(3 * k);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>(i % 4 == 0 ? largest : number(-9, 9));
    return x;
  }
  std::vector<float> outputs(Linear& linear, const std::vector<float>& x) {
    const size_t n = linear.outputs(), m = x.size() / linear.inputs();
    StageBuffer buffer(m, linear.inputs(), LinearGroup::kMaxParts);
    buffer.set_runs({{0, 1, true}, {1, m, false}});
    std::vector<float> y(m * n);
    team_.run([&](Worker& w) {
      const Rows in = {x.data(), linear.inputs(), m};
      linear.stage(w, in, buffer, 0);
      w.barrier();
      linear.compute(w, in, {y.data(), n}, buffer, 0);
    });
    return y;
  }
  std::vector<float> outputs(Head& head, size_t n, const std::vector<float>& x) {
    const Rows in = {x.data(), kWidth, x.size() / kWidth};
    StageBuffer buffer(in.m, kWidth, 1);
    buffer.set_runs({{0, in.m, true}});
    std::vector<float> y(in.m * n);
    head.begin_step({}, in.m);
    team_.run([&](Worker& w) {
      head.stage(w, in, buffer);
      w.barrier();
      head.compute(w, in, {y.data(), n}, buffer);
    });
    return y;
  }
  // The products of some rows and columns of linears, side by side; x [3, columns].
  struct Slice {
    std::string name;
    Extent rows, columns;
    bool bias = true;
  };
  Slice all(const std::string& name) const {
    const Numbers& l = linears_.at(name);
    return {name, {0, l.n}, {0, l.k}};
  }
  std::vector<float> products(const std::vector<float>& x, const std::vector<Slice>& slices) const {
    std::vector<float> y;
    const size_t k = slices[0].columns.size();
    for (size_t r = 0; r < x.size() / k; ++r)
      for (const Slice& s : slices) {
        const Numbers& l = linears_.at(s.name);
        for (size_t j = s.rows.begin; j < s.rows.end; ++j) {
          int sum = s.bias ? l.bias[j] : 0;
          for (size_t i = 0; i < k; ++i)
            sum += static_cast<int>(x[r * k + i]) * l.w[j * l.k + s.columns.begin + i];
          y.push_back(static_cast<float>(sum));
        }
      }
    return y;
  }
  void expect_qkv(Linear& qkv, int largest = 127) {
    const std::vector<float> x = input(kWidth, largest);
    EXPECT_EQ(outputs(qkv, x), products(x, {all(kQ0), all(kK0), all(kV)}));
  }
  static bool is_group(const Linear& linear) { return typeid(linear) == typeid(LinearGroup); }

  std::mt19937 rng_{5};
  octet::tests::TempFolder dir_;
  std::map<std::string, std::pair<TensorSpec, std::vector<std::byte>>> tensors_;
  json description_ = {{"model_quant_type", "W8A8"}};
  std::map<std::string, Numbers> linears_;
  std::optional<ModelFolder> folder_;
  ThreadTeam team_{2};
};

TEST_F(Weights, LinearsOfOneInputAreOneMatrix) {
  for (const char* type : {"FLOAT", "W8A8", "W8A8_DYNAMIC", "W8A16", "W8A8_MIX"}) {
    for (const auto& [name, l] : linears_)
      if (name != "lm_head") store(name, type, 0);
    const DecoderLayer l = layer();
    EXPECT_FALSE(is_group(*l.qkv) || is_group(*l.gate_up)) << type;
    expect_qkv(*l.qkv);
    const std::vector<float> x = input(kWidth), wide = input(kMlp);
    EXPECT_EQ(outputs(*l.gate_up, x), products(x, {all(kGate), all(kUp)})) << type;
    EXPECT_EQ(outputs(*l.o, x), products(x, {all(kO)})) << type;
    EXPECT_EQ(outputs(*l.down, wide), products(wide, {all(kDown)})) << type;
  }
}

TEST_F(Weights, AnotherTypeIsAnotherMatrix) {
  store(kQ0, "W8A8");
  store(kV, "W8A8_DYNAMIC");
  const DecoderLayer l = layer();
  EXPECT_TRUE(is_group(*l.qkv));
  expect_qkv(*l.qkv);
}

TEST_F(Weights, AnotherDtypeIsAnotherMatrix) {
  std::vector<bf16> w;
  for (int v : linears_.at(kK0).w) w.push_back(to_bf16(static_cast<float>(v)));
  set(kK0 + ".weight", {kValueHeads * kHeadWidth, kWidth}, w);
  const DecoderLayer l = layer();
  EXPECT_TRUE(is_group(*l.qkv));
  expect_qkv(*l.qkv);
}

TEST_F(Weights, AnotherInputQuantizationIsAnotherMatrix) {
  for (const std::string& name : {kQ0, kK0}) store(name, "W8A8", -7);
  store(kV, "W8A8", 5);
  const DecoderLayer l = layer();
  EXPECT_TRUE(is_group(*l.qkv));
  expect_qkv(*l.qkv, 100);  // in range with either offset
}

TEST_F(Weights, NeighboursAreMergedAcrossNothing) {
  for (const std::string& name : {kQ0, kV}) store(name, "W8A8");  // k between them is float
  const DecoderLayer l = layer();
  EXPECT_TRUE(is_group(*l.qkv));
  expect_qkv(*l.qkv);
}

// Two ranks: heads 0 and 1 with KV head 0, 2 and 3 with KV head 1; half of the MLP each.
TEST_F(Weights, ShardsHaveTheirRowsAndColumns) {
  for (const char* type : {"FLOAT", "W8A8", "W8A16"}) {
    for (const auto& [name, l] : linears_)
      if (name != "lm_head") store(name, type);
    for (size_t rank : {0, 1}) {
      const auto half = [&](size_t n) { return Extent{rank * n / 2, (rank + 1) * n / 2}; };
      const Extent q = half(kQueryHeads * kHeadWidth), kv = half(kValueHeads * kHeadWidth),
                   mlp = half(kMlp);
      const Extent hidden = {0, kWidth};
      const DecoderLayer l = layer(rank, 2);
      const std::vector<float> x = input(kWidth), own = input(q.size()), wide = input(mlp.size());
      EXPECT_EQ(outputs(*l.qkv, x),
                products(x, {{kQ0, q, hidden}, {kK0, kv, hidden}, {kV, kv, hidden}}));
      EXPECT_EQ(outputs(*l.gate_up, x), products(x, {{kGate, mlp, hidden}, {kUp, mlp, hidden}}));
      // The ranks' products are added up, so the first one's has the bias.
      const bool first = rank == 0;
      EXPECT_EQ(outputs(*l.o, own), products(own, {{kO, hidden, q, first}})) << type;
      EXPECT_EQ(outputs(*l.down, wide), products(wide, {{kDown, hidden, mlp, first}})) << type;
    }
  }
}

// With a scale a token the bias comes after the sum over the ranks, which each of them finishes.
TEST_F(Weights, EveryShardHasTheBiasThatIsAddedAfterTheSum) {
  store(kO, "W8A8_DYNAMIC");
  for (size_t rank : {0, 1}) {
    const std::vector<float> x = input(kWidth / 2);
    const Extent columns = {rank * kWidth / 2, (rank + 1) * kWidth / 2};
    EXPECT_EQ(outputs(*layer(rank, 2).o, x), products(x, {{kO, {0, kWidth}, columns}}));
  }
}

TEST_F(Weights, HeadIsCutByRowsAndMayBeQuantized) {
  for (bool quantized : {false, true}) {
    if (quantized) {
      store("lm_head", "W8A8");
      tensors_.erase("lm_head.bias");
    }
    const ModelFolder& f = folder();
    for (size_t rank : {0, 1}) {
      const Shard shard = make_shard(f.config(), rank, 2);
      const std::vector<float> x = input(kWidth);
      Head head(f, shard, HeadMode::kScreened, team_);
      EXPECT_EQ(outputs(head, shard.vocab.size(), x),
                products(x, {{"lm_head", shard.vocab, {0, kWidth}, false}}));
    }
  }
}

TEST_F(Weights, KvScalesAreThoseOfTheShardsHeads) {
  description_["kv_cache_type"] = "C8";
  std::vector<float> k, v;
  for (size_t i = 0; i < kValueHeads * kHeadWidth; ++i) {
    k.push_back(1 + static_cast<float>(i));
    v.push_back(100 + static_cast<float>(i));
  }
  const Shape shape = {k.size()};
  set(kK0 + ".kv_cache_scale", shape, k);
  set(kV + ".kv_cache_scale", shape, v);
  for (const std::string& name : {kK0, kV})
    set(name + ".kv_cache_offset", shape, std::vector<float>(k.size(), name == kK0 ? 3.0f : 4.0f));
  const KvCacheParams s = layer(1, 2).kv_params;
  EXPECT_EQ(s.k_scale, std::vector<float>(k.begin() + kHeadWidth, k.end()));
  EXPECT_EQ(s.v_scale, std::vector<float>(v.begin() + kHeadWidth, v.end()));
  EXPECT_EQ(s.k_offset, std::vector<float>(kHeadWidth, 3));
  EXPECT_EQ(s.v_offset, std::vector<float>(kHeadWidth, 4));
  description_.erase("kv_cache_type");
  EXPECT_TRUE(layer().kv_params.k_scale.empty());
}

TEST_F(Weights, NormMayBeWrapped) {
  EXPECT_EQ(layer().norms[NormKind::kInput].weight, std::vector<float>(kWidth, 1.5f));
  EXPECT_TRUE(layer().norms[NormKind::kInput].bias.empty());
  tensors_.erase(kInputNorm + ".weight");
  set(kInputNorm + ".module.weight", {kWidth}, std::vector<float>(kWidth, 2));
  set(kInputNorm + ".module.bias", {kWidth}, std::vector<float>(kWidth, 0));
  EXPECT_EQ(layer().norms[NormKind::kInput].weight, std::vector<float>(kWidth, 2));
  EXPECT_TRUE(layer().norms[NormKind::kInput].bias.empty());  // nothing but zeros
  set(kInputNorm + ".module.bias", {kWidth}, std::vector<float>(kWidth, 0.5f));
  EXPECT_EQ(layer().norms[NormKind::kInput].bias, std::vector<float>(kWidth, 0.5f));
  // A newer file that holds both forms: the plain one counts.
  set(kInputNorm + ".weight", {kWidth}, std::vector<float>(kWidth, 3));
  set(kInputNorm + ".bias", {kWidth}, std::vector<float>(kWidth, 0.25f));
  EXPECT_EQ(layer().norms[NormKind::kInput].weight, std::vector<float>(kWidth, 3));
  EXPECT_EQ(layer().norms[NormKind::kInput].bias, std::vector<float>(kWidth, 0.25f));
}

TEST_F(Weights, ErrorsNameTheTensor) {
  const auto good = tensors_;
  set(kUp + ".weight", {kMlp, kWidth + 1}, std::vector<float>(kMlp * (kWidth + 1)));
  EXPECT_THAT(layer_error(), AllOf(HasSubstr("wrong shape"), HasSubstr(kUp + ".weight"),
                                   HasSubstr("[64, 16]"), HasSubstr("[64, 17]")));
  tensors_ = good;
  set(kQ0 + ".weight", {kQueryHeads * kHeadWidth, kWidth}, std::vector<int8_t>(16 * kWidth));
  EXPECT_THAT(layer_error(), AllOf(HasSubstr("unsupported dtype of a float tensor"),
                                   HasSubstr("F32, F16 or BF16"), HasSubstr("I8")));
  tensors_ = good;
  description_[kDown + ".weight"] = "W8A8_DYNAMIC";
  EXPECT_THAT(layer_error(), HasSubstr(kDown + ".weight_scale"));
  store(kDown, "W8A8_DYNAMIC");
  set(kDown + ".weight", {kWidth, kMlp}, std::vector<float>(kWidth * kMlp), "W8A8_DYNAMIC");
  EXPECT_THAT(layer_error(), AllOf(HasSubstr("wrong dtype"), HasSubstr(kDown + ".weight"),
                                   HasSubstr("I8"), HasSubstr("F32")));
  store(kDown, "FLOAT");
  tensors_.erase(kO + ".bias");
  EXPECT_THAT(layer_error(), HasSubstr(kO + ".bias"));
  tensors_ = good;
  set(kPostNorm + ".weight", {kWidth}, std::vector<float>(kWidth, NAN));
  EXPECT_THAT(layer_error(), AllOf(HasSubstr("NaN"), HasSubstr(kPostNorm + ".weight")));
  tensors_.erase(kPostNorm + ".weight");
  EXPECT_THAT(layer_error(), HasSubstr(kPostNorm + ".weight"));
  set(kPostNorm + ".weight", {kWidth}, std::vector<float>(kWidth, 1));
  description_.erase(kV + ".weight");
  EXPECT_THAT(layer_error(), AllOf(HasSubstr("does not name a tensor"), HasSubstr(kV + ".weight")));
}

}  // namespace
}  // namespace octet
