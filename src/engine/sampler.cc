#include "src/engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "src/kernels/kernels.h"

namespace octet {
namespace {

constexpr float kLargest = 1e30f;  // finite after any penalty and bias
constexpr double kGreedyBelow = 1e-5;
constexpr int64_t kMostWanted = 256;  // top_k up to which only the largest logits are computed

constexpr size_t kSumBlock = 256;  // weights that are added up together

auto at(auto& list, size_t i) { return list.begin() + static_cast<ptrdiff_t>(i); }

std::span<float> block_of(std::span<float> v, size_t b) {
  return v.subspan(b * kSumBlock, std::min(kSumBlock, v.size() - b * kSumBlock));
}

// In four parts: an addition waits for the one before it.
double sum_of(std::span<const float> v) {
  std::array<double, 4> parts{};
  size_t i = 0;
  for (; i + parts.size() <= v.size(); i += parts.size())
    for (size_t k = 0; k < parts.size(); ++k) parts[k] += double{v[i + k]};
  for (; i < v.size(); ++i) parts[0] += double{v[i]};
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

// The first of the largest of v, which holds no NaN.
size_t argmax(std::span<const float> v) {
  constexpr size_t kBlock = kernels::kMaximumBlock;
  std::vector<float> maxima((v.size() + kBlock - 1) / kBlock);
  kernels::table().block_maxima(v.data(), v.size(), maxima.data());
  const auto best = std::max_element(maxima.begin(), maxima.end());
  const size_t first = static_cast<size_t>(best - maxima.begin()) * kBlock;
  return static_cast<size_t>(std::find(at(v, first), v.end(), *best) - v.begin());
}

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt,
                 const std::vector<int32_t>& eos_ids)
    : params_(params), rules_(params, prompt, eos_ids) {
  rng_.seed(params.seed ? static_cast<uint64_t>(*params.seed)
                        : (uint64_t{std::random_device{}()} << 32 | std::random_device{}()));
}

bool Sampler::greedy() const { return params_.temperature < kGreedyBelow; }

double Sampler::inverse_temperature() const {
  // A float, too, and above zero: zero times a masked logit would be no number.
  return 1.0 / std::clamp(params_.temperature, 0.01, 1e38);
}

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

double Sampler::uniform() { return static_cast<double>(rng_() >> 11) * 0x1p-53; }

double Sampler::keep_nucleus(std::vector<Candidate>& c, double wanted) {
  // Sort growing heads of the list until they hold the mass.
  size_t sorted = 0, keep = 0;
  double mass = 0;
  while (keep < c.size() && mass < wanted) {
    if (keep == sorted) {
      const size_t next = std::min(c.size(), std::max<size_t>(64, sorted * 4));
      std::ranges::partial_sort(at(c, sorted), at(c, next), c.end(), comes_before,
                                &Candidate::choice);
      sorted = next;
    }
    mass += c[keep++].weight;
  }
  c.resize(std::max<size_t>(keep, 1));
  return mass;
}

int32_t Sampler::draw_among(const std::vector<Candidate>& c, double total) {
  const double u = uniform() * total;
  double sum = 0;
  for (const Candidate& x : c)
    if ((sum += x.weight) > u) return x.choice.token;
  return c.back().choice.token;
}

int32_t Sampler::draw(std::vector<Choice> choices) {
  if (static_cast<size_t>(params_.top_k) < choices.size()) {
    const auto end = at(choices, static_cast<size_t>(params_.top_k));
    // In order where they are few: what is drawn must not depend on what was there beside them.
    if (params_.top_k <= kMostWanted)
      std::partial_sort(choices.begin(), end, choices.end(), comes_before);
    else
      std::nth_element(choices.begin(), end - 1, choices.end(), comes_before);
    choices.erase(end, choices.end());
  }
  const float max = std::ranges::min(choices, comes_before).logit;
  std::vector<Candidate> c;
  c.reserve(choices.size());
  for (const Choice& x : choices)
    c.push_back({x, std::exp(static_cast<double>(x.logit - max) * inverse_temperature())});
  if (params_.min_p > 0)
    std::erase_if(c, [&](const Candidate& x) { return x.weight < params_.min_p; });
  double total = 0;
  for (const Candidate& x : c) total += x.weight;
  if (params_.top_p < 1) total = keep_nucleus(c, params_.top_p * total);
  return draw_among(c, total);
}

int32_t Sampler::draw_from_all(std::span<float> logits, float max) {
  const std::span<float> weights = logits;
  kernels::table().softmax_weights(weights.data(), weights.size(), max,
                                   static_cast<float>(inverse_temperature()));
  if (params_.min_p > 0)
    for (float& w : weights) w = double{w} < params_.min_p ? 0 : w;
  // By block, so that the one in which the draw ends is found without looking at all again.
  std::vector<double> sums((weights.size() + kSumBlock - 1) / kSumBlock);
  double total = 0;
  for (size_t b = 0; b < sums.size(); ++b) {
    sums[b] = sum_of(block_of(weights, b));
    total += sums[b];
  }
  if (params_.top_p < 1) {
    const double wanted = params_.top_p * total;
    std::vector<Candidate> c;
    double mass = 0;
    // The likely ones, or, where they are not enough, more, down to all.
    for (float least = 1e-3f; mass < wanted && least > 0; least *= 1e-3f) {
      c.clear();
      mass = 0;
      for (size_t i = 0; i < weights.size(); ++i)
        if (weights[i] >= least) {
          // In the order of the weights, which is that of the logits.
          c.push_back({{static_cast<int32_t>(i), weights[i]}, double{weights[i]}});
          mass += double{weights[i]};
        }
    }
    return draw_among(c, keep_nucleus(c, wanted));
  }
  double left = uniform() * total;
  size_t b = 0, last = sums.size() - 1;
  while (sums[last] == 0) --last;  // rounding must not lead beyond the last that counts
  for (; b < last && left >= sums[b]; ++b) left -= sums[b];
  size_t token = 0;
  const std::span<float> block = block_of(weights, b);
  for (size_t i = 0; i < block.size(); ++i) {
    if (block[i] == 0) continue;
    token = b * kSumBlock + i;
    if ((left -= double{block[i]}) < 0) break;
  }
  return static_cast<int32_t>(token);
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
    if (params_.top_k <= 0) {
      token = draw_from_all(logits, logits[first]);
    } else {
      std::vector<Choice> choices;
      choices.reserve(logits.size());
      for (size_t i = 0; i < logits.size(); ++i)
        if (logits[i] > kMasked) choices.push_back({static_cast<int32_t>(i), logits[i]});
      token = draw(std::move(choices));
    }
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
