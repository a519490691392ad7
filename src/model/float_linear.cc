#include "src/model/float_linear.h"

#include "src/base/error.h"
#include "src/base/float16.h"
#include "src/model/gemm_share.h"

namespace octet {
namespace {

using kernels::FloatType;
using kernels::table;

// 32-bit weights that fit a 16-bit type without loss; kF32 when they do not.
FloatType lossless_type(const float* w, size_t count) {
  bool bf = true, half = true;
  for (size_t i = 0; i < count && (bf || half); ++i) {
    bf = bf && to_float(to_bf16(w[i])) == w[i];
    half = half && to_float(to_f16(w[i])) == w[i];
  }
  return bf ? FloatType::kBF16 : (half ? FloatType::kF16 : FloatType::kF32);
}

// 32-bit weights [n, k] in 16 bits where that loses nothing.
FloatWeights packed(const void* w, FloatType type, size_t n, size_t k,
                    const std::vector<float>& bias, ThreadTeam& team) {
  if (type != FloatType::kF32) return {w, type, n, k, bias, team};
  const float* f = static_cast<const float*>(w);
  const FloatType lossless = lossless_type(f, n * k);
  if (lossless == FloatType::kF32) return {w, type, n, k, bias, team};
  std::vector<uint16_t> narrow(n * k);
  for (size_t i = 0; i < n * k; ++i)
    narrow[i] = lossless == FloatType::kBF16 ? to_bf16(f[i]).bits : to_f16(f[i]).bits;
  return {narrow.data(), lossless, n, k, bias, team};
}

// What the worker has to do of a product; m is 0 where that is nothing.
kernels::FloatGemmArgs gemm_args(const Worker& w, const Rows& in, const Output& out,
                                 const FloatWeights& weights) {
  const GemmTile s = gemm_share(w, kernels::float_panels(table(), weights.n), in.m);
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

FloatWeights::FloatWeights(const void* w, FloatType weight_type, size_t outputs, size_t inputs,
                           const std::vector<float>& biases, ThreadTeam& team)
    : type(weight_type), n(outputs), k(inputs), bias(padded(biases, padded_outputs())) {
  OCTET_CHECK(biases.empty() || biases.size() == n);
  const auto& t = table();
  const size_t panels = kernels::float_panels(t, n);
  packed = Buffer<uint8_t>(panels * t.float_panel * k * kernels::float_type_size(type));
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(panels);
    t.float_pack(w, type, n, k, begin, end, packed.data());
  });
}

size_t FloatWeights::padded_outputs() const {
  return kernels::float_panels(table(), n) * table().float_panel;
}

FloatLinear::FloatLinear(const void* w, FloatType type, size_t n, size_t k,
                         const std::vector<float>& bias, ThreadTeam& team)
    : weights_(packed(w, type, n, k, bias, team)) {}

void FloatLinear::compute(Worker& w, const Rows& in, const Output& out, StageBuffer&, size_t) {
  const kernels::FloatGemmArgs args = gemm_args(w, in, out, weights_);
  if (args.m > 0) table().float_gemm(args);
}

W8A16Linear::W8A16Linear(const int8_t* w, size_t n, size_t k, const W8A16Params& params,
                         ThreadTeam& team)
    : weights_(w, FloatType::kI8, n, k, params.bias, team),
      scale_(padded(params.scale, weights_.padded_outputs())),
      offset_(padded(params.offset, weights_.padded_outputs())) {
  OCTET_CHECK(params.scale.size() == n && (params.offset.empty() || params.offset.size() == n));
}

void W8A16Linear::compute(Worker& w, const Rows& in, const Output& out, StageBuffer&, size_t) {
  kernels::FloatGemmArgs args = gemm_args(w, in, out, weights_);
  args.scale = scale_.data();
  args.offset = offset_.data();
  if (args.m > 0) table().float_gemm(args);
}

}  // namespace octet
