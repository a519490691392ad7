#include "src/model/linear.h"

#include <algorithm>

#include "src/base/error.h"

namespace octet {
namespace {

using kernels::FloatType;
using kernels::table;

// Rows of quantized activations are this many elements apart: the 64 keeps rows off one cache set
// when k is a multiple of 4096.
size_t stage_stride(size_t k) { return kernels::padded_k(table(), k) + 64; }

// A worker's part of a GEMM: panels for every row, or, when there are fewer than two panels a
// worker and many rows, rows for every panel.
GemmTile gemm_share(const Worker& w, size_t panels, size_t m) {
  if (panels < 2 * w.count() && m >= 16 * w.count()) {
    const auto [begin, end] = w.share(m, 8);
    return {0, panels, begin, end};
  }
  const auto [begin, end] = w.share(panels);
  return {begin, end, 0, m};
}

// `values` with zeros up to `size`; empty stays empty.
template <typename T>
Buffer<T> padded(const std::vector<T>& values, size_t size) {
  Buffer<T> out(values.empty() ? 0 : size);
  std::copy(values.begin(), values.end(), out.data());
  return out;
}

// w [n, k] in the panels of the float GEMM.
Buffer<uint8_t> pack_panels(const void* w, FloatType type, size_t n, size_t k, ThreadTeam& team) {
  const auto& t = table();
  const size_t panels = kernels::float_panels(t, n);
  Buffer<uint8_t> packed(panels * t.float_panel * k * kernels::float_type_size(type));
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(panels);
    t.float_pack(w, type, n, k, begin, end, packed.data());
  });
  return packed;
}

// 32-bit weights that fit a 16-bit type without loss; kF32 when they do not.
FloatType lossless_type(const float* w, size_t count) {
  bool bf = true, half = true;
  for (size_t i = 0; i < count && (bf || half); ++i) {
    bf = bf && to_float(to_bf16(w[i])) == w[i];
    half = half && to_float(to_f16(w[i])) == w[i];
  }
  return bf ? FloatType::kBF16 : (half ? FloatType::kF16 : FloatType::kF32);
}

// A bias without what the shift of the activations adds to the sums. Modulo 2^32 on purpose: the
// accumulator wraps the same way, and the final sum fits.
int32_t without_shift(int32_t bias, int64_t shift_sum) {
  return static_cast<int32_t>(static_cast<uint32_t>(bias) - static_cast<uint32_t>(shift_sum));
}

}  // namespace

StageBuffer::StageBuffer(size_t rows, size_t max_k, size_t slots)
    : rows_(rows),
      slot_bytes_(rows * stage_stride(max_k) * table().act_bytes),
      data_(std::make_shared<Buffer<uint8_t>>(slot_bytes_ * slots)),
      scales_(std::make_shared<Buffer<float>>(rows * slots)) {}

FloatLinear::FloatLinear(const void* w, FloatType type, size_t n, size_t k, std::vector<float> bias,
                         ThreadTeam& team)
    : type_(type), n_(n), k_(k) {
  std::vector<uint16_t> narrow;
  if (type == FloatType::kF32) {
    const float* f = static_cast<const float*>(w);
    type_ = lossless_type(f, n * k);
    if (type_ != FloatType::kF32) {
      narrow.resize(n * k);
      for (size_t i = 0; i < n * k; ++i)
        narrow[i] = type_ == FloatType::kBF16 ? to_bf16(f[i]).bits : to_f16(f[i]).bits;
      w = narrow.data();
    }
  }
  OCTET_CHECK(bias.empty() || bias.size() == n);
  packed_ = pack_panels(w, type_, n, k, team);
  bias_ = padded(bias, kernels::float_panels(table(), n) * table().float_panel);
}

void FloatLinear::compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
                          bool accumulate, StageBuffer&, size_t) {
  const auto& t = table();
  const GemmTile s = gemm_share(w, kernels::float_panels(t, n_), m);
  if (s.row_begin >= s.row_end) return;
  t.float_gemm({x + s.row_begin * ldx, ldx, s.row_end - s.row_begin, packed_.data(), type_, k_, n_,
                s.panel_begin, s.panel_end, bias_.data(), y + s.row_begin * ldy, ldy, accumulate});
}

W8A16Linear::W8A16Linear(const int8_t* w, size_t n, size_t k, const std::vector<float>& scale,
                         const std::vector<float>& offset, const std::vector<float>& bias,
                         ThreadTeam& team)
    : n_(n), k_(k), packed_(pack_panels(w, FloatType::kI8, n, k, team)) {
  OCTET_CHECK(scale.size() == n && (offset.empty() || offset.size() == n) &&
              (bias.empty() || bias.size() == n));
  const size_t size = kernels::float_panels(table(), n) * table().float_panel;
  scale_ = padded(scale, size);
  offset_ = padded(offset, size);
  bias_ = padded(bias, size);
}

