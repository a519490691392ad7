#include "src/model/linear.h"

#include <algorithm>
#include <cstring>

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
struct GemmShare {
  size_t panel_begin, panel_end, row_begin, row_end;
};
GemmShare gemm_share(const Worker& w, size_t panels, size_t m) {
  if (panels < 2 * w.count() && m >= 16 * w.count()) {
    const auto [begin, end] = w.share(m, 8);
    return {0, panels, begin, end};
  }
  const auto [begin, end] = w.share(panels);
  return {begin, end, 0, m};
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

}  // namespace

StageBuffer::StageBuffer(size_t rows, size_t max_k, size_t slots)
    : slot_bytes_(rows * stage_stride(max_k) * table().act_bytes), data_(slot_bytes_ * slots) {}

FloatLinear::FloatLinear(const void* w, FloatType type, size_t n, size_t k, std::vector<float> bias,
                         ThreadTeam& team)
    : type_(type), n_(n), k_(k) {
  const auto& t = table();
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
  const size_t panels = kernels::float_panels(t, n);
  packed_ = Buffer<uint8_t>(panels * t.float_panel * k * kernels::float_type_size(type_));
  if (!bias.empty()) {
    OCTET_CHECK(bias.size() == n);
    bias_ = Buffer<float>(panels * t.float_panel);
    std::copy(bias.begin(), bias.end(), bias_.data());
  }
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(panels);
    t.float_pack(w, type_, n, k, begin, end, packed_.data());
  });
}

void FloatLinear::compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
                          bool accumulate, StageBuffer&, size_t) {
  const auto& t = table();
  const GemmShare s = gemm_share(w, kernels::float_panels(t, n_), m);
  if (s.row_begin >= s.row_end) return;
  t.float_gemm({x + s.row_begin * ldx, ldx, s.row_end - s.row_begin, packed_.data(), type_, k_, n_,
                s.panel_begin, s.panel_end, bias_.data(), y + s.row_begin * ldy, ldy, accumulate});
}

W8A8Linear::W8A8Linear(const int8_t* w, size_t n, size_t k, const W8A8Params& params,
                       ThreadTeam& team)
    : n_(n), k_(k), shift_sum_(n) {
  const auto& t = table();
  const size_t panels = kernels::int8_panels(t, n);
  packed_ = Buffer<int8_t>(panels * t.int8_panel * kernels::padded_k(t, k));
  bias_ = Buffer<int32_t>(panels * t.int8_panel);
  scale_ = Buffer<float>(panels * t.int8_panel);
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(panels);
    t.int8_pack(w, n, k, begin, end, packed_.data());
    for (size_t j = begin * t.int8_panel; j < std::min(n, end * t.int8_panel); ++j) {
      int64_t sum = 0;
      for (size_t i = 0; i < k; ++i) sum += w[j * k + i];
      shift_sum_[j] = t.act_shift * sum;
    }
  });
  set_params(params);
}

void W8A8Linear::set_params(const W8A8Params& params) {
  OCTET_CHECK(params.quant_bias.size() == n_ && params.deq_scale.size() == n_);
  input_scale_ = params.input_scale;
  input_offset_ = params.input_offset;
  for (size_t j = 0; j < n_; ++j) {
    // Modulo 2^32 on purpose: the accumulator wraps the same way, and the final sum fits.
    bias_[j] = static_cast<int32_t>(static_cast<uint32_t>(params.quant_bias[j]) -
                                    static_cast<uint32_t>(shift_sum_[j]));
    scale_[j] = params.deq_scale[j];
  }
}

void W8A8Linear::stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& buffer,
                       size_t slot) {
  const auto& t = table();
  const size_t row_bytes = stage_stride(k_) * t.act_bytes;
  const auto [begin, end] = w.share(m);
  for (size_t r = begin; r < end; ++r)
    t.quantize(x + r * ldx, k_, input_scale_, input_offset_, buffer.slot(slot) + r * row_bytes);
}

void W8A8Linear::compute(Worker& w, const float*, size_t, size_t m, float* y, size_t ldy,
                         bool accumulate, StageBuffer& buffer, size_t slot) {
  const auto& t = table();
  const size_t lda = stage_stride(k_);
  const GemmShare s = gemm_share(w, kernels::int8_panels(t, n_), m);
  if (s.row_begin >= s.row_end) return;
  t.int8_gemm({buffer.slot(slot) + s.row_begin * lda * t.act_bytes, lda, s.row_end - s.row_begin,
               packed_.data(), k_, n_, s.panel_begin, s.panel_end, bias_.data(), scale_.data(),
               y + s.row_begin * ldy, ldy, accumulate});
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
