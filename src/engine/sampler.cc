#include "src/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace octet {
namespace {

constexpr float kLargest = 1e30f;  // finite after any penalty and bias
constexpr double kGreedyBelow = 1e-5;
constexpr int64_t kMostWanted = 256;  // top_k up to which only the largest logits are computed

size_t argmax(std::span<const float> v) {
  return static_cast<size_t>(std::max_element(v.begin(), v.end()) - v.begin());
}

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt,
                 const std::vector<int32_t>& eos_ids)
    : params_(params), rules_(params, prompt, eos_ids) {
  rng_.seed(params.seed ? static_cast<uint64_t>(*params.seed)
                        : (uint64_t{std::random_device{}()} << 32 | std::random_device{}()));
}

bool Sampler::greedy() const { return params_.temperature < kGreedyBelow; }

size_t Sampler::wanted() const {
  if (params_.logprobs >= 0) return 0;
  if (greedy()) return 1;
  return params_.top_k <= kMostWanted ? static_cast<size_t>(std::max<int64_t>(params_.top_k, 0))
                                      : 0;
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

int32_t Sampler::draw(std::vector<Choice> choices) {
  const auto at = [](auto& list, size_t i) { return list.begin() + static_cast<ptrdiff_t>(i); };
  if (params_.top_k > 0 && static_cast<size_t>(params_.top_k) < choices.size()) {
    const auto end = at(choices, static_cast<size_t>(params_.top_k));
    // In order where they are few: what is drawn must not depend on what was there beside them.
    if (params_.top_k <= kMostWanted)
      std::partial_sort(choices.begin(), end, choices.end(), comes_before);
    else
      std::nth_element(choices.begin(), end - 1, choices.end(), comes_before);
    choices.erase(end, choices.end());
  }
  const float max = std::ranges::min(choices, comes_before).logit;
  const double inverse = 1.0 / std::max(params_.temperature, 0.01);
  struct Candidate {
    Choice choice;
    double weight;  // of the likeliest: 1
  };
  std::vector<Candidate> c;
  c.reserve(choices.size());
  for (const Choice& x : choices)
    c.push_back({x, std::exp(static_cast<double>(x.logit - max) * inverse)});
  if (params_.min_p > 0)
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
        std::ranges::partial_sort(at(c, sorted), at(c, next), c.end(), comes_before,
                                  &Candidate::choice);
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
    if ((sum += x.weight) > u) return x.choice.token;
  return c.back().choice.token;
}

int32_t Sampler::took(int32_t token) {
  rules_.add(token);
  return token;
}

std::optional<int32_t> Sampler::sample(std::span<float> logits, TokenLogprob* logprob) {
  std::vector<float> raw;
  if (params_.logprobs >= 0) raw.assign(logits.begin(), logits.end());
  rules_.apply(logits);
  const size_t first = argmax(logits);
  if (rules_.masks() && logits[first] == kMasked) return std::nullopt;
  int32_t token = static_cast<int32_t>(first);
  if (!greedy() && logits[first] > kMasked) {  // else a broken model's logits
    std::vector<Choice> choices;
    choices.reserve(logits.size());
    for (size_t i = 0; i < logits.size(); ++i)
      if (logits[i] > kMasked) choices.push_back({static_cast<int32_t>(i), logits[i]});
    token = draw(std::move(choices));
  }
  if (params_.logprobs >= 0) *logprob = logprob_of(raw, token, params_.logprobs);
  return took(token);
}

std::optional<int32_t> Sampler::sample(std::vector<Choice> choices) {
  if (choices.empty()) return std::nullopt;
  if (greedy()) return took(std::ranges::min(choices, comes_before).token);
  return took(draw(std::move(choices)));
}

}  // namespace octet