void W8A16Linear::compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
                          bool accumulate, StageBuffer&, size_t) {
  const auto& t = table();
  const GemmTile s = gemm_share(w, kernels::float_panels(t, n_), m);
  if (s.row_begin >= s.row_end) return;
  t.float_gemm({x + s.row_begin * ldx, ldx, s.row_end - s.row_begin, packed_.data(), FloatType::kI8,
                k_, n_, s.panel_begin, s.panel_end, bias_.data(), y + s.row_begin * ldy, ldy,
                accumulate, scale_.data(), offset_.data()});
}

Int8Weights::Int8Weights(const int8_t* w, size_t outputs, size_t inputs, ThreadTeam& team)
    : n(outputs), k(inputs), shift_sum(outputs) {
  const auto& t = table();
  const size_t panels = kernels::int8_panels(t, n);
  packed = Buffer<int8_t>(panels * t.int8_panel * kernels::padded_k(t, k));
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(panels);
    t.int8_pack(w, n, k, begin, end, packed.data());
    for (size_t j = begin * t.int8_panel; j < std::min(n, end * t.int8_panel); ++j) {
      int64_t sum = 0;
      for (size_t i = 0; i < k; ++i) sum += w[j * k + i];
      shift_sum[j] = t.act_shift * sum;
    }
  });
}

size_t Int8Weights::padded_outputs() const {
  return kernels::int8_panels(table(), n) * table().int8_panel;
}

void Int8Linear::stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& buffer,
                       size_t slot) {
  const auto [begin, end] = w.share(m);
  stage_rows(x, ldx, begin, end, buffer, slot);
}

void Int8Linear::compute(Worker& w, const float*, size_t, size_t m, float* y, size_t ldy,
                         bool accumulate, StageBuffer& buffer, size_t slot) {
  compute_product(w, m, {y, ldy, accumulate}, buffer, slot);
}

void Int8Linear::compute_product(Worker& w, size_t m, const Product& product, StageBuffer& buffer,
                                 size_t slot) {
  const GemmTile tile = gemm_share(w, kernels::int8_panels(table(), weights_->n), m);
  if (tile.row_begin < tile.row_end) multiply(tile, product, buffer, slot);
}

void Int8Linear::stage_rows_within(const float* x, size_t ldx, size_t begin, size_t end,
                                   const float*, StageBuffer& buffer, size_t slot) {
  stage_rows(x, ldx, begin, end, buffer, slot);
}

// Rounded after each operation, as the kernels do it.
void Int8Linear::finish_rows(const Product& p, size_t begin, size_t end, const float* scale,
                             const float* row_scale, const float* bias) const {
  for (size_t r = begin; r < end; ++r)
    for (size_t j = 0; j < weights_->n; ++j) {
      float v = static_cast<float>(p.sums[r * weights_->n + j]) * scale[j];
      if (row_scale != nullptr) v *= row_scale[r];
      if (bias != nullptr) v += bias[j];
      float& y = p.y[r * p.ldy + j];
      y = p.accumulate ? y + v : v;
    }
}

uint8_t* Int8Linear::staged_row(StageBuffer& buffer, size_t slot, size_t r) const {
  return buffer.slot(slot) + r * stage_stride(weights_->k) * table().act_bytes;
}

