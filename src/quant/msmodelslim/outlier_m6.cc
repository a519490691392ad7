// m6 (flex smooth): the exponents of input and weight amplitude, given or searched by the error of
// the rounded product.
#include <algorithm>
#include <cmath>

#include "src/base/int8_grid.h"
#include "src/model/float_linear.h"
#include "src/model/int8_linear.h"
#include "src/quant/int8/quant_params.h"
#include "src/quant/int8/weight_rounding.h"
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet {
namespace {

constexpr size_t kSearchRows = 256;  // rows computed at a time

// The error of one group under different scales.
class ScaledError {
 public:
  ScaledError(const SmoothTarget& target, bool per_token, ThreadTeam& team)
      : team_(team),
        per_token_(per_token),
        stats_(target.stats),
        k_(target.stats.channels()),
        rows_(target.stats.inputs().size() / k_),
        buffer_(kSearchRows, k_, 1) {
    for (const FloatWeight* w : target.weights) {
      n_ += w->shape.n;
      weights_.insert(weights_.end(), w->w.begin(), w->w.end());
    }
    want_.resize(rows_ * n_);
    FloatLinear linear(weights_.data(), kernels::FloatType::kF32, n_, k_, {}, team);
    team.run([&](Worker& w) {
      linear.compute(w, {stats_.inputs().data(), k_, rows_}, {want_.data(), n_}, buffer_, 0);
    });
    for (float v : want_) want_squares_ += double{v} * v;
  }

  // The root of the squared error over the root of the squared output, without bias.
  double operator()(const std::vector<float>& s) {
    std::vector<float> scaled(weights_.size());
    team_.run([&](Worker& w) {
      const auto [begin, end] = w.share(n_);
      for (size_t j = begin; j < end; ++j)
        for (size_t i = 0; i < k_; ++i) scaled[j * k_ + i] = weights_[j * k_ + i] * s[i];
    });
    const RoundedWeight rounded = round_weight(scaled, n_, k_, /*asymmetric=*/false, team_);
    const QuantParams input = per_token_ ? QuantParams{} : input_params(s);
    W8A8Params params{1, input.offset, std::vector<int32_t>(n_), std::vector<float>(n_)};
    for (size_t j = 0; j < n_; ++j) {
      params.quant_bias[j] =
          static_cast<int32_t>(-rounded.sum[j] * static_cast<int64_t>(input.offset));
      params.deq_scale[j] = input.scale * rounded.scale[j];
    }
    W8A8Linear linear(rounded.q.data(), n_, k_, params, team_);
    std::vector<float> levels(kSearchRows * k_), got(kSearchRows * n_), token_scale(kSearchRows);
    std::vector<double> sums(rows_);
    team_.run([&](Worker& w) {
      for (size_t first = 0; first < rows_; first += kSearchRows) {
        const size_t m = std::min(kSearchRows, rows_ - first);
        const float* x = stats_.inputs().data() + first * k_;
        const auto [begin, end] = w.share(m);
        for (size_t r = begin; r < end; ++r) {
          float top = 0;
          for (size_t i = 0; i < k_; ++i) {
            levels[r * k_ + i] = x[r * k_ + i] / s[i];
            top = std::max(top, std::fabs(levels[r * k_ + i]));
          }
          const float scale = per_token_ ? std::max(top / 127, kMinQuantScale) : input.scale;
          token_scale[r] = per_token_ ? scale : 1;
          // Not cut off, as in the tool's search: the range is that of these very numbers.
          const Int8Grid<GridRule{.offset_is_rounded = true, .saturates = false}> grid(
              scale, input.offset);
          for (size_t i = 0; i < k_; ++i) levels[r * k_ + i] = grid.level(levels[r * k_ + i]);
        }
        const Rows in = {levels.data(), k_, m};
        linear.stage(w, in, buffer_, 0);
        w.barrier();
        linear.compute(w, in, {got.data(), n_}, buffer_, 0);
        w.barrier();
        for (size_t r = begin; r < end; ++r) {
          const float* want = want_.data() + (first + r) * n_;
          double sum = 0;
          for (size_t j = 0; j < n_; ++j) {
            const double d = double{got[r * n_ + j]} * token_scale[r] - double{want[j]};
            sum += d * d;
          }
          sums[first + r] = sum;
        }
        w.barrier();  // another worker's rows of the next chunk may be these
      }
    });
    double total = 0;
    for (double v : sums) total += v;
    return std::sqrt(total) / std::sqrt(want_squares_);
  }

 private:
  // Of x / s over all rows: a channel's extremes are those of x over s.
  QuantParams input_params(const std::vector<float>& s) const {
    Range range;
    for (size_t i = 0; i < k_; ++i) {
      range.min = std::min(range.min, stats_.lowest()[i] / s[i]);
      range.max = std::max(range.max, stats_.highest()[i] / s[i]);
    }
    return params_of(range, DType::kF32);
  }

  ThreadTeam& team_;
  bool per_token_;  // scales of the input, symmetric, instead of one range
  const OutlierStats& stats_;
  size_t k_, rows_, n_ = 0;
  StageBuffer buffer_;
  std::vector<float> weights_, want_;  // [n, k] and the float output [rows, n]
  double want_squares_ = 0;
};

// alpha in steps of 0.05 with beta = 1 - alpha, then beta in the same steps; the last one with the
// least error.
std::pair<float, float> search(const SmoothTarget& target, const std::vector<float>& a,
                               const std::vector<float>& w, bool as_v1, ThreadTeam& team) {
  constexpr int kSteps = 20;
  ScaledError error(target, as_v1, team);
  double least = as_v1 ? INFINITY : 1;
  std::pair<float, float> best(0.5f, 0.5f);
  const auto attempt = [&](float alpha, float beta) {
    std::vector<float> s(a.size());
    for (size_t i = 0; i < s.size(); ++i) {
      s[i] = std::max(kMinScale, std::pow(a[i], alpha) / std::pow(w[i], beta));
      if (!std::isfinite(s[i])) return;  // a channel whose weights are all zero
    }
    const double e = error(s);
    if (!(e <= least)) return;
    least = e;
    best = {alpha, beta};
  };
  const auto step = [](int i) { return static_cast<double>(i) / kSteps; };
  for (int i = 0; i <= kSteps; ++i)
    attempt(static_cast<float>(step(i)), static_cast<float>(1 - step(i)));
  const float alpha = best.first;
  for (int i = 0; i <= kSteps; ++i) attempt(alpha, static_cast<float>(step(i)));
  return best;
}

class M6 final : public OutlierMethod {
 public:
  explicit M6(const FlexSmooth& flex) : flex_(flex) {}
  OutlierNeeds stats() const override {
    return {.keep = flex_.exponents ? KeepInputs::kNone : KeepInputs::kAll};
  }
  bool applies(LayerPart part, int64_t layer) const override {
    return part != LayerPart::kO || layer >= flex_.o_kept_below;
  }
  std::vector<float> scale(const SmoothTarget& target, ThreadTeam& team) const override {
    std::vector<float> a = target.stats.amplitude(), w = weight_amplitude(target);
    // The search scales every head by itself, as the tool's does.
    const auto [alpha, beta] =
        flex_.exponents ? *flex_.exponents : search(target, a, w, flex_.as_v1, team);
    if (flex_.as_v1) {
      std::vector<float> s = power_scale(a, w, alpha, beta);
      average_heads(target, s);
      return s;
    }
    maximize_heads(target, a);
    maximize_heads(target, w);
    return power_scale(a, w, alpha, beta);
  }

 private:
  FlexSmooth flex_;
};

}  // namespace

std::unique_ptr<OutlierMethod> make_m6(const FlexSmooth& flex) {
  return std::make_unique<M6>(flex);
}

}  // namespace octet
