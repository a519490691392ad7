#include "src/quant/layerwise/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "src/base/error.h"
#include "src/dist/shard.h"
#include "src/kernels/kernels.h"

namespace octet {
namespace {

using kernels::FloatType;

// y [m, ldy] += a [m, lda] b^T with b [n, ldb] given row by row, all of k columns; `sign` -1
// subtracts. For the blocks of a factorization: small k, so packing b costs little.
class SmallGemm {
 public:
  void pack(const float* b, size_t ldb, size_t n, size_t k, float sign) {
    const auto& t = kernels::table();
    n_ = n;
    k_ = k;
    const size_t panels = kernels::float_panels(t, n);
    dense_.resize(n * k);
    for (size_t j = 0; j < n; ++j)
      for (size_t i = 0; i < k; ++i) dense_[j * k + i] = sign * b[j * ldb + i];
    packed_.resize(panels * t.float_panel * k);
    t.float_pack(dense_.data(), FloatType::kF32, n, k, 0, panels, packed_.data());
  }
  void add(const float* a, size_t lda, size_t m, float* y, size_t ldy) const {
    const auto& t = kernels::table();
    t.float_gemm({a, lda, m, packed_.data(), FloatType::kF32, k_, n_, 0,
                  kernels::float_panels(t, n_), nullptr, y, ldy, true});
  }

 private:
  size_t n_ = 0, k_ = 0;
  std::vector<float> dense_, packed_;
};

constexpr size_t kBlock = 128;  // of factorization and rounding

constexpr size_t kRowsAtOnce = 8;

// The columns of some rows of A, at most kRowsAtOnce: from the last column on
// a[i][j] = (a[i][j] - sum_{l > j} a[i][l] a[j][l]) / a[j][j]. Also into panel [all
// rows, columns.size()]. In double, all rows in step.
void solve_rows(float* a, size_t k, const Extent& rows, const Extent& columns, float* panel) {
  const size_t begin = rows.begin, end = rows.end;
  const size_t first = columns.begin, width = columns.size();
  double solved[kBlock][kRowsAtOnce] = {};
  for (size_t j = width; j-- > 0;) {
    const float* factor = a + (first + j) * k + first;
    double v[kRowsAtOnce] = {};
    for (size_t i = begin; i < end; ++i) v[i - begin] = double{a[i * k + first + j]};
    for (size_t l = j + 1; l < width; ++l) {
      const double f = double{factor[l]};
      for (size_t r = 0; r < kRowsAtOnce; ++r) v[r] -= solved[l][r] * f;
    }
    for (size_t i = begin; i < end; ++i) {
      const float value = static_cast<float>(v[i - begin] / double{factor[j]});
      solved[j][i - begin] = double{value};
      a[i * k + first + j] = panel[i * width + j] = value;
    }
  }
}

// Blocks of columns are dealt out to the ranks in turn.
bool owns(const Communicator& ranks, size_t block) { return block % ranks.size() == ranks.rank(); }

// Block b of the columns of a [k, k], down to its last row, from the rank that owns it to all.
void spread_block(float* a, size_t k, size_t b, std::vector<float>& buffer, Communicator& ranks) {
  if (ranks.size() == 1) return;
  const size_t first = b * kBlock, last = std::min(k, first + kBlock), width = last - first;
  for (size_t i = 0; i < last && owns(ranks, b); ++i)
    std::copy_n(a + i * k + first, width, buffer.data() + i * width);
  std::vector<size_t> cuts(ranks.size() + 1, 0);
  for (size_t r = b % ranks.size() + 1; r <= ranks.size(); ++r)
    cuts[r] = last * width * sizeof(float);
  ranks.all_gather(std::as_writable_bytes(std::span(buffer.data(), last * width)), cuts);
  for (size_t i = 0; i < last && !owns(ranks, b); ++i)
    std::copy_n(buffer.data() + i * width, width, a + i * k + first);
}

// a [k, k] symmetric, of which this rank has its blocks of columns -> upper A with a = A A^T, in
// place (the lower triangle means nothing), all of it on all ranks. From the last row up:
// A[j][j]^2 = a[j][j] - sum_{l > j} A[j][l]^2. False where a is not positive definite in float32;
// then it is spoilt.
bool cholesky_upper(std::vector<float>& a, size_t k, ThreadTeam& team, Communicator& ranks) {
  const size_t blocks = (k + kBlock - 1) / kBlock;
  std::vector<float> panel(k * kBlock);
  for (size_t b = blocks; b-- > 0;) {
    const size_t first = b * kBlock, last = std::min(k, first + kBlock);
    spread_block(a.data(), k, b, panel, ranks);
    // The diagonal block, in double.
    for (size_t j = last; j-- > first;) {
      double d = a[j * k + j];
      for (size_t l = j + 1; l < last; ++l) d -= double{a[j * k + l]} * a[j * k + l];
      if (!(d > 0)) return false;
      const double root = std::sqrt(d);
      a[j * k + j] = static_cast<float>(root);
      for (size_t i = first; i < j; ++i) {
        double v = a[i * k + j];
        for (size_t l = j + 1; l < last; ++l) v -= double{a[i * k + l]} * a[j * k + l];
        a[i * k + j] = static_cast<float>(v / root);
      }
    }
    if (first == 0) break;
    // The rows above it: the same recurrence, rows are independent. Then the trailing update
    // a[0:first, 0:first] -= P P^T with P [first, width].
    const size_t width = last - first;
    const auto [own_begin, own_end] = ranks.share(first);
    team.run([&](Worker& worker) {
      {
        const auto [begin, end] = worker.share(own_end - own_begin);
        for (size_t i = own_begin + begin; i < own_begin + end; i += kRowsAtOnce)
          solve_rows(a.data(), k, {i, std::min(own_begin + end, i + kRowsAtOnce)}, {first, last},
                     panel.data());
      }
    });
    if (ranks.size() > 1) {
      ranks.collect(panel.data(), first, width);
      for (size_t i = 0; i < first; ++i)
        std::copy_n(panel.data() + i * width, width, a.data() + i * k + first);
    }
    team.run([&](Worker& worker) {
      SmallGemm gemm;
      // Column blocks, dealt out in turn; rows up to the block's end (upper triangle only), so many
      // at a time that they stay in the cache while all columns pass.
      constexpr size_t kRows = 240;
      size_t turn = 0;
      for (size_t c = 0; c * kBlock < first; ++c) {
        if (!owns(ranks, c) || turn++ % worker.count() != worker.id()) continue;
        const size_t column = c * kBlock, end = std::min(first, column + kBlock);
        gemm.pack(panel.data() + column * width, width, end - column, width, -1);
        for (size_t i = 0; i < end; i += kRows) {
          const size_t rows = std::min(kRows, end - i);
          for (size_t r = i; r < i + rows; ++r)  // the product walks columns of distant rows
            for (size_t j = column; j < column + kBlock; j += 16)
              __builtin_prefetch(a.data() + r * k + j, 1);
          gemm.add(panel.data() + i * width, width, rows, a.data() + i * k + column, k);
        }
      }
    });
  }
  return true;
}

// x [rows, width], rows ld apart -> y [width, rows].
void transpose(const float* x, size_t ld, size_t rows, size_t width, float* y) {
  constexpr size_t kTile = 16;  // a cache line of y
  for (size_t r0 = 0; r0 < rows; r0 += kTile) {
    const size_t end = std::min(rows, r0 + kTile);
    for (size_t c = 0; c < width; ++c)
      for (size_t r = r0; r < end; ++r) y[c * rows + r] = x[r * ld + c];
  }
}

// The diagonal of H [k].
std::vector<double> diagonal(const WeightedRows& in, ThreadTeam& team) {
  std::vector<double> d(in.k, 0.0);
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(in.k, 16);
    for (size_t t = 0; t < in.m; ++t)
      for (size_t i = begin; i < end; ++i) {
        const double v = double{in.x[t * in.k + i]};
        d[i] += double{in.weight[t]} * v * v;
      }
  });
  return d;
}

