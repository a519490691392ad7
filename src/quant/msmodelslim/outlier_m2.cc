// m2 (outlier suppression): the amplitude at which channels are cut off, searched by the error of
// the rounded input at what the group computes.
#include <algorithm>
#include <cmath>

#include "src/base/int8_grid.h"
#include "src/model/float_linear.h"
#include "src/quant/int8/quant_params.h"
#include "src/quant/int8/weight_rounding.h"
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet {
namespace {

constexpr int kSteps = 100;

// y [m, n] of a packed linear for x [m, k].
void multiply(Linear& linear, const std::vector<float>& x, std::vector<float>& y,
              ThreadTeam& team) {
  const size_t m = x.size() / linear.inputs();
  y.resize(m * linear.outputs());
  StageBuffer none(0, 0, 0);
  team.run([&](Worker& w) {
    linear.compute(w, {x.data(), linear.inputs(), m}, {y.data(), linear.outputs()}, none, 0);
  });
}

// What stands for the group's output in the error: for q/k/v softmax(q_g k^T / sqrt(width)) v for
// each slice q_g of q that is as wide as k (no heads, no mask, no rope), side by side; otherwise
// the first linear's output.
class GroupOutput {
 public:
  GroupOutput(const SmoothTarget& target, ThreadTeam& team) : team_(team) {
    attention_ = target.weights.size() == 3;
    for (const FloatWeight* w : target.weights) {
      if (linears_.size() == 1 && !attention_) break;
      linears_.push_back(pack_float({w}, team));
    }
    outputs_.resize(linears_.size());
  }

  // x [m, k] -> [m, outputs of the first linear].
  const std::vector<float>& compute(const std::vector<float>& x) {
    for (size_t i = 0; i < linears_.size(); ++i) multiply(*linears_[i], x, outputs_[i], team_);
    if (!attention_) return outputs_[0];
    attend();
    return mixed_;
  }

 private:
  void attend() {
    const size_t dq = linears_[0]->outputs(), width = linears_[1]->outputs();
    const size_t m = outputs_[0].size() / dq;
    // Values transposed [width, m], so that both products are rows times rows.
    std::vector<float> columns(width * m), scores, part;
    for (size_t r = 0; r < m; ++r)
      for (size_t i = 0; i < width; ++i) columns[i * m + r] = outputs_[2][r * width + i];
    FloatLinear keys(outputs_[1].data(), kernels::FloatType::kF32, m, width, {}, team_);
    FloatLinear values(columns.data(), kernels::FloatType::kF32, width, m, {}, team_);
    mixed_.resize(m * dq);
    std::vector<float> slice(m * width);
    for (size_t first = 0; first < dq; first += width) {
      for (size_t r = 0; r < m; ++r)
        std::copy_n(outputs_[0].data() + r * dq + first, width, slice.data() + r * width);
      multiply(keys, slice, scores, team_);
      soften(scores, m, 1.0f / std::sqrt(static_cast<float>(width)));
      multiply(values, scores, part, team_);
      for (size_t r = 0; r < m; ++r)
        std::copy_n(part.data() + r * width, width, mixed_.data() + r * dq + first);
    }
  }

  // Rows of s [m, m] to softmax(s * scale).
  void soften(std::vector<float>& s, size_t m, float scale) {
    team_.run([&](Worker& w) {
      const auto [begin, end] = w.share(m);
      for (size_t r = begin; r < end; ++r) {
        float* row = s.data() + r * m;
        const float top = *std::max_element(row, row + m);
        float sum = 0;
        for (size_t i = 0; i < m; ++i) sum += row[i] = std::exp((row[i] - top) * scale);
        for (size_t i = 0; i < m; ++i) row[i] /= sum;
      }
    });
  }

  ThreadTeam& team_;
  bool attention_;
  std::vector<std::unique_ptr<Linear>> linears_;
  std::vector<std::vector<float>> outputs_;
  std::vector<float> mixed_;
};

// x [m, k] shifted, scaled and rounded to one static range, and back.
void round_input(const std::vector<float>& x, const std::vector<float>& shift,
                 const std::vector<float>& s, std::vector<float>& out, ThreadTeam& team) {
  const size_t k = s.size(), m = x.size() / k;
  out.resize(x.size());
  std::vector<Range> ranges(team.size());  // with zero in them, as params_of wants it
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(m);
    Range range;
    for (size_t r = begin; r < end; ++r)
      for (size_t i = 0; i < k; ++i) {
        const float v = out[r * k + i] = (x[r * k + i] - shift[i]) / s[i];
        range.min = std::min(range.min, v);
        range.max = std::max(range.max, v);
      }
    ranges[w.id()] = range;
    w.barrier();
    for (const Range& other : ranges) {
      range.min = std::min(range.min, other.min);
      range.max = std::max(range.max, other.max);
    }
    const QuantParams p = params_of(range, DType::kF32);
    const Int8Grid<GridRule{.offset_is_rounded = true}> grid(p.scale, p.offset);
    for (size_t r = begin; r < end; ++r)
      for (size_t i = 0; i < k; ++i) {
        float& v = out[r * k + i];
        v = grid.value(v) * s[i] + shift[i];
      }
  });
}

double mean_squared_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum / static_cast<double>(a.size());
}

class M2 final : public OutlierMethod {
 public:
  OutlierNeeds stats() const override {
    return {.keep = KeepInputs::kFirstBatch, .deviation = true};
  }
  std::vector<float> scale(const SmoothTarget& target, ThreadTeam& team) const override {
    const OutlierStats& stats = target.stats;
    const size_t k = stats.channels();
    const std::vector<float> w = weight_amplitude(target);
    const std::vector<float>& highest = stats.shifted_highest();
    const float deviation = stats.deviation();
    const float top = *std::max_element(highest.begin(), highest.end());
    if (3 * deviation >= top) return power_scale(stats.amplitude(), w, 0.5f, 0.5f);
    const std::vector<float> shift = stats.shift();
    GroupOutput output(target, team);
    const std::vector<float> want = output.compute(stats.inputs());
    std::vector<float> rounded, best;
    double best_loss = INFINITY;
    for (int i = 0; i < kSteps; ++i) {
      const float t = (top - deviation) * static_cast<float>(i) / (kSteps - 1) + deviation;
      std::vector<float> s(k);
      for (size_t c = 0; c < k; ++c) {
        const float above = std::max(1.0f, highest[c] / t);
        s[c] = above <= 1 ? 1
                          : std::max(kMinScale,
                                     std::sqrt(above * t) / std::sqrt(std::max(kMinScale, w[c])));
      }
      round_input(stats.inputs(), shift, s, rounded, team);
      const double loss = mean_squared_difference(output.compute(rounded), want);
      if (loss < best_loss) {
        best_loss = loss;
        best = std::move(s);
      }
    }
    return best;
  }
};

}  // namespace

std::unique_ptr<OutlierMethod> make_m2() { return std::make_unique<M2>(); }

}  // namespace octet
