#include "src/model/int8_linear.h"

#include <algorithm>
#include <optional>

#include "src/base/error.h"

namespace octet {
namespace {

using kernels::table;

// A bias without what the shift of the activations adds to the sums. Modulo 2^32 on purpose: the
// accumulator wraps the same way, and the final sum fits.
int32_t without_shift(int32_t bias, int64_t shift_sum) {
  return static_cast<int32_t>(static_cast<uint32_t>(bias) - static_cast<uint32_t>(shift_sum));
}

// The sums over k of the weights of each channel of one packed panel: its product with a row of
// ones.
class ChannelSums {
 public:
  explicit ChannelSums(size_t k)
      : k_(k),
        ones_(kernels::padded_k(table(), k), 1),
        bias_(table().int8_panel),
        scale_(bias_.size()) {
    OCTET_CHECK(table().act_bytes == sizeof(ones_[0]));
  }
  void compute(const int8_t* panel, size_t channels, int32_t* sums) const {
    table().int8_gemm({.a = ones_.data(),
                       .lda = ones_.size(),
                       .m = 1,
                       .packed = panel,
                       .k = k_,
                       .n = channels,
                       .panel_begin = 0,
                       .panel_end = 1,
                       .bias = bias_.data(),
                       .scale = scale_.data(),
                       .y = nullptr,
                       .ldy = channels,
                       .accumulate = false,
                       .sums = sums});
  }

 private:
  size_t k_;
  std::vector<uint8_t> ones_;  // quantized activations of a set with a shift
  std::vector<int32_t> bias_;
  std::vector<float> scale_;
};

}  // namespace

Int8Weights::Int8Weights(const WeightSource& source, size_t outputs, size_t inputs,
                         ThreadTeam& team)
    : n(outputs), k(inputs), shift_sum(outputs) {
  const auto& t = table();
  const size_t panels = kernels::int8_panels(t, n);
  const size_t panel_bytes = t.int8_panel * kernels::padded_k(t, k);
  packed = Buffer<int8_t>(panels * panel_bytes);
  team.run([&](Worker& worker) {
    std::vector<int8_t> panel(t.int8_panel * k);
    std::vector<int32_t> sums(t.int8_panel);
    std::optional<ChannelSums> channel_sums;
    if (t.act_shift != 0) channel_sums.emplace(k);
    const auto [begin, end] = worker.share(panels);
    for (size_t p = begin; p < end; ++p) {
      const size_t first = p * t.int8_panel, rows = std::min(n - first, t.int8_panel);
      for (size_t r = 0; r < rows; ++r) source(first + r, panel.data() + r * k);
      int8_t* out = packed.data() + p * panel_bytes;
      t.int8_pack(panel.data(), rows, k, 0, 1, out);
      if (!channel_sums) continue;
      channel_sums->compute(out, rows, sums.data());
      for (size_t r = 0; r < rows; ++r) shift_sum[first + r] = int64_t{t.act_shift} * sums[r];
    }
  });
}

Int8Weights::Int8Weights(const int8_t* w, size_t outputs, size_t inputs, ThreadTeam& team)
    : Int8Weights(contiguous_rows(w, inputs), outputs, inputs, team) {}

size_t Int8Weights::padded_outputs() const {
  return kernels::int8_panels(table(), n) * table().int8_panel;
}

void Int8Linear::stage(Worker& w, const Rows& in, StageBuffer& buffer, size_t slot) {
  const auto [begin, end] = w.share(in.m);
  stage_rows(in, begin, end, buffer, slot);
}

void Int8Linear::stage_within(Worker& w, const Rows& in, const float* maximum, StageBuffer& buffer,
                              size_t slot) {
  const auto [begin, end] = w.share(in.m);
  stage_rows_within(in, begin, end, maximum, buffer, slot);
}

void Int8Linear::compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
                         size_t slot) {
  compute_product(w, in.m, {out}, buffer, slot);
}

void Int8Linear::compute_sums(Worker& w, size_t m, int32_t* sums, StageBuffer& buffer,
                              size_t slot) {
  compute_product(w, m, {{nullptr, 0}, sums}, buffer, slot);
}

void Int8Linear::compute_product(Worker& w, size_t m, const Product& product, StageBuffer& buffer,
                                 size_t slot) {
  for (const GemmTile& tile : gemm_share(w, kernels::int8_panels(table(), weights_->n), m))
    multiply(tile, product, buffer, slot);
}

void Int8Linear::finish(Worker& w, size_t m, const int32_t* sums, const Output& out,
                        StageBuffer& buffer, size_t slot) {
  const auto [begin, end] = w.share(m);
  finish_rows(sums, out, begin, end, buffer, slot);
}

// Rounded after each operation, as the kernels do it.
void Int8Linear::scale_sums(const int32_t* sums, const Output& out, size_t begin, size_t end,
                            const Dequantization& by) const {
  for (size_t r = begin; r < end; ++r)
    for (size_t j = 0; j < weights_->n; ++j) {
      float v = static_cast<float>(sums[r * weights_->n + j]) * by.scale[j];
      if (by.row_scale != nullptr) v *= by.row_scale[r];
      if (by.bias != nullptr) v += by.bias[j];
      float& y = out.y[r * out.ld + j];
      y = out.accumulate ? y + v : v;
    }
}

