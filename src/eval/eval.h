// What quantization costs: a model beside a reference on the same texts.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "src/model/transformer.h"

namespace octet {

inline constexpr size_t kTop = 5;  // of the agreement beside the likeliest token

// What a model scored on a stretch of text. Sums, so that stretches add up.
struct TextScore {
  size_t tokens = 0;        // predicted tokens
  double log_loss = 0;      // sum of -ln p(next token)
  double kl = 0;            // sum of KL(reference || model) over positions
  size_t same_top1 = 0;     // positions where both hold the same token likeliest
  size_t shared_top = 0;    // tokens among the kTop likeliest of both, over all positions
  float largest_error = 0;  // largest |logit - reference's logit|

  // One position: logits [vocab >= kTop] of the reference and of the model (the same pointer for
  // the reference itself), and the token that came next.
  void add(const float* reference, const float* model, size_t vocab, int32_t next);
  TextScore& operator+=(const TextScore& other);  // the score of both stretches
};

// Tokens [begin, end) of a text run as one sequence, which predicts those of [scored, end).
struct Window {
  size_t begin, end, scored;
};
// How a text of `tokens` is scored when a model sees at most `size` of them at once: windows that
// begin every `stride` tokens (1 to `size`), each predicting what those before have not. Every
// token but the first is predicted once (with stride == size the first of each window is not,
// having nothing before it).
std::vector<Window> windows(size_t tokens, size_t size, size_t stride);

// A model with a KV cache for one sequence, run chunk by chunk.
class Scorer {
 public:
  static constexpr size_t kChunk = 64;  // rows of a step; the model's max_rows must allow it

  // With room for a sequence of `max_tokens`; `model` must outlive it.
  Scorer(Transformer& model, size_t max_tokens);
  // Runs the next `ids` (at most kChunk) of the running sequence. Logits [ids.size() - from, vocab]
  // of rows `from` on; valid until the next call. Throws Error when one is NaN or infinite.
  std::span<const float> next(std::span<const int32_t> ids, size_t from = 0);
  // Runs all of `ids`; the logits [vocab] after the last.
  const float* last_logits(std::span<const int32_t> ids);
  // Goes on after the first `position` tokens of the running sequence.
  void rewind(size_t position) { position_ = position; }
  // On all ranks but the first: takes part in the steps of the first's scorers until
  // Transformer::release(), the models numbered in this order. Throws RankError.
  static void follow(Communicator& ranks, const std::vector<Scorer*>& scorers);
  size_t vocab() const { return static_cast<size_t>(model_.config().vocab_size); }
  ThreadTeam& team() { return model_.team(); }

 private:
  Transformer& model_;
  KvCache cache_;  // float32 unless the checkpoint quantizes it: nothing else is to be measured
  std::vector<int32_t> blocks_;
  size_t position_ = 0;
};

// The score of one window by each model: the first is the reference, compared with itself. All
// models share one vocabulary.
std::vector<TextScore> score_window(const std::vector<Scorer*>& models,
                                    std::span<const int32_t> text, const Window& window);

// How many windows all texts have, each by itself.
size_t count_windows(const std::vector<std::vector<int32_t>>& texts, size_t size, size_t stride);
// The windows of all texts, one after another: a score of each, by model. `step` is called after
// every window.
std::vector<std::vector<TextScore>> score_texts(const std::vector<Scorer*>& models,
                                                const std::vector<std::vector<int32_t>>& texts,
                                                size_t size, size_t stride,
                                                const std::function<void()>& step);

// ln of the sum of exp(logits[i]).
double log_sum_exp(const float* logits, size_t n);

// Whether the model holds `right` likelier than `wrong` after the prompt.
bool prefers(Scorer& model, std::span<const int32_t> prompt, int32_t right, int32_t wrong);

}  // namespace octet
