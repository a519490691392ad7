#include "src/engine/largest.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "src/kernels/kernels.h"

namespace octet {
namespace {

// The tokens are taken by falling bounds; none can win any more when the next bound is below the
// count-th largest logit found (Fagin's threshold). Every group of outputs is computed once.
class Search {
 public:
  Search(std::span<const float> bounds, const ExactLogits& exact, size_t count,
         const LogitRules& rules)
      : bounds_(bounds),
        exact_(exact),
        count_(count),
        rules_(rules),
        maxima_((bounds.size() + kernels::kMaximumBlock - 1) / kernels::kMaximumBlock),
        logits_(ExactLogits::group_size()),
        computed_((bounds.size() + logits_.size() - 1) / logits_.size()) {
    kernels::table().block_maxima(bounds.data(), bounds.size(), maxima_.data());
  }

  std::vector<Choice> run() {
    const float first = first_level();
    take(first, INFINITY);
    if (level() < first) take(level(), first);
    return std::move(found_);
  }

 private:
  // A level that at least `count_` bounds reach: as many neighbourhoods do.
  float first_level() const {
    if (maxima_.size() <= count_) return kMasked;
    std::vector<float> sorted = maxima_;
    const auto at = sorted.begin() + static_cast<ptrdiff_t>(count_ - 1);
    std::nth_element(sorted.begin(), at, sorted.end(), std::greater<>());
    return *at;
  }

  // What a bound must reach.
  float level() const { return best_.size() < count_ ? kMasked : best_.top(); }

  // The tokens whose bounds are in [low, high), masked ones aside.
  void take(float low, float high) {
    std::vector<Choice> wanted;  // with their bounds
    for (size_t block = 0; block < maxima_.size(); ++block) {
      if (maxima_[block] < low) continue;
      const size_t begin = block * kernels::kMaximumBlock;
      const size_t end = std::min(begin + kernels::kMaximumBlock, bounds_.size());
      for (size_t id = begin; id < end; ++id)
        if (bounds_[id] >= low && bounds_[id] < high && bounds_[id] > kMasked)
          wanted.push_back({static_cast<int32_t>(id), bounds_[id]});
    }
    std::ranges::sort(wanted, comes_before);
    for (const Choice& c : wanted) {
      if (c.logit < level()) return;
      compute(static_cast<size_t>(c.token) / logits_.size());
    }
  }

  void compute(size_t group) {
    if (computed_[group]) return;
    computed_[group] = true;
    exact_.compute(group, logits_.data());
    const size_t first = group * logits_.size();
    for (size_t i = 0; i < std::min(logits_.size(), bounds_.size() - first); ++i) {
      if (bounds_[first + i] == kMasked || bounds_[first + i] < level()) continue;
      const auto token = static_cast<int32_t>(first + i);
      const float logit = rules_.apply(token, logits_[i]);
      if (logit == kMasked) continue;
      found_.push_back({token, logit});
      best_.push(logit);
      if (best_.size() > count_) best_.pop();
    }
  }

  std::span<const float> bounds_;
  const ExactLogits& exact_;
  const size_t count_;
  const LogitRules& rules_;
  std::vector<float> maxima_;   // of neighbours
  std::vector<float> logits_;   // of a group
  std::vector<bool> computed_;  // groups
  std::vector<Choice> found_;
  std::priority_queue<float, std::vector<float>, std::greater<>> best_;  // the count_ largest found
};

}  // namespace

std::vector<Choice> largest_choices(std::span<float> bounds, const ExactLogits& exact, size_t count,
                                    const LogitRules& rules) {
  if (rules.any()) rules.apply(bounds);
  return Search(bounds, exact, count, rules).run();
}

}  // namespace octet
