// The linears by storage scheme, with one and with several workers, in batches of prompt and
// generated rows: every row equals the formula of its kind, written out here.
#include "src/model/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "src/base/float16.h"
#include "src/model/float_linear.h"
#include "src/model/int8_linear.h"
#include "src/model/mix_linear.h"

namespace octet {
namespace {

struct Size {
  size_t n, k;
};

class LinearTest : public ::testing::TestWithParam<size_t> {
 protected:
  std::vector<float> random(size_t count, float lo, float hi) {
    std::uniform_real_distribution<float> d(lo, hi);
    std::vector<float> v(count);
    for (float& f : v) f = d(rng_);
    return v;
  }
  std::vector<int8_t> weights(const Size& s) {
    std::uniform_int_distribution<int> byte(-128, 127);
    std::vector<int8_t> w(s.n * s.k);
    for (int8_t& v : w) v = static_cast<int8_t>(byte(rng_));
    return w;
  }
  // y [m, n], with a column to spare on the left, on top of ones.
  std::vector<float> run(Linear& l, const std::vector<float>& x, size_t m,
                         std::vector<RowRun> runs = {}) {
    StageBuffer buffer(m, l.inputs(), 1);
    buffer.set_runs(std::move(runs));
    const size_t n = l.outputs(), ld = n + 1;
    std::vector<float> wide(m * ld, 1), y;
    team_.run([&](Worker& w) {
      const Rows in = {x.data(), l.inputs(), m};
      l.stage(w, in, buffer, 0);
      w.barrier();
      l.compute(w, in, {wide.data() + 1, ld, true}, buffer, 0);
    });
    for (size_t r = 0; r < m; ++r) {
      EXPECT_EQ(wide[r * ld], 1);
      y.insert(y.end(), wide.begin() + static_cast<ptrdiff_t>(r * ld + 1),
               wide.begin() + static_cast<ptrdiff_t>((r + 1) * ld));
    }
    return y;
  }
  W8A8Params static_params(size_t n) {
    W8A8Params p{0.03f, -5, std::vector<int32_t>(n), random(n, 0.001f, 0.01f)};
    for (size_t j = 0; j < n; ++j) p.quant_bias[j] = static_cast<int32_t>(j * 1000);
    return p;
  }