// h [k, k] += H with rows and columns in `order`, the upper triangle (blockwise), in this rank's
// blocks of columns.
void add_hessian(const WeightedRows& in, const std::vector<size_t>& order, float* h,
                 ThreadTeam& team, const Communicator& ranks) {
  constexpr size_t kTokens = 512, kRows = 16;  // at a time: multiplied, transposed
  const size_t k = in.k;
  const auto& t = kernels::table();
  const size_t blocks = (k + kBlock - 1) / kBlock;
  const size_t packed_columns = kernels::float_panels(t, kBlock) * t.float_panel;  // of a block
  std::vector<float> columns(k * kTokens), scaled(k * kTokens),
      packed(blocks * packed_columns * kTokens);
  for (size_t first = 0; first < in.m; first += kTokens) {
    const size_t count = std::min(kTokens, in.m - first);
    team.run([&](Worker& worker) {
      {
        const auto [begin, end] = worker.share(k, 16);
        for (size_t r0 = 0; r0 < count; r0 += kRows)
          for (size_t i = begin; i < end; ++i)
            for (size_t r = r0; r < std::min(count, r0 + kRows); ++r) {
              const float v = in.x[(first + r) * k + order[i]];
              columns[i * count + r] = v;
              scaled[i * count + r] = in.weight[first + r] * v;
            }
      }
      worker.barrier();
      {
        const auto [begin, end] = worker.share(blocks);
        for (size_t b = begin; b < end; ++b) {
          const size_t width = std::min(kBlock, k - b * kBlock);
          t.float_pack(scaled.data() + b * kBlock * count, FloatType::kF32, width, count, 0,
                       kernels::float_panels(t, width), packed.data() + b * packed_columns * count);
        }
      }
      worker.barrier();
      // Panel by panel, rows up to the panel's last column: the upper triangle.
      size_t turn = 0;
      for (size_t b = 0; b < blocks; ++b) {
        if (!owns(ranks, b)) continue;
        const size_t column = b * kBlock, width = std::min(kBlock, k - column);
        for (size_t p = 0; p < kernels::float_panels(t, width); ++p) {
          if (turn++ % worker.count() != worker.id()) continue;
          const size_t rows = std::min(k, column + (p + 1) * t.float_panel);
          t.float_gemm({columns.data(), count, rows, packed.data() + b * packed_columns * count,
                        FloatType::kF32, count, width, p, p + 1, nullptr, h + column, k, true});
        }
      }
    });
  }
}

}  // namespace

