#include "src/engine/logit_rules.h"

#include <algorithm>
#include <utility>

#include "src/base/error.h"

namespace octet {
namespace {

float& logit_at(std::span<float> logits, int32_t id) { return logits[static_cast<size_t>(id)]; }

bool has(const std::vector<int32_t>& ascending, int32_t id) {
  return std::ranges::binary_search(ascending, id);
}

void sort_distinct(std::vector<int32_t>& ids) {
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

}  // namespace

LogitRules::LogitRules(const SamplingParams& params, std::span<const int32_t> prompt,
                       const std::vector<int32_t>& eos_ids)
    : params_(params) {
  OCTET_CHECK(std::ranges::is_sorted(*params_.allowed_token_ids));
  OCTET_CHECK(std::ranges::is_sorted(*params_.logit_bias, {}, &std::pair<int32_t, float>::first));
  if (params_.min_tokens > 0) {
    ends_ = eos_ids;
    ends_.insert(ends_.end(), params_.stop_token_ids.begin(), params_.stop_token_ids.end());
    sort_distinct(ends_);
  }
  if (params_.repetition_penalty != 1)
    for (int32_t token : prompt) counts_.emplace(token, 0);
  forbid();
}

void LogitRules::add(int32_t token) {
  output_.push_back(token);
  if (penalizes()) ++counts_[token];
  forbid();
}

void LogitRules::forbid() {
  forbidden_.clear();
  for (const std::vector<int32_t>& word : params_.bad_words) {
    const size_t prefix = word.size() - 1;
    if (output_.size() >= prefix &&
        std::equal(word.begin(), word.end() - 1, output_.end() - static_cast<ptrdiff_t>(prefix)))
      forbidden_.push_back(word.back());
  }
  sort_distinct(forbidden_);
}

bool LogitRules::masks() const {
  return !params_.allowed_token_ids.empty() || !params_.bad_words.empty() ||
         output_.size() < params_.min_tokens;
}

bool LogitRules::penalizes() const {
  return params_.repetition_penalty != 1 || params_.frequency_penalty != 0 ||
         params_.presence_penalty != 0;
}

// `count`: in the output. CTRL's penalty (arXiv 1909.05858), then the OpenAI API's two.
float LogitRules::penalized(float logit, int64_t count) const {
  if (params_.repetition_penalty != 1) {
    const float p = static_cast<float>(params_.repetition_penalty);
    logit = logit > 0 ? logit / p : logit * p;
  }
  if (count > 0 && (params_.frequency_penalty != 0 || params_.presence_penalty != 0))
    logit -= static_cast<float>(params_.frequency_penalty * static_cast<double>(count) +
                                params_.presence_penalty);
  return logit;
}

void LogitRules::apply(std::span<float> logits) const {
  for (const auto& [id, bias] : params_.logit_bias) logit_at(logits, id) += bias;
  if (!params_.allowed_token_ids.empty()) {
    auto next = params_.allowed_token_ids.begin();
    for (size_t id = 0; id < logits.size(); ++id) {
      const bool allowed =
          next != params_.allowed_token_ids.end() && static_cast<size_t>(*next) == id;
      if (allowed)
        ++next;
      else
        logits[id] = kMasked;
    }
  }
  if (output_.size() < params_.min_tokens)
    for (int32_t id : ends_)
      if (static_cast<size_t>(id) < logits.size()) logit_at(logits, id) = kMasked;
  for (int32_t id : forbidden_) logit_at(logits, id) = kMasked;
  for (const auto& [id, count] : counts_) {
    float& logit = logit_at(logits, id);
    logit = penalized(logit, count);
  }
}

float LogitRules::apply(int32_t token, float logit) const {
  const std::vector<int32_t>& allowed = params_.allowed_token_ids;
  if (!allowed.empty() && !has(allowed, token)) return kMasked;
  if (output_.size() < params_.min_tokens && has(ends_, token)) return kMasked;
  if (has(forbidden_, token)) return kMasked;
  const std::vector<std::pair<int32_t, float>>& biases = params_.logit_bias;
  const auto bias = std::ranges::lower_bound(biases, token, {}, &std::pair<int32_t, float>::first);
  if (bias != biases.end() && bias->first == token) logit += bias->second;
  const auto count = counts_.find(token);
  return count == counts_.end() ? logit : penalized(logit, count->second);
}

}  // namespace octet
