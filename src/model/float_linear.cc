#include "src/model/float_linear.h"

#include <algorithm>
#include <atomic>

#include "src/base/error.h"
#include "src/base/float16.h"
#include "src/model/gemm_share.h"

namespace octet {
namespace {

using kernels::FloatType;
using kernels::table;

// A 16-bit type that holds 32-bit weights without loss; kF32 when neither does.
FloatType lossless_type(const WeightSource& source, size_t n, size_t k, ThreadTeam& team) {
  std::atomic<bool> bf{true}, half{true};
  team.run([&](Worker& worker) {
    std::vector<float> w(k);
    const auto [begin, end] = worker.share(n);
    for (size_t row = begin; row < end; ++row) {
      const bool was_bf = bf.load(std::memory_order_relaxed);
      const bool was_half = half.load(std::memory_order_relaxed);
      bool row_bf = was_bf, row_half = was_half;
      if (!row_bf && !row_half) return;
      source(row, w.data());
      for (float v : w) {
        row_bf = row_bf && to_float(to_bf16(v)) == v;
        row_half = row_half && to_float(to_f16(v)) == v;
      }
      if (was_bf && !row_bf) bf.store(false, std::memory_order_relaxed);
      if (was_half && !row_half) half.store(false, std::memory_order_relaxed);
    }
  });
  return bf ? FloatType::kBF16 : (half ? FloatType::kF16 : FloatType::kF32);
}

// 32-bit weights [n, k] in 16 bits where that loses nothing.
FloatWeights packed(const WeightSource& source, FloatType type, size_t n, size_t k,
                    const std::vector<float>& bias, ThreadTeam& team) {
  const FloatType lossless = type == FloatType::kF32 ? lossless_type(source, n, k, team) : type;
  if (lossless == type) return {source, type, n, k, bias, team};
  const auto narrow = [&](size_t row, void* out) {
    std::vector<float> w(k);
    source(row, w.data());
    uint16_t* to = static_cast<uint16_t*>(out);
    for (float v : w) *to++ = lossless == FloatType::kBF16 ? to_bf16(v).bits : to_f16(v).bits;
  };
  return {narrow, lossless, n, k, bias, team};
}

kernels::FloatGemmArgs gemm_args(const GemmTile& s, const Rows& in, const Output& out,
                                 const FloatWeights& weights) {
  return {.a = in.x + s.row_begin * in.ld,
          .lda = in.ld,
          .m = s.row_end - s.row_begin,
          .packed = weights.packed.data(),
          .type = weights.type,
          .k = weights.k,
          .n = weights.n,
          .panel_begin = s.panel_begin,
          .panel_end = s.panel_end,
          .bias = weights.bias.data(),
          .y = out.y + s.row_begin * out.ld,
          .ldy = out.ld,
          .accumulate = out.accumulate};
}

}  // namespace

FloatWeights::FloatWeights(const WeightSource& source, FloatType weight_type, size_t outputs,
                           size_t inputs, const std::vector<float>& biases, ThreadTeam& team)
    : type(weight_type), n(outputs), k(inputs), bias(padded(biases, padded_outputs())) {
  OCTET_CHECK(biases.empty() || biases.size() == n);
  const auto& t = table();
  const size_t panels = kernels::float_panels(t, n);
  const size_t row_bytes = k * kernels::float_type_size(type),
               panel_bytes = kernels::float_panel_bytes(t, type, k);
  packed = Buffer<uint8_t>(panels * panel_bytes);
  team.run([&](Worker& worker) {
    std::vector<uint8_t> panel(t.float_panel * row_bytes);
    const auto [begin, end] = worker.share(panels);
    for (size_t p = begin; p < end; ++p) {
      const size_t first = p * t.float_panel, rows = std::min(n - first, t.float_panel);
      for (size_t r = 0; r < rows; ++r) source(first + r, panel.data() + r * row_bytes);
      t.float_pack(panel.data(), type, rows, k, 0, 1, packed.data() + p * panel_bytes);
    }
  });
}

size_t FloatWeights::padded_outputs() const {
  return kernels::float_panels(table(), n) * table().float_panel;
}

FloatLinear::FloatLinear(const WeightSource& source, FloatType type, size_t n, size_t k,
                         const std::vector<float>& bias, ThreadTeam& team)
    : weights_(packed(source, type, n, k, bias, team)) {}

FloatLinear::FloatLinear(const void* w, FloatType type, size_t n, size_t k,
                         const std::vector<float>& bias, ThreadTeam& team)
    : FloatLinear(contiguous_rows(w, k * kernels::float_type_size(type)), type, n, k, bias, team) {}

void FloatLinear::compute(Worker& w, const Rows& in, const Output& out, StageBuffer&, size_t) {
  for (const GemmTile& tile : gemm_share(w, kernels::float_panels(table(), weights_.n), in.m))
    table().float_gemm(gemm_args(tile, in, out, weights_));
}

void FloatLinear::compute_group(const float* x, size_t g, float* y) const {
  const size_t first = g * group_size(), count = std::min(weights_.n - first, group_size());
  const size_t group_bytes = kernels::float_panel_bytes(table(), weights_.type, weights_.k);
  std::fill_n(y + count, group_size() - count, 0.0f);
  table().float_gemm(
      {.a = x,
       .lda = weights_.k,
       .m = 1,
       .packed = weights_.packed.data() + g * group_bytes,
       .type = weights_.type,
       .k = weights_.k,
       .n = count,
       .panel_begin = 0,
       .panel_end = 1,
       .bias = weights_.bias.data() == nullptr ? nullptr : weights_.bias.data() + first,
       .y = y,
       .ldy = count,
       .accumulate = false});
}

void FloatLinear::weight_row(size_t output, float* w) const {
  table().float_row(weights_.packed.data(), weights_.type, weights_.k, output, w);
}

W8A16Linear::W8A16Linear(const WeightSource& source, size_t n, size_t k, const W8A16Params& params,
                         ThreadTeam& team)
    : weights_(source, FloatType::kI8, n, k, params.bias, team),
      scale_(padded(params.scale, weights_.padded_outputs())),
      offset_(padded(params.offset, weights_.padded_outputs())) {
  OCTET_CHECK(params.scale.size() == n && (params.offset.empty() || params.offset.size() == n));
}

void W8A16Linear::compute(Worker& w, const Rows& in, const Output& out, StageBuffer&, size_t) {
  for (const GemmTile& tile : gemm_share(w, kernels::float_panels(table(), weights_.n), in.m)) {
    kernels::FloatGemmArgs args = gemm_args(tile, in, out, weights_);
    args.scale = scale_.data();
    args.offset = offset_.data();
    table().float_gemm(args);
  }
}

}  // namespace octet
