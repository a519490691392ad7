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

// The query rows of a tile, and what is known of each after the pages so far. The steps below are
// parts of one function: always inlined, so that the number of rows unrolls their loops.
template <size_t kRows>
struct AttentionTile {
  const float* q[kRows];
  size_t length[kRows];                       // tokens that the row sees
  float m[kRows], l[kRows];                   // maximum of the scores, sum of e^(score - m)
  alignas(64) float p[kRows][kBlockTokens];   // of one page: scores, then e^(score - m)
  alignas(64) float acc[kRows][kMaxHeadDim];  // sum of e^(score - m) V
};

template <size_t kRows>
[[gnu::always_inline]] static inline void begin_rows(const AttentionArgs& g, size_t first_row,
                                                     AttentionTile<kRows>& a) {
  for (size_t r = 0; r < kRows; ++r) {
    const size_t row = first_row + r;
    const size_t token = row / g.group, head = row % g.group;
    a.q[r] = g.q + token * g.ldq + head * g.head_dim;
    a.length[r] = g.position + token + 1;
    a.m[r] = -__builtin_inff();
    a.l[r] = 0;
    for (size_t d = 0; d < g.head_dim; ++d) a.acc[r][d] = 0;
  }
}

// p = scale * q K of a page.
template <typename L, size_t kRows>
[[gnu::always_inline]] static inline void page_scores(const AttentionArgs& g,
                                                      const typename L::T* kp,
                                                      AttentionTile<kRows>& a) {
  constexpr size_t kVecs = kBlockTokens / kLanes;
  V s[kRows][kVecs];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (size_t v = 0; v < kVecs; ++v) s[r][v] = zero();
  for (size_t d = 0; d < g.head_dim; ++d) {
    V k[kVecs];
#pragma GCC unroll 8
    for (size_t v = 0; v < kVecs; ++v) k[v] = L::vec(kp + d * kBlockTokens + v * kLanes);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const V b = set1(a.q[r][d]);
#pragma GCC unroll 8
      for (size_t v = 0; v < kVecs; ++v) s[r][v] = fma(b, k[v], s[r][v]);
    }
  }
  const V scale = set1(g.scale);
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (size_t v = 0; v < kVecs; ++v) store(&a.p[r][v * kLanes], mul(s[r][v], scale));
}

// From the scores of the page that begins with token `start` to their part of the softmax; what was
// summed under a smaller maximum fades.
template <size_t kRows>
[[gnu::always_inline]] static inline void page_weights(size_t head_dim, size_t start,
                                                       AttentionTile<kRows>& a) {
  constexpr size_t kVecs = kBlockTokens / kLanes;
  for (size_t r = 0; r < kRows; ++r) {
    float* p = a.p[r];
    for (size_t t = a.length[r] > start ? a.length[r] - start : 0; t < kBlockTokens; ++t)
      p[t] = -__builtin_inff();
    V top = load(p);
    for (size_t v = 1; v < kVecs; ++v) top = max(top, load(p + v * kLanes));
    const float block_max = maximum(top);
    if (block_max == -__builtin_inff()) {  // the whole page lies in this row's future
      for (size_t t = 0; t < kBlockTokens; ++t) p[t] = 0;
      continue;
    }
    const float next = block_max > a.m[r] ? block_max : a.m[r];
    const float fade = a.m[r] == next ? 1.0f : (a.l[r] == 0 ? 0.0f : __builtin_expf(a.m[r] - next));
    V total = zero();
    for (size_t v = 0; v < kVecs; ++v)
      store(p + v * kLanes, exp_v(sub(load(p + v * kLanes), set1(next))));
    // exp_v clamps, so masked places are set to zero here.
    for (size_t t = a.length[r] - start; t < kBlockTokens; ++t) p[t] = 0;
    for (size_t v = 0; v < kVecs; ++v) total = add(total, load(p + v * kLanes));
    a.l[r] = a.l[r] * fade + sum(total);
    a.m[r] = next;
    if (fade != 1.0f)
      for (size_t d = 0; d < head_dim; d += kLanes)
        store(&a.acc[r][d], mul(load(&a.acc[r][d]), set1(fade)));
  }
}

// acc += p V of a page with `valid` tokens, two vectors of head_dim at a time.
template <typename L, size_t kRows>
[[gnu::always_inline]] static inline void page_values(size_t head_dim, const typename L::T* vp,
                                                      size_t valid, AttentionTile<kRows>& a) {
  size_t d = 0;
  for (; d + 2 * kLanes <= head_dim; d += 2 * kLanes) {
    V s[kRows][2];
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      s[r][0] = load(&a.acc[r][d]);
      s[r][1] = load(&a.acc[r][d + kLanes]);
    }
    for (size_t t = 0; t < valid; ++t) {
      const V v0 = L::vec(vp + t * head_dim + d), v1 = L::vec(vp + t * head_dim + d + kLanes);
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        const V b = set1(a.p[r][t]);
        s[r][0] = fma(b, v0, s[r][0]);
        s[r][1] = fma(b, v1, s[r][1]);
      }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      store(&a.acc[r][d], s[r][0]);
      store(&a.acc[r][d + kLanes], s[r][1]);
    }
  }
  for (; d < head_dim; ++d)  // a head size that is no multiple of two vectors
    for (size_t t = 0; t < valid; ++t) {
      const float value = element<L>(vp + t * head_dim + d);
      for (size_t r = 0; r < kRows; ++r) a.acc[r][d] += a.p[r][t] * value;
    }
}

template <typename L, size_t kRows>
static void attention_tile(const AttentionArgs& g, size_t first_row) {
  using T = typename L::T;
  AttentionTile<kRows> a;
  begin_rows(g, first_row, a);
  const size_t longest = a.length[kRows - 1];
  for (size_t start = 0; start < longest; start += kBlockTokens) {
    const size_t valid = longest - start < kBlockTokens ? longest - start : kBlockTokens;
    const size_t page = static_cast<size_t>(g.blocks[start / kBlockTokens]) * g.page_elements +
                        g.kv_head * g.head_dim * kBlockTokens;
    page_scores<L>(g, static_cast<const T*>(g.k_pool) + page, a);
    page_weights(g.head_dim, start, a);
    page_values<L>(g.head_dim, static_cast<const T*>(g.v_pool) + page, valid, a);
  }
  for (size_t r = 0; r < kRows; ++r) {
    const size_t row = first_row + r;
    float* out = g.out + row / g.group * g.ldo + row % g.group * g.head_dim;
    const float inverse = 1.0f / a.l[r];
    for (size_t d = 0; d < g.head_dim; ++d) out[d] = a.acc[r][d] * inverse;
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

static void attention(const AttentionArgs& g) noexcept {
  switch (g.type) {
    case FloatType::kF32:
      attention_rows<LoadF32>(g);
      return;
    case FloatType::kF16:
      attention_rows<LoadF16>(g);
      return;
    case FloatType::kBF16:
      attention_rows<LoadBF16>(g);
      return;
    case FloatType::kI8:
      attention_rows<LoadI8>(g);
      return;
  }
}
