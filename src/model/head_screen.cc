#include "src/model/head_screen.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <span>
#include <utility>

#include "src/base/error.h"
#include "src/kernels/kernels.h"
#include "src/model/gemm_share.h"
#include "src/model/logits.h"

namespace octet {
namespace {

using kernels::table;

constexpr float kNormSlack = 1.001f;  // norms are sums of at most kMostInputs rounded squares
constexpr size_t kMostInputs = 1 << 14;
constexpr float kTiny = 1e-15f;  // what products lose where numbers have no digits left
constexpr float kHuge = 1e29f;   // logits beyond are not bounded

// The largest power of two that divides k.
size_t power_of_two_in(size_t k) { return k & (~k + 1); }

void rotate(float* x, size_t k, size_t block) {
  for (size_t i = 0; i < k; i += block) table().hadamard(x + i, block);
}

// c of head_screen.h: k roundings of the exact sum, log2(block) + 3 of each rotation, a dozen of
// the estimate, the bound and their sum.
float rounding(size_t k, size_t block) {
  const auto rotations = 2 * (static_cast<size_t>(std::countr_zero(block)) + 3);
  return 1.01f * static_cast<float>(k + rotations + 16) * 0x1p-24f;
}

}  // namespace

HeadScreen::HeadScreen(const WeightSource& source, size_t n, size_t k, ThreadTeam& team)
    : block_(power_of_two_in(k)), bounds_(n), codes_(make_codes(source, n, k, team)) {
  const std::span<const float> norms = bounds_.by_error.span();
  largest_ = all_finite(norms) ? *std::ranges::max_element(norms) : INFINITY;
}

DynamicLinear HeadScreen::make_codes(const WeightSource& source, size_t n, size_t k,
                                     ThreadTeam& team) {
  std::vector<float> scales(n);
  const float c = rounding(k, block_);
  const auto quantize = [&](size_t row, void* q) {
    std::vector<float> w(k);
    source(row, w.data());
    rotate(w.data(), k, block_);
    const kernels::RowCodes codes = table().int8_codes(w.data(), k, static_cast<int8_t*>(q));
    scales[row] = codes.scale;
    bounds_.by_norm[row] = kNormSlack * codes.error + c * codes.norm + kTiny;
    bounds_.by_error[row] = kNormSlack * (codes.norm + codes.error);
  };
  auto weights = std::make_shared<const Int8Weights>(quantize, n, k, team);
  return {std::move(weights), {std::move(scales), {}}};
}

bool HeadScreen::usable() const { return codes_.inputs() <= kMostInputs && largest_ < kHuge; }

void HeadScreen::make_room(size_t rows) {
  rotated_.ensure(rows * codes_.inputs());
  rows_.resize(rows);
}

void HeadScreen::stage(size_t row, const float* x, StageBuffer& buffer) {
  const size_t k = codes_.inputs();
  float* rotated = rotated_.data() + row * k;
  std::copy_n(x, k, rotated);
  rotate(rotated, k, block_);
  std::vector<int8_t> codes(k);  // those that stage_rows() makes, in a form of its own
  const kernels::RowCodes r = table().int8_codes(rotated, k, codes.data());
  rows_[row] = {kNormSlack * r.norm + kTiny, kNormSlack * r.error};
  codes_.stage_rows({rotated_.data(), k, rows_.size()}, row, row + 1, buffer, 0);
}

bool HeadScreen::bounded(size_t row) const { return rows_[row].norm * largest_ < kHuge; }

void HeadScreen::bound(Worker& w, size_t begin, size_t end, const Output& out,
                       StageBuffer& buffer) {
  const size_t n = codes_.outputs(), panel = table().int8_panel;
  for (GemmTile tile : gemm_share(w, kernels::int8_panels(table(), n), end - begin)) {
    tile.row_begin += begin;
    tile.row_end += begin;
    codes_.multiply(tile, {out}, buffer, 0);
    const size_t first = std::min(n, tile.panel_begin * panel);
    const size_t last = std::min(n, tile.panel_end * panel);
    for (size_t r = tile.row_begin; r < tile.row_end; ++r)
      table().add_bounds(out.y + r * out.ld + first, bounds_.by_norm.data() + first,
                         bounds_.by_error.data() + first, rows_[r].norm, rows_[r].error,
                         last - first);
  }
}

}  // namespace octet
