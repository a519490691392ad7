#include "src/model/layer.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/base/error.h"
#include "src/model/linear_group.h"

namespace octet {
namespace {

// Brings a row of q, k, v to the units of an int8 cache: k and v to its numbers, and k's scale into
// q, since sum_d q (kq - offset) scale = sum_d (q scale) kq - a part that is the same for all keys,
// which softmax does not see.
void scale_for_cache(const RankShape& c, const KvCacheParams& s, float* row) {
  const size_t kv = c.kv_size(), hd = c.head_dim;
  float* k = row + c.q_size();
  float* v = k + kv;
  for (size_t i = 0; i < kv; ++i) {
    k[i] = k[i] / s.k_scale[i] + s.k_offset[i];
    v[i] = v[i] / s.v_scale[i] + s.v_offset[i];
  }
  for (size_t j = 0; j < c.kv_heads; ++j)
    for (size_t h = c.queries[j].begin; h < c.queries[j].end; ++h)
      for (size_t d = 0; d < hd; ++d) row[h * hd + d] *= s.k_scale[j * hd + d];
}

// Normalizes (where the family does) and rotates q and k of a row; cos, sin [head_dim / 2].
void rotate(const RankShape& c, const LayerNorms& norms, const float* cos, const float* sin,
            float* row) {
  norms[NormKind::kQuery].heads(row, c.heads);
  norms[NormKind::kKey].heads(row + c.q_size(), c.kv_heads);
  for (size_t h = 0; h < c.heads + c.kv_heads; ++h)
    kernels::table().rope(row + h * c.head_dim, cos, sin, c.head_dim);
}

// Appends k and v of a row, the token at `position` of its sequence, to their pages.
void store(const RankShape& c, const KvView& kv, const int32_t* blocks, size_t position,
           const float* row) {
  const size_t hd = c.head_dim;
  const size_t element = kernels::float_type_size(kv.type);
  const size_t head_elements = hd * kernels::kBlockTokens;
  const size_t page = as_size(blocks[position / kernels::kBlockTokens]) * kv.page_elements;
  const float* k = row + c.q_size();
  const float* v = k + c.kv_size();
  for (size_t h = 0; h < c.kv_heads; ++h) {
    const size_t offset = (page + h * head_elements) * element;
    kernels::table().kv_store(k + h * hd, v + h * hd, hd, position % kernels::kBlockTokens, kv.type,
                              static_cast<char*>(kv.k_pool) + offset,
                              static_cast<char*>(kv.v_pool) + offset);
  }
}

}  // namespace

void Norm::rows(const float* x, size_t begin, size_t end, float* y) const {
  const size_t n = weight.size();
  for (size_t r = begin; r < end; ++r)
    kernels::table().rms_norm(x + r * n, weight.data(), bias.empty() ? nullptr : bias.data(), n,
                              eps, y + r * n);
}

void Norm::heads(float* x, size_t count) const {
  const size_t n = weight.size();
  for (size_t h = 0; n > 0 && h < count; ++h)
    kernels::table().rms_norm(x + h * n, weight.data(), bias.empty() ? nullptr : bias.data(), n,
                              eps, x + h * n);
}

StepBuffers::StepBuffers(const RankShape& c, size_t row_count)
    : rows(row_count),
      x(rows * c.hidden),
      h(rows * c.hidden),
      qkv(rows * (c.q_size() + 2 * c.kv_size())),
      attn(rows * c.q_size()),
      gate_up(rows * 2 * c.intermediate),
      cos(rows * c.head_dim / 2),
      sin(rows * c.head_dim / 2),
      stage(rows, std::max({c.hidden, c.intermediate, c.q_size()}), LinearGroup::kMaxParts) {}

std::unique_ptr<Linear>& DecoderLayer::part(LayerPart part) {
  switch (part) {
    case LayerPart::kQkv:
      return qkv;
    case LayerPart::kO:
      return o;
    case LayerPart::kGateUp:
      return gate_up;
    case LayerPart::kDown:
      return down;
  }
  OCTET_CHECK(false);
}

void DecoderLayer::attention(Worker& w, const RankShape& c, size_t m, const KvView& kv,
                             StepBuffers& b) const {
  const auto [begin, end] = w.share(m);
  OCTET_CHECK((kv.type == kernels::FloatType::kI8) == !kv_params.k_scale.empty());
  norms[NormKind::kInput].rows(b.x.data(), begin, end, b.h.data());
  const Rows in = {b.h.data(), c.hidden, m};
  qkv->stage(w, in, b.stage, 0);
  w.barrier();
  qkv->compute(w, in, {b.qkv.data(), c.q_size() + 2 * c.kv_size()}, b.stage, 0);
  w.barrier();
  for (const SequenceChunk& s : b.attention.chunks())
    for (size_t r = std::max(begin, s.first_row); r < std::min(end, s.first_row + s.tokens); ++r) {
      float* row = b.qkv.data() + r * (c.q_size() + 2 * c.kv_size());
      const size_t angles = r * c.head_dim / 2;
      rotate(c, norms, b.cos.data() + angles, b.sin.data() + angles, row);
      if (kv.type == kernels::FloatType::kI8) scale_for_cache(c, kv_params, row);
      store(c, kv, s.blocks, s.position + (r - s.first_row), row);
    }
  w.barrier();
  b.attention.compute(w, c, kv, kv_params, b.qkv.data(), b.attn.data());
  w.barrier();
}

void DecoderLayer::attention_output(Worker& w, const RankShape& c, size_t m, StepBuffers& b) const {
  const Rows in = {b.attn.data(), c.q_size(), m};
  o->stage(w, in, b.stage, 0);
  w.barrier();
  o->compute(w, in, {b.x.data(), c.hidden, true}, b.stage, 0);
  w.barrier();
}

void DecoderLayer::mlp(Worker& w, const RankShape& c, size_t m, StepBuffers& b) const {
  const size_t inter = c.intermediate;
  const auto [begin, end] = w.share(m);
  norms[NormKind::kPostAttention].rows(b.x.data(), begin, end, b.h.data());
  const Rows in = {b.h.data(), c.hidden, m};
  gate_up->stage(w, in, b.stage, 0);
  w.barrier();
  gate_up->compute(w, in, {b.gate_up.data(), 2 * inter}, b.stage, 0);
  w.barrier();
  for (size_t r = begin; r < end; ++r) {
    float* gate = b.gate_up.data() + r * 2 * inter;
    kernels::table().silu_mul(gate, gate + inter, inter, gate);
  }
}

void DecoderLayer::mlp_output(Worker& w, const RankShape& c, size_t m, StepBuffers& b) const {
  const Rows in = {b.gate_up.data(), 2 * c.intermediate, m};
  down->stage(w, in, b.stage, 0);
  w.barrier();
  down->compute(w, in, {b.x.data(), c.hidden, true}, b.stage, 0);
  w.barrier();
}

void DecoderLayer::forward(Worker& w, const RankShape& c, size_t m, const KvView& kv,
                           StepBuffers& b) const {
  attention(w, c, m, kv, b);
  attention_output(w, c, m, b);
  mlp(w, c, m, b);
  mlp_output(w, c, m, b);
}

}  // namespace octet
