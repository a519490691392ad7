// Attention over KV pages with the online softmax of FlashAttention, for a tile of kRows query rows
// at a time: K and V of a page are read once for all rows of the tile (query heads of a group, and
// neighbouring tokens at prefill). Included like ops.inl, after it; the set defines kAttentionRows.

template <typename L>
static inline float element(const typename L::T* p) {
  if constexpr (sizeof(typename L::T) != 2) {
    return static_cast<float>(*p);
  } else {  // through a vector load of one element's copies: the place is rare
    alignas(64) uint16_t copy[kLanes] = {*p};
    return first_lane(L::vec(copy));
  }
}

template <typename L, size_t kRows>
static void attention_tile(const AttentionArgs& g, size_t first_row) {
  constexpr size_t kVecs = kBlockTokens / kLanes;
  using T = typename L::T;
  const size_t hd = g.head_dim;
  alignas(64) float acc[kRows][kMaxHeadDim];
  alignas(64) float p[kRows][kBlockTokens];
  const float* q[kRows];
  float m[kRows], l[kRows];
  size_t length[kRows];
  for (size_t r = 0; r < kRows; ++r) {
    const size_t row = first_row + r;
    const size_t token = row / g.group, head = row % g.group;
    q[r] = g.q + token * g.ldq + head * hd;
    length[r] = g.position + token + 1;
    m[r] = -__builtin_inff();
    l[r] = 0;
    for (size_t d = 0; d < hd; ++d) acc[r][d] = 0;
  }
  const size_t longest = length[kRows - 1];
  for (size_t start = 0; start < longest; start += kBlockTokens) {
    const size_t valid = longest - start < kBlockTokens ? longest - start : kBlockTokens;
    const size_t page = static_cast<size_t>(g.blocks[start / kBlockTokens]) * g.page_elements +
                        g.kv_head * hd * kBlockTokens;
    const T* kp = static_cast<const T*>(g.k_pool) + page;
    const T* vp = static_cast<const T*>(g.v_pool) + page;
    V s[kRows][kVecs];
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (size_t v = 0; v < kVecs; ++v) s[r][v] = zero();
    for (size_t d = 0; d < hd; ++d) {
      V k[kVecs];
#pragma GCC unroll 8
      for (size_t v = 0; v < kVecs; ++v) k[v] = L::vec(kp + d * kBlockTokens + v * kLanes);
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        const V b = set1(q[r][d]);
#pragma GCC unroll 8
        for (size_t v = 0; v < kVecs; ++v) s[r][v] = fma(b, k[v], s[r][v]);
      }
    }
    const V scale = set1(g.scale);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (size_t v = 0; v < kVecs; ++v) store(&p[r][v * kLanes], mul(s[r][v], scale));
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t t = length[r] > start ? length[r] - start : 0; t < kBlockTokens; ++t)
        p[r][t] = -__builtin_inff();
      V top = load(&p[r][0]);
      for (size_t v = 1; v < kVecs; ++v) top = max(top, load(&p[r][v * kLanes]));
      const float block_max = maximum(top);
      if (block_max == -__builtin_inff()) {  // the whole page lies in this row's future
        for (size_t t = 0; t < kBlockTokens; ++t) p[r][t] = 0;
        continue;
      }
      const float next = block_max > m[r] ? block_max : m[r];
      const float fade = m[r] == next ? 1.0f : (l[r] == 0 ? 0.0f : __builtin_expf(m[r] - next));
      V total = zero();
      for (size_t v = 0; v < kVecs; ++v) {
        V e = exp_v(sub(load(&p[r][v * kLanes]), set1(next)));
        store(&p[r][v * kLanes], e);
      }
      // exp_v clamps, so masked places are set to zero here.
      for (size_t t = length[r] - start; t < kBlockTokens; ++t) p[r][t] = 0;
      for (size_t v = 0; v < kVecs; ++v) total = add(total, load(&p[r][v * kLanes]));
      l[r] = l[r] * fade + sum(total);
      m[r] = next;
      if (fade != 1.0f)
        for (size_t d = 0; d < hd; d += kLanes) store(&acc[r][d], mul(load(&acc[r][d]), set1(fade)));
    }
    // acc += p * V, two vectors of head_dim at a time.
    size_t d = 0;
    for (; d + 2 * kLanes <= hd; d += 2 * kLanes) {
      V a[kRows][2];
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        a[r][0] = load(&acc[r][d]);
        a[r][1] = load(&acc[r][d + kLanes]);
      }
      for (size_t t = 0; t < valid; ++t) {
        const V v0 = L::vec(vp + t * hd + d), v1 = L::vec(vp + t * hd + d + kLanes);
#pragma GCC unroll 8
        for (size_t r = 0; r < kRows; ++r) {
          const V b = set1(p[r][t]);
          a[r][0] = fma(b, v0, a[r][0]);
          a[r][1] = fma(b, v1, a[r][1]);
        }
      }
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        store(&acc[r][d], a[r][0]);
        store(&acc[r][d + kLanes], a[r][1]);
      }
    }
    for (; d < hd; ++d)  // a head size that is no multiple of two vectors
      for (size_t t = 0; t < valid; ++t) {
        const float value = element<L>(vp + t * hd + d);
        for (size_t r = 0; r < kRows; ++r) acc[r][d] += p[r][t] * value;
      }
  }
  for (size_t r = 0; r < kRows; ++r) {
    const size_t row = first_row + r;
    float* out = g.out + row / g.group * g.ldo + row % g.group * hd;
    const float inverse = 1.0f / l[r];
    for (size_t d = 0; d < hd; ++d) out[d] = acc[r][d] * inverse;
  }
}

// One tile of min(left, kRows) rows; returns how many.
template <typename L, size_t kRows>
static size_t attention_step(const AttentionArgs& g, size_t first_row, size_t left) {
  if constexpr (kRows > 1)
    if (left < kRows) return attention_step<L, kRows - 1>(g, first_row, left);
  attention_tile<L, kRows>(g, first_row);
  return kRows;
}

template <typename L>
static void attention_rows(const AttentionArgs& g) {
  const size_t rows = g.tokens * g.group;
  for (size_t r = 0; r < rows;) r += attention_step<L, kAttentionRows>(g, r, rows - r);
}

static void attention(const AttentionArgs& g) {
  switch (g.type) {
    case FloatType::kF32: attention_rows<LoadF32>(g); return;
    case FloatType::kF16: attention_rows<LoadF16>(g); return;
    case FloatType::kBF16: attention_rows<LoadBF16>(g); return;
    case FloatType::kI8: attention_rows<LoadI8>(g); return;
  }
}
