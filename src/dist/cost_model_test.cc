#include "src/dist/cost_model.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

// A layer has 64 (64 + 2 * 32) + 64 * 64 weights of attention and 3 * 64 * 128 of the MLP: 36864.
ModelConfig config() {
  ModelConfig c;
  c.hidden_size = 64;
  c.intermediate_size = 128;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 16;
  c.vocab_size = 1000;
  c.dtype = DType::kBF16;
  return c;
}
constexpr uint64_t kLayer = 36864, kHead = 64 * 1000;

PlanOptions options() {
  PlanOptions o;
  o.host = {1e9, 1e12, 1e11, uint64_t{1} << 30};
  o.context = 100;
  o.chunk = 10;
  return o;
}

Scheme all_static(const std::string& name) {
  return name == "lm_head" ? Scheme::kFloat : Scheme::kW8A8;
}
Scheme all_float(const std::string&) { return Scheme::kFloat; }

double term(const std::vector<PlanTerm>& terms, const std::string& name) {
  for (const PlanTerm& t : terms)
    if (t.name == name) return t.seconds;
  ADD_FAILURE() << name;
  return 0;
}

// Beside a float head and the embedding there is an int8 copy of the head, with 16 bytes an output.
TEST(CostModel, BytesByType) {
  constexpr uint64_t kScreen = kHead + 16 * 1000;
  EXPECT_EQ(CostModel(config(), all_float, options()).weight_bytes(),
            2 * (2 * kLayer + 2 * kHead) + kScreen);
  EXPECT_EQ(CostModel(config(), all_static, options()).weight_bytes(),
            2 * kLayer + 4 * kHead + kScreen);
  ModelConfig tied = config();
  tied.tie_word_embeddings = true;
  EXPECT_EQ(CostModel(tied, all_static, options()).weight_bytes(),
            2 * kLayer + 2 * kHead + kScreen);
}

// Keys and values of two layers: 2 * 2 * 32 values of two bytes a token.
TEST(CostModel, BytesOfASequence) {
  EXPECT_EQ(CostModel(config(), all_static, options()).sequence_bytes(), 2u * 2 * 32 * 100 * 2);
}

// The head is computed for the last row of a chunk of 10.
TEST(CostModel, PrefillComputesOneRowOfTheHead) {
  EXPECT_DOUBLE_EQ(term(CostModel(config(), all_static, options()).prefill(), "float products"),
                   2.0 * static_cast<double>(kHead) / 1e11);
}

// Ten rows, two layers: 8 * 64 + 4 * 128 + 2 * 64 + 6 * 128 floats each.
TEST(CostModel, PrefillWritesAndReadsActivations) {
  EXPECT_DOUBLE_EQ(term(CostModel(config(), all_static, options()).prefill(), "activations"),
                   10.0 * 2 * 4 * 1920 / 1e9);
}

// Two ranks have half of every layer, and the first one 8 of the head's 16 units of 64 rows.
TEST(CostModel, RanksShareTheWeights) {
  PlanOptions o = options();
  o.ranks = 2;
  const uint64_t vocab = 8 * 64;
  EXPECT_EQ(CostModel(config(), all_static, o).weight_bytes(), kLayer + 4 * vocab * 64);
}

// One token reads all weights: memory is the limit here.
TEST(CostModel, DecodeReadsTheWeights) {
  const CostModel model(config(), all_static, options());
  EXPECT_DOUBLE_EQ(term(model.decode(1), "weights"), static_cast<double>(2 * kLayer + kHead) / 1e9);
  EXPECT_EQ(model.all_reduce(1e6), 0);
}

TEST(CostModel, TheLargestBatchFillsNineTenths) {
  const CostModel model(config(), all_static, options());
  const double room = 0.9 * static_cast<double>(uint64_t{1} << 30) -
                      static_cast<double>(model.weight_bytes() + model.buffer_bytes());
  EXPECT_EQ(model.largest_batch(),
            static_cast<size_t>(room / static_cast<double>(model.sequence_bytes())));
}

}  // namespace
}  // namespace octet
