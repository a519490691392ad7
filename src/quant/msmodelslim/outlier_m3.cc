// m3 (AWQ): powers of the mean amplitude, the one with the least error of the rounded weights.
#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/kernels/kernels.h"
#include "src/quant/int8/weight_rounding.h"
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet {
namespace {

// Enough for scales that do not hang on one text; all of fifty cost 60 % more time for the whole
// run.
constexpr size_t kBatches = 8;

// Mean squared output error on x [m, k] when `weight` is rounded after its columns were scaled by
// s.
double scaled_rounding_error(const std::vector<float>& x, size_t m, const FloatWeight& weight,
                             const std::vector<float>& s, bool asymmetric, ThreadTeam& team) {
  const auto& t = kernels::table();
  const size_t n = weight.shape.n, k = weight.shape.k, panel = t.float_panel;
  // By panel, and added up in their order: the same bits for any number of threads.
  std::vector<double> sums((n + panel - 1) / panel);
  team.run([&](Worker& worker) {
    // A panel of rows at a time: the difference that rounding makes, then its product with x.
    std::vector<float> scaled(k), difference(panel * k), packed(panel * k), y(m * panel);
    const auto [begin, end] = worker.share(n, panel);
    for (size_t j0 = begin; j0 < end; j0 += panel) {
      const size_t rows = std::min(panel, end - j0);
      for (size_t j = 0; j < rows; ++j) {
        const float* w = weight.w.data() + (j0 + j) * k;
        for (size_t i = 0; i < k; ++i) scaled[i] = w[i] * s[i];
        const RowGrid grid = row_grid(scaled.data(), k, asymmetric);
        for (size_t i = 0; i < k; ++i)
          difference[j * k + i] =
              (round_to_grid(scaled[i], grid) - grid.offset) * grid.scale / s[i] - w[i];
      }
      t.float_pack(difference.data(), kernels::FloatType::kF32, rows, k, 0, 1, packed.data());
      t.float_gemm({x.data(), k, m, packed.data(), kernels::FloatType::kF32, k, rows, 0, 1, nullptr,
                    y.data(), rows, false});
      double sum = 0;
      for (size_t i = 0; i < m * rows; ++i) sum += double{y[i]} * y[i];
      sums[j0 / panel] = sum;
    }
  });
  double total = 0;
  for (double v : sums) total += v;
  return total / static_cast<double>(m * n);
}

class M3 final : public OutlierMethod {
 public:
  M3(bool asymmetric, bool one_batch) : asymmetric_(asymmetric), one_batch_(one_batch) {}
  OutlierNeeds stats() const override {
    if (one_batch_) return {.batches = 1, .keep = KeepInputs::kFirstBatch};
    return {.batches = kBatches, .keep = KeepInputs::kSpread};
  }
  std::vector<float> scale(const SmoothTarget& target, ThreadTeam& team) const override {
    const OutlierStats& stats = target.stats;
    const size_t k = stats.channels(), m = stats.inputs().size() / k;
    const std::vector<float> mean = stats.mean_amplitude();
    std::vector<float> best;
    double best_loss = INFINITY;
    for (int step = 0; step < 20; ++step) {
      std::vector<float> s(k);
      for (size_t i = 0; i < k; ++i)
        s[i] = std::max(1e-4f, std::pow(mean[i], static_cast<float>(step) / 20.0f));
      const auto [lo, hi] = std::minmax_element(s.begin(), s.end());
      const float middle = std::sqrt(*hi * *lo);
      for (float& v : s) v /= middle;
      double loss = 0;
      for (const FloatWeight* w : target.weights)
        loss += scaled_rounding_error(stats.inputs(), m, *w, s, asymmetric_, team);
      if (loss < best_loss) {
        best_loss = loss;
        best = std::move(s);
      }
    }
    OCTET_CHECK(!best.empty());
    return best;
  }

 private:
  bool asymmetric_, one_batch_;
};

}  // namespace

std::unique_ptr<OutlierMethod> make_m3(bool asymmetric, bool one_batch) {
  return std::make_unique<M3>(asymmetric, one_batch);
}

}  // namespace octet