  std::mt19937 rng_{3};
  ThreadTeam team_{GetParam()};
  // Few and many panels a worker: both ways of sharing the work.
  const std::vector<Size> sizes_ = {{5, 33}, {150, 64}, {40, 7}};
};
INSTANTIATE_TEST_SUITE_P(Workers, LinearTest, ::testing::Values(1, 2, 3));

int64_t dot(const std::vector<float>& levels, const int8_t* w) {
  int64_t sum = 0;
  for (size_t i = 0; i < levels.size(); ++i) sum += static_cast<int64_t>(levels[i]) * w[i];
  return sum;
}

float of_sum(int64_t sum) { return static_cast<float>(static_cast<int32_t>(sum)); }

TEST_P(LinearTest, StaticAddsAFloatBiasAtTheEnd) {
  for (const Size& s : sizes_) {
    const std::vector<int8_t> w = weights(s);
    W8A8Params params = static_params(s.n);
    params.bias = random(s.n, -1, 1);
    W8A8Linear linear(w.data(), s.n, s.k, params, team_);
    const size_t m = 7;
    const std::vector<float> x = random(m * s.k, -5, 5), y = run(linear, x, m);
    for (size_t r = 0; r < m; ++r) {
      std::vector<float> levels;
      for (size_t i = 0; i < s.k; ++i)
        levels.push_back(
            std::clamp(std::nearbyint(x[r * s.k + i] / params.input_scale) + params.input_offset,
                       -128.0f, 127.0f));
      for (size_t j = 0; j < s.n; ++j) {
        volatile float want =
            of_sum(dot(levels, &w[j * s.k]) + params.quant_bias[j]) * params.deq_scale[j];
        want = want + params.bias[j];
        ASSERT_EQ(y[r * s.n + j], want + 1) << r << ", " << j;
      }
    }
  }
}

TEST_P(LinearTest, MixTakesEachRowForWhatItIs) {
  for (const Size& s : sizes_)
    for (const std::vector<size_t>& lengths :  // prompt rows, generated rows, prompt rows, ...
         {std::vector<size_t>{1},
          {0, 1},
          {0, 7},
          {60},
          {3, 4},
          {0, 2, 11},
          {1, 1, 1, 1, 1, 1},
          {20, 30, 1, 9}}) {
      std::vector<RowRun> runs;
      size_t m = 0;
      for (size_t i = 0; i < lengths.size(); m += lengths[i++])
        if (lengths[i] > 0) runs.push_back({m, m + lengths[i], i % 2 == 1});
      const std::vector<int8_t> w = weights(s);
      const W8A8Params fixed = static_params(s.n);
      const DynamicParams dynamic = {random(s.n, 0.001f, 0.01f), random(s.n, -1, 1)};
      MixLinear linear(std::make_shared<const Int8Weights>(w.data(), s.n, s.k, team_), fixed,
                       dynamic);
      const std::vector<float> x = random(m * s.k, -5, 5), y = run(linear, x, m, runs);
      for (const RowRun& part : runs)
        for (size_t r = part.begin; r < part.end; ++r) {
          const float* row = x.data() + r * s.k;
          float scale = 0;
          for (size_t i = 0; i < s.k; ++i) scale = std::fmax(scale, std::fabs(row[i]));
          scale /= 127;
          std::vector<float> levels;
          for (size_t i = 0; i < s.k; ++i)
            levels.push_back(
                part.generated
                    ? std::clamp(std::nearbyint(row[i] / fixed.input_scale) + fixed.input_offset,
                                 -128.0f, 127.0f)
                    : std::nearbyint(row[i] / scale));
          for (size_t j = 0; j < s.n; ++j) {
            const int64_t sum = dot(levels, &w[j * s.k]);
            volatile float want = part.generated
                                      ? of_sum(sum + fixed.quant_bias[j]) * fixed.deq_scale[j]
                                      : of_sum(sum) * dynamic.weight_scale[j];
            if (!part.generated) {
              want = want * scale;
              want = want + dynamic.bias[j];
            }
            ASSERT_EQ(y[r * s.n + j], 1 + want) << s.n << " " << m << " " << r << " " << j;
          }
        }
    }
}

TEST_P(LinearTest, DynamicAndStaticAreThePartsOfMix) {
  for (const Size& s : sizes_)
    for (size_t m : {1, 5, 60}) {
      const std::vector<int8_t> w = weights(s);
      const W8A8Params fixed = static_params(s.n);
      const DynamicParams dynamic = {random(s.n, 0.001f, 0.01f), {}};
      const auto shared = std::make_shared<const Int8Weights>(w.data(), s.n, s.k, team_);
      MixLinear mix(shared, fixed, dynamic);
      DynamicLinear prompts(shared, dynamic);
      W8A8Linear generated(w.data(), s.n, s.k, fixed, team_);
      const std::vector<float> x = random(m * s.k, -5, 5);
      EXPECT_EQ(run(mix, x, m, {{0, m, false}}), run(prompts, x, m));
      EXPECT_EQ(run(mix, x, m, {{0, m, true}}), run(generated, x, m));
    }
}

TEST_P(LinearTest, W8A16MatchesDouble) {
  for (const Size& s : sizes_)
    for (size_t m : {1, 5, 60})
      for (bool symmetric : {true, false}) {
        const std::vector<int8_t> w = weights(s);
        const std::vector<float> scale = random(s.n, 0.001f, 0.01f), bias = random(s.n, -1, 1);
        std::vector<float> offset;
        if (!symmetric)
          for (float v : random(s.n, -128, 127)) offset.push_back(std::nearbyint(v));
        W8A16Linear linear(contiguous_rows(w.data(), s.k), s.n, s.k, {scale, offset, bias}, team_);
        const std::vector<float> x = random(m * s.k, -5, 5), y = run(linear, x, m);
        for (size_t r = 0; r < m; ++r)
          for (size_t j = 0; j < s.n; ++j) {
            double want = bias[j], amount = std::fabs(want) + 1;
            for (size_t i = 0; i < s.k; ++i) {
              const double p = (w[j * s.k + i] - (symmetric ? 0.0 : double{offset[j]})) *
                               double{scale[j]} * x[r * s.k + i];
              want += p;
              amount += std::fabs(p);
            }
            // k fused products, the scale, the bias and the old value are rounded.
            const double bound = static_cast<double>(s.k + 3) * 0x1p-24 * amount;
            ASSERT_NEAR(y[r * s.n + j], 1 + want, 1.01 * bound)
                << symmetric << " " << r << " " << j;
          }
      }
}

// Whole and by groups, and the weights themselves. bfloat16: what amx pads is padded here.
TEST_P(LinearTest, FloatMatchesDouble) {
  for (const Size& s : {Size{5, 33}, Size{150, 95}, Size{40, 7}})
    for (size_t m : {1, 5, 60}) {
      std::vector<bf16> w;
      for (float v : random(s.n * s.k, -1, 1)) w.push_back(to_bf16(v));
      const std::vector<float> bias = random(s.n, -1, 1), x = random(m * s.k, -5, 5);
      FloatLinear linear(w.data(), kernels::FloatType::kBF16, s.n, s.k, bias, team_);
      const std::vector<float> y = run(linear, x, m);
      std::vector<float> row(s.k), group(FloatLinear::group_size());
      for (size_t j = 0; j < s.n; ++j) {
        linear.weight_row(j, row.data());
        for (size_t i = 0; i < s.k; ++i) ASSERT_EQ(row[i], to_float(w[j * s.k + i]));
        linear.compute_group(x.data(), j / group.size(), group.data());
        ASSERT_EQ(1 + group[j % group.size()], y[j]);
        for (size_t r = 0; r < m; ++r) {
          double want = bias[j], amount = std::fabs(want) + 1;
          for (size_t i = 0; i < s.k; ++i) {
            const double p = double{row[i]} * x[r * s.k + i];
            want += p;
            amount += std::fabs(p);
          }
          // k fused products, the bias and the old value are rounded.
          const double bound = static_cast<double>(s.k + 2) * 0x1p-24 * amount;
          ASSERT_NEAR(y[r * s.n + j], 1 + want, 1.01 * bound) << r << " " << j;
        }
      }
    }
}

}  // namespace
}  // namespace octet
