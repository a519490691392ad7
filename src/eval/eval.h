// What quantization costs: a model beside a reference on the same texts.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "src/model/transformer.h"

namespace octet {

struct TextScore {
  size_t tokens = 0;     // predicted tokens
  double log_loss = 0;   // sum of -ln p(next token)
  double kl = 0;         // sum of KL(reference || model) over positions
  size_t same_top1 = 0;  // positions where both hold the same token likeliest

  // One position: logits [vocab] of the reference and of the model (the same pointer for the
  // reference itself), and the token that came next.
  void add(const float* reference, const float* model, size_t vocab, int32_t next);
  double perplexity() const;
  double mean_kl() const { return kl / static_cast<double>(tokens); }
  double top1() const { return static_cast<double>(same_top1) / static_cast<double>(tokens); }
};

// A model with a KV cache for one sequence, run chunk by chunk.
class Scorer {
 public:
  static constexpr size_t kChunk = 64;  // rows of a step; the model's max_rows must allow it

  Scorer(Transformer& model, size_t max_tokens);
  // Logits [ids.size(), vocab] for the next `ids` (at most kChunk) of the running sequence; valid
  // until the next call.
  std::span<const float> next(std::span<const int32_t> ids);
  void restart() { position_ = 0; }
  size_t vocab() const { return static_cast<size_t>(model_.config().vocab_size); }
  ThreadTeam& team() { return model_.team(); }

 private:
  Transformer& model_;
  KvCache cache_;  // float32 unless the checkpoint quantizes it: nothing else is to be measured
  std::vector<int32_t> blocks_;
  size_t position_ = 0;
};

// Adds one passage (>= 2 tokens) to the scores: scores[0] is the reference's, compared with itself.
// All models share one vocabulary.
void score_passage(const std::vector<Scorer*>& models, std::span<const int32_t> ids,
                   std::vector<TextScore>& scores);

// Whether the model holds `right` likelier than `wrong` after the prompt.
bool prefers(Scorer& model, std::span<const int32_t> prompt, int32_t right, int32_t wrong);

}  // namespace octet
