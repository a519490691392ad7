#include "src/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace octet {
namespace {

constexpr float kMasked = -INFINITY;
constexpr float kLargest = 1e30f;  // finite after any penalty and bias
constexpr double kGreedyBelow = 1e-5;

size_t argmax(std::span<const float> v) {
  return static_cast<size_t>(std::max_element(v.begin(), v.end()) - v.begin());
}

float& at(std::span<float> logits, int32_t id) { return logits[static_cast<size_t>(id)]; }

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt,
                 std::vector<int32_t> eos_ids)
    : params_(params), eos_ids_(std::move(eos_ids)) {
  if (params.repetition_penalty != 1) {
    const std::set<int32_t> distinct(prompt.begin(), prompt.end());
    seen_.assign(distinct.begin(), distinct.end());
  }
  rng_.seed(params.seed ? static_cast<uint64_t>(*params.seed)
                        : (uint64_t{std::random_device{}()} << 32 | std::random_device{}()));
}

void Sampler::make_safe(std::span<float> logits) {
  for (float& l : logits) l = l >= -kLargest ? std::min(l, kLargest) : kMasked;  // NaN: masked
}

TokenLogprob Sampler::logprob_of(std::span<const float> logits, int32_t token, int top) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  if (max > kMasked)
    for (float l : logits) sum += std::exp(static_cast<double>(l - max));
  const double log_sum = max > kMasked ? std::log(sum) + max : 0;  // all masked: -infinity each
  TokenLogprob out;
  const float value = logits[static_cast<size_t>(token)];
  out.token = token;
  out.logprob = static_cast<float>(value - log_sum);
  out.rank = 1 + std::count_if(logits.begin(), logits.end(), [&](float l) { return l > value; });
  const size_t n = std::min(static_cast<size_t>(std::max(top, 0)), logits.size());
  if (n > 0) {
    std::vector<int32_t> ids(logits.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    std::partial_sort(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(n), ids.end(),
                      [&](int32_t a, int32_t b) {
                        const float x = logits[static_cast<size_t>(a)];
                        const float y = logits[static_cast<size_t>(b)];
                        return x != y ? x > y : a < b;
                      });
    for (size_t i = 0; i < n; ++i)
      out.top.emplace_back(ids[i],
                           static_cast<float>(logits[static_cast<size_t>(ids[i])] - log_sum));
  }
  return out;
}

// Whether any token may be forbidden at this step.
bool Sampler::masks() const {
  return !params_.allowed_token_ids.empty() || !params_.bad_words.empty() ||
         output_.size() < params_.min_tokens;
}

void Sampler::mask(std::span<float> logits) const {
  for (const auto& [id, bias] : params_.logit_bias) at(logits, id) += bias;
  if (!params_.allowed_token_ids.empty()) {
    std::vector<std::pair<int32_t, float>> kept;
    for (int32_t id : params_.allowed_token_ids) kept.emplace_back(id, at(logits, id));
    std::fill(logits.begin(), logits.end(), kMasked);
    for (const auto& [id, v] : kept) at(logits, id) = v;
  }
  if (output_.size() < params_.min_tokens)
    for (const std::vector<int32_t>* ids : {&eos_ids_, &*params_.stop_token_ids})
      for (int32_t id : *ids)
        if (static_cast<size_t>(id) < logits.size()) at(logits, id) = kMasked;
  for (const std::vector<int32_t>& word : params_.bad_words) {
    const size_t prefix = word.size() - 1;
    if (output_.size() >= prefix &&
        std::equal(word.begin(), word.end() - 1, output_.end() - static_cast<ptrdiff_t>(prefix)))
      at(logits, word.back()) = kMasked;
  }
}

void Sampler::penalize(std::span<float> logits) const {
  const auto repeat = [&](int32_t id) {
    float& l = at(logits, id);
    const float p = static_cast<float>(params_.repetition_penalty);
    l = l > 0 ? l / p : l * p;
  };
  if (params_.repetition_penalty != 1) {
    for (int32_t id : seen_) repeat(id);
    for (const auto& [id, count] : counts_)
      if (!std::binary_search(seen_.begin(), seen_.end(), id)) repeat(id);
  }
  if (params_.frequency_penalty != 0 || params_.presence_penalty != 0)
    for (const auto& [id, count] : counts_)
      at(logits, id) -= static_cast<float>(params_.frequency_penalty * static_cast<double>(count) +
                                           params_.presence_penalty);
}

int32_t Sampler::draw(std::span<const float> logits) {
  if (params_.temperature < kGreedyBelow) return static_cast<int32_t>(argmax(logits));
  const double inverse = 1.0 / std::max(params_.temperature, 0.01);
  const float max = logits[argmax(logits)];
  struct Candidate {
    double weight;
    int32_t id;
  };
  std::vector<Candidate> c;
  c.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > kMasked)
      c.push_back(
          {std::exp(static_cast<double>(logits[i] - max) * inverse), static_cast<int32_t>(i)});
  if (c.empty()) return static_cast<int32_t>(argmax(logits));  // a broken model's logits
  const auto heavier = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  };
  if (params_.top_k > 0 && static_cast<size_t>(params_.top_k) < c.size()) {
    std::nth_element(c.begin(), c.begin() + params_.top_k - 1, c.end(), heavier);
    c.resize(static_cast<size_t>(params_.top_k));
  }
  if (params_.min_p > 0)  // the heaviest has weight 1
    std::erase_if(c, [&](const Candidate& x) { return x.weight < params_.min_p; });
  double total = 0;
  for (const Candidate& x : c) total += x.weight;
  if (params_.top_p < 1) {
    // Sort growing heads of the list until they hold the mass.
    size_t sorted = 0, keep = 0;
    double mass = 0;
    while (keep < c.size() && mass < params_.top_p * total) {
      if (keep == sorted) {
        const size_t next = std::min(c.size(), std::max<size_t>(64, sorted * 4));
        std::partial_sort(c.begin() + static_cast<ptrdiff_t>(sorted),
                          c.begin() + static_cast<ptrdiff_t>(next), c.end(), heavier);
        sorted = next;
      }
      mass += c[keep++].weight;
    }
    c.resize(std::max<size_t>(keep, 1));
    total = mass;
  }
  const double u = static_cast<double>(rng_() >> 11) * 0x1p-53 * total;
  double sum = 0;
  for (const Candidate& x : c)
    if ((sum += x.weight) > u) return x.id;
  return c.back().id;
}

std::optional<int32_t> Sampler::sample(std::span<float> logits, TokenLogprob* logprob) {
  std::vector<float> raw;
  if (params_.logprobs >= 0) raw.assign(logits.begin(), logits.end());
  mask(logits);
  penalize(logits);
  if (masks() && logits[argmax(logits)] <= kMasked) return std::nullopt;
  const int32_t token = draw(logits);
  if (params_.logprobs >= 0) *logprob = logprob_of(raw, token, params_.logprobs);
  output_.push_back(token);
  ++counts_[token];
  return token;
}

}  // namespace octet
