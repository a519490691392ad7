#include "src/eval/eval.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace octet {
namespace {

size_t argmax(const float* logits, size_t n) {
  return static_cast<size_t>(std::max_element(logits, logits + n) - logits);
}

// ln of the sum of exp(logits[i]). Single exponentials are float (relative error 1e-7, averaged
// over the vocabulary), sums double.
double log_sum_exp(const float* logits, size_t n) {
  const float top = *std::max_element(logits, logits + n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(std::exp(logits[i] - top));
  return static_cast<double>(top) + std::log(sum);
}

}  // namespace

void TextScore::add(const float* reference, const float* model, size_t vocab, int32_t next) {
  const double zm = log_sum_exp(model, vocab);
  tokens += 1;
  log_loss += zm - static_cast<double>(model[next]);
  if (model == reference) {
    same_top1 += 1;
    return;
  }
  const double zr = log_sum_exp(reference, vocab);
  for (size_t i = 0; i < vocab; ++i) {
    const double r = static_cast<double>(reference[i]) - zr;  // ln p, and ln q below
    kl += static_cast<double>(std::exp(static_cast<float>(r))) *
          (r - (static_cast<double>(model[i]) - zm));
  }
  same_top1 += argmax(reference, vocab) == argmax(model, vocab);
}

double TextScore::perplexity() const { return std::exp(log_loss / static_cast<double>(tokens)); }

Scorer::Scorer(Transformer& model, size_t max_tokens)
    : model_(model),
      cache_(model.config(), blocks_for(max_tokens),
             kv_type(model.folder(), kernels::FloatType::kF32)) {
  OCTET_CHECK(model.max_rows() >= kChunk);
  OCTET_CHECK(cache_.allocate(cache_.blocks(), blocks_));
}

std::span<const float> Scorer::next(std::span<const int32_t> ids) {
  OCTET_CHECK(!ids.empty() && ids.size() <= kChunk);
  OCTET_CHECK(position_ + ids.size() <= blocks_.size() * kBlockTokens);
  Batch batch;
  batch.add(ids, position_, blocks_.data());
  for (size_t i = 0; i < ids.size(); ++i) batch.logit_rows.push_back(i);
  position_ += ids.size();
  return model_.forward(batch, cache_);
}

void score_passage(const std::vector<Scorer*>& models, std::span<const int32_t> ids,
                   std::vector<TextScore>& scores) {
  OCTET_CHECK(ids.size() >= 2 && scores.size() == models.size());
  const size_t vocab = models[0]->vocab();
  for (Scorer* m : models) m->restart();
  for (size_t begin = 0; begin + 1 < ids.size(); begin += Scorer::kChunk) {
    const size_t count = std::min(Scorer::kChunk, ids.size() - 1 - begin);
    std::vector<const float*> logits;
    for (Scorer* m : models) logits.push_back(m->next(ids.subspan(begin, count)).data());
    for (size_t k = 0; k < models.size(); ++k) {
      std::vector<TextScore> parts(models[0]->team().size());
      models[0]->team().run([&](Worker& w) {
        const auto [first, last] = w.share(count);
        for (size_t r = first; r < last; ++r)
          parts[w.id()].add(logits[0] + r * vocab, logits[k] + r * vocab, vocab,
                            ids[begin + r + 1]);
      });
      for (const TextScore& p : parts) {
        scores[k].tokens += p.tokens;
        scores[k].log_loss += p.log_loss;
        scores[k].kl += p.kl;
        scores[k].same_top1 += p.same_top1;
      }
    }
  }
}

bool prefers(Scorer& model, std::span<const int32_t> prompt, int32_t right, int32_t wrong) {
  model.restart();
  const float* last = nullptr;
  for (size_t begin = 0; begin < prompt.size(); begin += Scorer::kChunk) {
    const size_t count = std::min(Scorer::kChunk, prompt.size() - begin);
    last = model.next(prompt.subspan(begin, count)).data() + (count - 1) * model.vocab();
  }
  OCTET_CHECK(last != nullptr);
  return last[right] > last[wrong];
}

}  // namespace octet
