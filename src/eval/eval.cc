#include "src/eval/eval.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "src/base/error.h"
#include "src/model/logits.h"

namespace octet {
namespace {

// The kTop largest, largest first; of equal ones the earlier.
std::array<size_t, kTop> largest(const float* logits, size_t n) {
  std::array<size_t, kTop> top{};
  size_t filled = 0;
  for (size_t i = 0; i < n; ++i) {
    if (filled == kTop && logits[i] <= logits[top[kTop - 1]]) continue;
    size_t at = filled < kTop ? filled++ : kTop - 1;
    for (; at > 0 && logits[top[at - 1]] < logits[i]; --at) top[at] = top[at - 1];
    top[at] = i;
  }
  return top;
}

}  // namespace

// Single exponentials are float (relative error 1e-7, averaged over the vocabulary), sums double.
double log_sum_exp(const float* logits, size_t n) {
  const float top = *std::max_element(logits, logits + n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(std::exp(logits[i] - top));
  return static_cast<double>(top) + std::log(sum);
}

void TextScore::add(const float* reference, const float* model, size_t vocab, int32_t next) {
  OCTET_CHECK(vocab >= kTop);
  const double zm = log_sum_exp(model, vocab);
  tokens += 1;
  log_loss += zm - static_cast<double>(model[next]);
  if (model == reference) {
    same_top1 += 1;
    shared_top += kTop;
    return;
  }
  const double zr = log_sum_exp(reference, vocab);
  for (size_t i = 0; i < vocab; ++i) {
    const double r = static_cast<double>(reference[i]) - zr;  // ln p, and ln q below
    kl += static_cast<double>(std::exp(static_cast<float>(r))) *
          (r - (static_cast<double>(model[i]) - zm));
    largest_error = std::max(largest_error, std::fabs(model[i] - reference[i]));
  }
  const auto of_reference = largest(reference, vocab), of_model = largest(model, vocab);
  same_top1 += of_reference[0] == of_model[0];
  for (size_t i : of_reference)
    shared_top += std::find(of_model.begin(), of_model.end(), i) != of_model.end();
}

TextScore& TextScore::operator+=(const TextScore& other) {
  tokens += other.tokens;
  log_loss += other.log_loss;
  kl += other.kl;
  same_top1 += other.same_top1;
  shared_top += other.shared_top;
  largest_error = std::max(largest_error, other.largest_error);
  return *this;
}

std::vector<Window> windows(size_t tokens, size_t size, size_t stride) {
  OCTET_CHECK(size >= 2 && stride >= 1 && stride <= size);
  std::vector<Window> all;
  size_t done = 1;  // the first token has nothing before it
  for (size_t begin = 0; done < tokens; begin += stride) {
    const size_t end = std::min(begin + size, tokens);
    done = std::max(done, begin + 1);
    if (done < end) all.push_back({begin, end, done});
    done = end;
  }
  return all;
}

Scorer::Scorer(Transformer& model, size_t max_tokens)
    : model_(model),
      cache_(model.shape(), blocks_for(max_tokens),
             kv_type(model.folder(), kernels::FloatType::kF32)) {
  OCTET_CHECK(model.max_rows() >= kChunk);
  OCTET_CHECK(cache_.allocate(cache_.blocks(), blocks_));
}

void Scorer::follow(Communicator& ranks, const std::vector<Scorer*>& scorers) {
  std::vector<Transformer::Followed> models;
  for (Scorer* s : scorers) models.push_back({&s->model_, &s->cache_});
  Transformer::follow(ranks, models);
}

std::span<const float> Scorer::next(std::span<const int32_t> ids, size_t from) {
  OCTET_CHECK(!ids.empty() && ids.size() <= kChunk);
  OCTET_CHECK(position_ + ids.size() <= blocks_.size() * kBlockTokens);
  Batch batch;
  batch.add(ids, position_, blocks_.data());
  for (size_t i = from; i < ids.size(); ++i) batch.logit_rows.push_back(i);
  position_ += ids.size();
  const std::span<const float> logits = model_.forward(batch, cache_);
  if (!all_finite(logits)) throw broken_logits(model_.folder());
  return logits;
}

const float* Scorer::last_logits(std::span<const int32_t> ids) {
  OCTET_CHECK(!ids.empty());
  while (ids.size() > kChunk) {
    next(ids.first(kChunk), kChunk);
    ids = ids.subspan(kChunk);
  }
  return next(ids, ids.size() - 1).data();
}

std::vector<TextScore> score_window(const std::vector<Scorer*>& models,
                                    std::span<const int32_t> text, const Window& window) {
  OCTET_CHECK(window.begin < window.scored && window.scored < window.end);
  OCTET_CHECK(window.end <= text.size());
  std::vector<TextScore> scores(models.size());
  const size_t vocab = models[0]->vocab();
  for (Scorer* m : models) m->rewind(0);
  for (size_t begin = window.begin; begin + 1 < window.end; begin += Scorer::kChunk) {
    const size_t count = std::min(Scorer::kChunk, window.end - 1 - begin);
    // Row r predicts token r + 1.
    const size_t from = std::min(count, std::max(window.scored - 1, begin) - begin);
    std::vector<const float*> logits;
    for (Scorer* m : models) logits.push_back(m->next(text.subspan(begin, count), from).data());
    for (size_t k = 0; k < models.size(); ++k) {
      std::vector<TextScore> parts(models[0]->team().size());
      models[0]->team().run([&](Worker& w) {
        const auto [first, last] = w.share(count - from);
        for (size_t r = first; r < last; ++r)
          parts[w.id()].add(logits[0] + r * vocab, logits[k] + r * vocab, vocab,
                            text[begin + from + r + 1]);
      });
      for (const TextScore& p : parts) scores[k] += p;
    }
  }
  return scores;
}

size_t count_windows(const std::vector<std::vector<int32_t>>& texts, size_t size, size_t stride) {
  size_t count = 0;
  for (const std::vector<int32_t>& text : texts) count += windows(text.size(), size, stride).size();
  return count;
}

std::vector<std::vector<TextScore>> score_texts(const std::vector<Scorer*>& models,
                                                const std::vector<std::vector<int32_t>>& texts,
                                                size_t size, size_t stride,
                                                const std::function<void()>& step) {
  std::vector<std::vector<TextScore>> scores(models.size());
  for (const std::vector<int32_t>& text : texts)
    for (const Window& window : windows(text.size(), size, stride)) {
      const std::vector<TextScore> of_window = score_window(models, text, window);
      for (size_t k = 0; k < models.size(); ++k) scores[k].push_back(of_window[k]);
      step();
    }
  return scores;
}

bool prefers(Scorer& model, std::span<const int32_t> prompt, int32_t right, int32_t wrong) {
  model.rewind(0);
  const float* last = model.last_logits(prompt);
  return last[right] > last[wrong];
}

}  // namespace octet