kernels::Int8GemmArgs Int8Linear::args(const GemmTile& s, const int32_t* bias, const float* scale,
                                       const Product& p, StageBuffer& buffer, size_t slot) const {
  kernels::Int8GemmArgs a = {staged_row(buffer, slot, s.row_begin),
                             stage_stride(weights_->k),
                             s.row_end - s.row_begin,
                             weights_->packed.data(),
                             weights_->k,
                             weights_->n,
                             s.panel_begin,
                             s.panel_end,
                             bias,
                             scale,
                             p.y + s.row_begin * p.ldy,
                             p.ldy,
                             p.accumulate};
  if (p.sums != nullptr) {
    a.sums = p.sums + s.row_begin * weights_->n;
    a.ldy = weights_->n;
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

void W8A8Linear::stage_rows(const float* x, size_t ldx, size_t begin, size_t end,
                            StageBuffer& buffer, size_t slot) {
  for (size_t r = begin; r < end; ++r)
    table().quantize(x + r * ldx, weights_->k, input_scale_, input_offset_,
                     staged_row(buffer, slot, r));
}

void W8A8Linear::multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                          size_t slot) {
  kernels::Int8GemmArgs a = args(tile, bias_.data(), scale_.data(), product, buffer, slot);
  a.float_bias = float_.data();
  table().int8_gemm(a);
}

void W8A8Linear::finish(const Product& product, size_t begin, size_t end, StageBuffer&, size_t) {
  finish_rows(product, begin, end, scale_.data(), nullptr, float_.data());
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

void DynamicLinear::stage_rows(const float* x, size_t ldx, size_t begin, size_t end,
                               StageBuffer& buffer, size_t slot) {
  for (size_t r = begin; r < end; ++r)
    buffer.row_scales(slot)[r] =
        table().quantize_token(x + r * ldx, weights_->k, staged_row(buffer, slot, r));
}

void DynamicLinear::stage_rows_within(const float* x, size_t ldx, size_t begin, size_t end,
                                      const float* maximum, StageBuffer& buffer, size_t slot) {
  for (size_t r = begin; r < end; ++r) {
    const float scale = maximum[r] / 127.0f > 0 ? maximum[r] / 127.0f : 1.0f;
    buffer.row_scales(slot)[r] = scale;
    table().quantize(x + r * ldx, weights_->k, scale, 0, staged_row(buffer, slot, r));
  }
}

void DynamicLinear::finish(const Product& product, size_t begin, size_t end, StageBuffer& buffer,
                           size_t slot) {
  finish_rows(product, begin, end, scale_.data(), buffer.row_scales(slot), float_.data());
}

void DynamicLinear::multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                             size_t slot) {
  kernels::Int8GemmArgs a = args(tile, bias_.data(), scale_.data(), product, buffer, slot);
  a.row_scale = buffer.row_scales(slot) + tile.row_begin;
  a.float_bias = float_.data();
  table().int8_gemm(a);
}

MixLinear::MixLinear(std::shared_ptr<const Int8Weights> weights, const W8A8Params& generated,
                     const DynamicParams& prompt)
    : Int8Linear(weights), generated_(weights, generated), prompt_(weights, prompt) {}

Int8Linear& MixLinear::of(const RowRun& run) {
  if (run.generated) return generated_;
  return prompt_;
}

void MixLinear::stage_rows(const float* x, size_t ldx, size_t begin, size_t end,
                           StageBuffer& buffer, size_t slot) {
  for (const RowRun& run : buffer.runs())
    of(run).stage_rows(x, ldx, std::max(begin, run.begin), std::min(end, run.end), buffer, slot);
}

void MixLinear::stage_rows_within(const float* x, size_t ldx, size_t begin, size_t end,
                                  const float* maximum, StageBuffer& buffer, size_t slot) {
  for (const RowRun& run : buffer.runs())
    of(run).stage_rows_within(x, ldx, std::max(begin, run.begin), std::min(end, run.end), maximum,
                              buffer, slot);
}

void MixLinear::finish(const Product& product, size_t begin, size_t end, StageBuffer& buffer,
                       size_t slot) {
  for (const RowRun& run : buffer.runs())
    of(run).finish(product, std::max(begin, run.begin), std::min(end, run.end), buffer, slot);
}

void MixLinear::multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                         size_t slot) {
  const std::vector<RowRun>& runs = buffer.runs();
  OCTET_CHECK(!runs.empty() && runs.back().end >= tile.row_end);
  // Panel by panel, so that the weights come from memory once however many runs there are.
  const size_t step = runs.size() == 1 ? tile.panel_end - tile.panel_begin : 1;
  for (size_t p = tile.panel_begin; p < tile.panel_end; p += step)
    for (const RowRun& run : runs) {
      const GemmTile part = {p, p + step, std::max(tile.row_begin, run.begin),
                             std::min(tile.row_end, run.end)};
      if (part.row_begin < part.row_end) of(run).multiply(part, product, buffer, slot);
    }
}

LinearGroup::LinearGroup(std::vector<std::unique_ptr<Linear>> parts) : parts_(std::move(parts)) {
  OCTET_CHECK(!parts_.empty() && parts_.size() <= kMaxParts);
  for (const auto& p : parts_) n_ += p->outputs();
}

uint64_t LinearGroup::bytes() const {
  uint64_t b = 0;
  for (const auto& p : parts_) b += p->bytes();
  return b;
}

void LinearGroup::stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& buffer,
                        size_t slot) {
  for (size_t i = 0; i < parts_.size(); ++i) parts_[i]->stage(w, x, ldx, m, buffer, slot + i);
}

void LinearGroup::compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
                          bool accumulate, StageBuffer& buffer, size_t slot) {
  size_t column = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    parts_[i]->compute(w, x, ldx, m, y + column, ldy, accumulate, buffer, slot + i);
    column += parts_[i]->outputs();
  }
}

}  // namespace octet