RoundingPlan plan_rounding(const WeightedRows& in, double damping, ThreadTeam& team,
                           Communicator& ranks) {
  const size_t k = in.k;
  const std::vector<double> d = diagonal(in, team);
  RoundingPlan plan;
  plan.order.resize(k);
  std::iota(plan.order.begin(), plan.order.end(), size_t{0});
  std::stable_sort(plan.order.begin(), plan.order.end(),
                   [&](size_t a, size_t b) { return d[a] > d[b]; });
  const double mean = std::accumulate(d.begin(), d.end(), 0.0) / static_cast<double>(k);
  // On few tokens, float32 may want more damping.
  float ridge = static_cast<float>(mean > 0 ? mean * damping : 1.0);
  do {
    OCTET_CHECK(std::isfinite(ridge));
    plan.factor.assign(k * k, 0.0f);
    add_hessian(in, plan.order, plan.factor.data(), team, ranks);
    for (size_t i = 0; i < k; ++i) plan.factor[i * k + i] += ridge;
    ridge *= 10;
  } while (!cholesky_upper(plan.factor, k, team, ranks));
  team.run([&](Worker& worker) {
    std::vector<float> inverse(k);
    for (size_t j = 0; j < k; ++j) inverse[j] = 1.0f / plan.factor[j * k + j];
    for (size_t i = worker.id(); i < k; i += worker.count())
      for (size_t j = i + 1; j < k; ++j) plan.factor[i * k + j] *= inverse[j];
  });
  return plan;
}

RoundedWeight round_weight_gptq(const std::vector<float>& w, size_t n, size_t k,
                                const RoundingPlan& plan, ThreadTeam& team, Communicator& ranks) {
  RoundedWeight r{std::vector<int8_t>(n * k), std::vector<float>(n), std::vector<float>(n, 0.0f),
                  std::vector<int64_t>(n)};
  constexpr size_t kRows = 256, kGrain = 16;  // at a time, and no fewer
  const auto [own_begin, own_end] = ranks.share(n, kGrain);
  team.run([&](Worker& worker) {
    auto [begin, end] = worker.share(own_end - own_begin, kGrain);
    begin += own_begin;
    end += own_begin;
    std::vector<float> ordered(kRows * k), target, error(kRows * k), block(kBlock * k);
    std::vector<RowGrid> grids;
    SmallGemm gemm;
    for (size_t j0 = begin; j0 < end; j0 += kRows) {
      const size_t rows = std::min(kRows, end - j0);
      grids.clear();
      for (size_t j = 0; j < rows; ++j) {
        grids.push_back(row_grid(w.data() + (j0 + j) * k, k, false));
        for (size_t i = 0; i < k; ++i) ordered[j * k + i] = w[(j0 + j) * k + plan.order[i]];
      }
      target = ordered;
      for (size_t first = 0; first < k; first += kBlock) {
        const size_t last = std::min(k, first + kBlock), width = last - first;
        if (first > 0) {  // target[:, J] = w[:, J] + error[:, <J] B[<J, J]
          transpose(plan.factor.data() + first, k, first, width, block.data());
          gemm.pack(block.data(), first, width, first, 1);
          gemm.add(error.data(), k, rows, target.data() + first, k);
        }
        for (size_t j = 0; j < rows; ++j) {
          float* t = target.data() + j * k;
          const RowGrid& grid = grids[j];
          const float s = r.scale[j0 + j] = grid.scale;
          for (size_t i = first; i < last; ++i) {
            const float q = round_to_grid(t[i], grid);
            r.q[(j0 + j) * k + plan.order[i]] = static_cast<int8_t>(q);
            const float e = ordered[j * k + i] - q * s;
            error[j * k + i] = e;
            const float* b = plan.factor.data() + i * k;
            for (size_t l = i + 1; l < last; ++l) t[l] += e * b[l];
          }
        }
      }
      for (size_t j = j0; j < j0 + rows; ++j)
        for (size_t i = 0; i < k; ++i) r.sum[j] += r.q[j * k + i];
    }
  });
  ranks.collect(r.q.data(), n, k, kGrain);
  ranks.collect(r.scale.data(), n, 1, kGrain);
  ranks.collect(r.sum.data(), n, 1, kGrain);
  return r;
}

}  // namespace octet