kernels::Int8GemmArgs Int8Linear::args(const GemmTile& s, const int32_t* bias, const float* scale,
                                       const Product& p, StageBuffer& buffer, size_t slot) const {
  kernels::Int8GemmArgs a = {.a = buffer.row(slot, s.row_begin, weights_->k),
                             .lda = StageBuffer::stride(weights_->k),
                             .m = s.row_end - s.row_begin,
                             .packed = weights_->packed.data(),
                             .k = weights_->k,
                             .n = weights_->n,
                             .panel_begin = s.panel_begin,
                             .panel_end = s.panel_end,
                             .bias = bias,
                             .scale = scale,
                             .y = nullptr,
                             .ldy = weights_->n,
                             .accumulate = p.out.accumulate};
  if (p.sums != nullptr) {
    a.sums = p.sums + s.row_begin * a.ldy;
  } else {
    a.ldy = p.out.ld;
    a.y = p.out.y + s.row_begin * a.ldy;
  }
  return a;
}

W8A8Linear::W8A8Linear(std::shared_ptr<const Int8Weights> weights, const W8A8Params& params)
    : Int8Linear(std::move(weights)),
      bias_(weights_->padded_outputs()),
      scale_(weights_->padded_outputs()) {
  set_params(params);
}

W8A8Linear::W8A8Linear(const int8_t* w, size_t n, size_t k, const W8A8Params& params,
                       ThreadTeam& team)
    : W8A8Linear(std::make_shared<const Int8Weights>(w, n, k, team), params) {}

void W8A8Linear::set_params(const W8A8Params& params) {
  const size_t n = weights_->n;
  OCTET_CHECK(params.quant_bias.size() == n && params.deq_scale.size() == n);
  OCTET_CHECK(params.bias.empty() || params.bias.size() == n);
  input_scale_ = params.input_scale;
  input_offset_ = params.input_offset;
  float_ = padded(params.bias, weights_->padded_outputs());
  for (size_t j = 0; j < n; ++j) {
    bias_[j] = without_shift(params.quant_bias[j], weights_->shift_sum[j]);
    scale_[j] = params.deq_scale[j];
  }
}

void W8A8Linear::stage_rows(const Rows& in, size_t begin, size_t end, StageBuffer& buffer,
                            size_t slot) {
  for (size_t r = begin; r < end; ++r)
    table().quantize(in.x + r * in.ld, weights_->k, input_scale_, input_offset_,
                     buffer.row(slot, r, weights_->k));
}

void W8A8Linear::multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                          size_t slot) {
  kernels::Int8GemmArgs a = args(tile, bias_.data(), scale_.data(), product, buffer, slot);
  a.float_bias = float_.data();
  table().int8_gemm(a);
}

void W8A8Linear::finish_rows(const int32_t* sums, const Output& out, size_t begin, size_t end,
                             StageBuffer&, size_t) {
  scale_sums(sums, out, begin, end, {scale_.data(), nullptr, float_.data()});
}

DynamicLinear::DynamicLinear(std::shared_ptr<const Int8Weights> weights,
                             const DynamicParams& params)
    : Int8Linear(std::move(weights)),
      bias_(weights_->padded_outputs()),
      scale_(padded(params.weight_scale, weights_->padded_outputs())),
      float_(padded(params.bias, weights_->padded_outputs())) {
  OCTET_CHECK(params.weight_scale.size() == weights_->n);
  OCTET_CHECK(params.bias.empty() || params.bias.size() == weights_->n);
  for (size_t j = 0; j < weights_->n; ++j) bias_[j] = without_shift(0, weights_->shift_sum[j]);
}

void DynamicLinear::stage_rows(const Rows& in, size_t begin, size_t end, StageBuffer& buffer,
                               size_t slot) {
  for (size_t r = begin; r < end; ++r)
    buffer.row_scales(slot)[r] =
        table().quantize_token(in.x + r * in.ld, weights_->k, buffer.row(slot, r, weights_->k));
}

void DynamicLinear::stage_rows_within(const Rows& in, size_t begin, size_t end,
                                      const float* maximum, StageBuffer& buffer, size_t slot) {
  for (size_t r = begin; r < end; ++r) {
    const float scale = maximum[r] / 127.0f > 0 ? maximum[r] / 127.0f : 1.0f;
    buffer.row_scales(slot)[r] = scale;
    table().quantize(in.x + r * in.ld, weights_->k, scale, 0, buffer.row(slot, r, weights_->k));
  }
}

void DynamicLinear::multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                             size_t slot) {
  kernels::Int8GemmArgs a = args(tile, bias_.data(), scale_.data(), product, buffer, slot);
  a.row_scale = buffer.row_scales(slot) + tile.row_begin;
  a.float_bias = float_.data();
  table().int8_gemm(a);
}

void DynamicLinear::finish_rows(const int32_t* sums, const Output& out, size_t begin, size_t end,
                                StageBuffer& buffer, size_t slot) {
  scale_sums(sums, out, begin, end, {scale_.data(), buffer.row_scales(slot), float_.data()});
}

}  // namespace octet
