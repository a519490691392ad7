// Attention over KV pages, one block of kAttentionBlock keys after another, with the online softmax
// of FlashAttention (Dao et al. 2022), for rows that share a KV head: query heads of a group, and
// neighbouring tokens. Scores q K and sums p V are matrix products in registers. Few rows read the
// pages as they are stored; many rows read panels that were converted to floats once for all of
// them. Either way a row takes the same operations in the same order. Included like ops.inl, after
// it; the set defines kAttentionRows (the most rows of a register tile), kDirectRows (the most that
// read pages as stored) and kRegisters.

constexpr size_t kPanelVecs = 2;  // vectors of a converted panel: keys, or dimensions of V
constexpr size_t kPanelWidth = kPanelVecs * kLanes;
constexpr size_t kPageVecs = kBlockTokens / kLanes;
constexpr size_t kRowStride = kMaxHeadDim + 16;  // floats; neighbours fall on other cache sets
constexpr size_t kTileRows = 48;                 // that share what is converted
static_assert(kTileRows % kAttentionRows == 0 && kBlockTokens % kPanelWidth == 0 &&
              kAttentionBlock % kBlockTokens == 0 && kMaxHeadDim % kPanelWidth == 0 &&
              kMaxHeadDim >= kAttentionBlock);

// The rows of a tile, and what is known of each after the blocks so far.
struct AttentionTile {
  size_t rows;
  size_t length[kTileRows];                         // keys that the row sees
  float m[kTileRows], l[kTileRows];                 // maximum of the scores, sum of e^(score - m)
  float fade[kTileRows], part[kTileRows];           // factors of the sums before a block and in it
  alignas(64) float q[kTileRows][kRowStride];       // times the scale
  alignas(64) float p[kTileRows][kAttentionBlock];  // of one block: scores, then e^(score - max)
  alignas(64) float acc[kTileRows][kRowStride];     // sum of e^(score - m) V
  alignas(64) float panel[kMaxHeadDim * kPanelWidth];
};

// Vectors side by side in a register tile of `rows` rows, a power of two up to `most`: their sums,
// one of each, and a number of a row stay in registers.
static constexpr size_t vectors_for(size_t rows, size_t most) {
  size_t vectors = 1;
  while (2 * vectors <= most && 2 * vectors * (rows + 1) < kRegisters) vectors *= 2;
  return vectors;
}

// Rows b [count][ld] of which a tile takes some vectors.
template <typename L>
struct Strided {
  const typename L::T* data;
  size_t ld;                                 // elements
  const typename L::T* following = nullptr;  // what is read next: prefetched
};

// c[r][v] += sum_i a[r][i] b[i][v], i below `count`; rows of a are kStride floats apart.
template <bool kPrefetch, size_t kStride, typename L, size_t kRows, size_t kVecs>
[[gnu::always_inline]] static inline void multiply_add(const float* a, Strided<L> b, size_t count,
                                                       V (&c)[kRows][kVecs]) {
  for (size_t i = 0; i < count; ++i) {
    if constexpr (kPrefetch) __builtin_prefetch(b.following + i * b.ld);
    V w[kVecs];
#pragma GCC unroll 16
    for (size_t v = 0; v < kVecs; ++v) w[v] = L::vec(b.data + i * b.ld + v * kLanes);
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      const V x = set1(a[r * kStride + i]);
#pragma GCC unroll 16
      for (size_t v = 0; v < kVecs; ++v) c[r][v] = fma(x, w[v], c[r][v]);
    }
  }
}

template <size_t kRows, size_t kVecs>
[[gnu::always_inline]] static inline void clear(V (&c)[kRows][kVecs]) {
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (size_t v = 0; v < kVecs; ++v) c[r][v] = zero();
}

template <size_t kRows, size_t kVecs>
[[gnu::always_inline]] static inline void store_scores(AttentionTile& t, size_t r0, size_t key,
                                                       const V (&c)[kRows][kVecs]) {
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (size_t v = 0; v < kVecs; ++v) store(&t.p[r0 + r][key + v * kLanes], c[r][v]);
}

// acc = acc fade + c part.
template <size_t kRows, size_t kVecs>
[[gnu::always_inline]] static inline void add_values(AttentionTile& t, size_t r0, size_t d,
                                                     const V (&c)[kRows][kVecs]) {
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (size_t v = 0; v < kVecs; ++v) {
      float* acc = &t.acc[r0 + r][d + v * kLanes];
      store(acc, fma(c[r][v], set1(t.part[r0 + r]), mul(load(acc), set1(t.fade[r0 + r]))));
    }
}

template <size_t kRows, typename Fn>
[[gnu::always_inline]] static inline void row_tile(size_t rows, size_t r, const Fn& fn) {
  if constexpr (kRows > 1)
    if (rows < kRows) return row_tile<kRows - 1>(rows, r, fn);
  fn.template operator()<kRows>(r);
}

// fn.operator()<kRows>(first row) for tiles of about as many rows each, kAttentionRows at most.
template <typename Fn>
[[gnu::always_inline]] static inline void for_row_tiles(size_t rows, const Fn& fn) {
  for (size_t r = 0, tiles = (rows + kAttentionRows - 1) / kAttentionRows; tiles > 0; --tiles) {
    const size_t count = (rows - r + tiles - 1) / tiles;
    row_tile<kAttentionRows>(count, r, fn);
    r += count;
  }
}

// fn.operator()<kVecs>(first dimension), then half as many vectors, until `end`, a multiple of one.
template <size_t kVecs, typename Fn>
[[gnu::always_inline]] static inline void for_vectors(size_t d, size_t end, const Fn& fn) {
  for (; d + kVecs * kLanes <= end; d += kVecs * kLanes) fn.template operator()<kVecs>(d);
  if constexpr (kVecs > 1) for_vectors<kVecs / 2>(d, end, fn);
}

// The part of a pool that holds one KV head's keys, or values, from token `key` on.
template <typename T>
static const T* page_of(const AttentionArgs& g, const void* pool, size_t key) {
  return static_cast<const T*>(pool) +
         static_cast<size_t>(g.blocks[key / kBlockTokens]) * g.page_elements +
         g.kv_head * g.head_dim * kBlockTokens;
}

// The page a block after that of token `key`, or the same one where the tile's keys end.
template <typename T>
static const T* page_ahead(const AttentionArgs& g, const AttentionTile& t, const void* pool,
                           size_t key) {
  const size_t next = key + kAttentionBlock;
  return page_of<T>(g, pool, next < t.length[t.rows - 1] ? next : key);
}

// Keys of a block that starts at `start` which the tile's last row sees.
static size_t keys_in_block(const AttentionTile& t, size_t start) {
  const size_t keys = t.length[t.rows - 1] - start;
  return keys < kAttentionBlock ? keys : kAttentionBlock;
}

template <typename L>
static void scores_as_stored(const AttentionArgs& g, size_t start, AttentionTile& t) {
  const size_t keys = keys_in_block(t, start);
  for_row_tiles(t.rows, [&]<size_t kRows>(size_t r) {
    constexpr size_t kVecs = vectors_for(kRows, kPageVecs);
    for (size_t key = 0; key < keys; key += kVecs * kLanes) {
      const Strided<L> k = {
          page_of<typename L::T>(g, g.k_pool, start + key) + key % kBlockTokens, kBlockTokens,
          page_ahead<typename L::T>(g, t, g.k_pool, start + key) + key % kBlockTokens};
      V c[kRows][kVecs];
      clear(c);
      multiply_add<true, kRowStride>(t.q[r], k, g.head_dim, c);
      store_scores(t, r, key, c);
    }
  });
}

template <typename L>
static void scores_by_panels(const AttentionArgs& g, size_t start, AttentionTile& t) {
  const size_t keys = keys_in_block(t, start);
  for (size_t key = 0; key < keys; key += kPanelWidth) {
    const auto* k = page_of<typename L::T>(g, g.k_pool, start + key) + key % kBlockTokens;
    for (size_t d = 0; d < g.head_dim; ++d)
      for (size_t v = 0; v < kPanelVecs; ++v)
        store(t.panel + d * kPanelWidth + v * kLanes, L::vec(k + d * kBlockTokens + v * kLanes));
    for_row_tiles(t.rows, [&]<size_t kRows>(size_t r) {
      if (t.length[r + kRows - 1] <= start + key) return;  // keys that lie in the rows' future
      V c[kRows][kPanelVecs];
      clear(c);
      multiply_add<false, kRowStride>(t.q[r], Strided<LoadF32>{t.panel, kPanelWidth}, g.head_dim,
                                      c);
      store_scores(t, r, key, c);
    });
  }
}

// Values of a state that joins another: the sums before fade, the sums of the block take part.
static void join(float m, float l, float* to_m, float* to_l, float* fade, float* part) {
  const float before = *to_m, next = m > before ? m : before;
  *fade =
      before == next ? 1.0f : (before == -__builtin_inff() ? 0.0f : __builtin_expf(before - next));
  *part = m == next ? 1.0f : (m == -__builtin_inff() ? 0.0f : __builtin_expf(m - next));
  *to_l = __builtin_fmaf(l, *part, *to_l * *fade);
  *to_m = next;
}

// From the scores of a block to the weights of its values.
static void weights(size_t start, AttentionTile& t) {
  for (size_t r = 0; r < t.rows; ++r) {
    float* p = t.p[r];
    size_t seen = t.length[r] > start ? t.length[r] - start : 0;
    if (seen > kAttentionBlock) seen = kAttentionBlock;
    for (size_t i = seen; i % kLanes != 0; ++i) p[i] = -__builtin_inff();
    V top = set1(-__builtin_inff());
    for (size_t i = 0; i < seen; i += kLanes) top = max(top, load(p + i));
    const float block_max = maximum(top);
    if (block_max == -__builtin_inff()) seen = 0;
    V total = zero();
    for (size_t i = 0; i < seen; i += kLanes) {
      V e = exp_v(sub(load(p + i), set1(block_max)));
      store(p + i, e);
      // exp_v clamps, so places without a key are set to zero here.
      if (seen - i < kLanes) e = load_head(p + i, seen - i);
      total = add(total, e);
    }
    for (size_t i = seen; i < kAttentionBlock; ++i) p[i] = 0;
    join(block_max, sum(total), &t.m[r], &t.l[r], &t.fade[r], &t.part[r]);
  }
}

template <typename L>
static void values_as_stored(const AttentionArgs& g, size_t start, AttentionTile& t) {
  const size_t keys = keys_in_block(t, start);
  for_row_tiles(t.rows, [&]<size_t kRows>(size_t r) {
    const auto step = [&]<size_t kVecs>(size_t d) {
      V c[kRows][kVecs];
      clear(c);
      for (size_t key = 0; key < keys; key += kBlockTokens) {
        const Strided<L> v = {page_of<typename L::T>(g, g.v_pool, start + key) + d, g.head_dim,
                              page_ahead<typename L::T>(g, t, g.v_pool, start + key) + d};
        multiply_add<true, kAttentionBlock>(
            t.p[r] + key, v, keys - key < kBlockTokens ? keys - key : kBlockTokens, c);
      }
      add_values(t, r, d, c);
    };
    for_vectors<vectors_for(kRows, 8)>(0, g.head_dim, step);
  });
}

// kPanelWidth dimensions of `count` values of V [count][head_dim], zeros after the last dimension.
template <typename L>
static void convert_values(const typename L::T* v, size_t dimensions, size_t head_dim, size_t count,
                           float* panel) {
  alignas(64) typename L::T some[kPanelWidth] = {};
  for (size_t i = 0; i < count; ++i, v += head_dim, panel += kPanelWidth) {
    const typename L::T* from = v;
    if (dimensions < kPanelWidth) {
      __builtin_memcpy(some, v, dimensions * sizeof(*v));
      from = some;
    }
    for (size_t j = 0; j < kPanelWidth; j += kLanes) store(panel + j, L::vec(from + j));
  }
}

template <typename L>
static void values_by_panels(const AttentionArgs& g, size_t start, AttentionTile& t) {
  const size_t keys = keys_in_block(t, start);
  for (size_t d = 0; d < g.head_dim; d += kPanelWidth) {
    for (size_t key = 0; key < keys; key += kBlockTokens)
      convert_values<L>(page_of<typename L::T>(g, g.v_pool, start + key) + d, g.head_dim - d,
                        g.head_dim, keys - key < kBlockTokens ? keys - key : kBlockTokens,
                        t.panel + key * kPanelWidth);
    for_row_tiles(t.rows, [&]<size_t kRows>(size_t r) {
      V c[kRows][kPanelVecs];
      clear(c);
      const size_t seen = t.length[r + kRows - 1] > start ? t.length[r + kRows - 1] - start : 0;
      multiply_add<false, kAttentionBlock>(t.p[r], Strided<LoadF32>{t.panel, kPanelWidth},
                                           seen < keys ? seen : keys, c);
      add_values(t, r, d, c);
    });
  }
}

static void clear_states(size_t head_dim, AttentionTile& t) {
  for (size_t r = 0; r < t.rows; ++r) {
    t.m[r] = -__builtin_inff();
    t.l[r] = 0;
    for (size_t d = 0; d < head_dim; d += kPanelWidth)
      for (size_t v = 0; v < kPanelVecs; ++v) store(&t.acc[r][d + v * kLanes], zero());
  }
}

static void begin_tile(const AttentionArgs& g, size_t first, size_t rows, AttentionTile& t) {
  t.rows = rows;
  const V scale = set1(g.scale);
  for (size_t r = 0; r < rows; ++r) {
    const size_t token = (first + r) / g.group, head = (first + r) % g.group;
    const float* q = g.q + token * g.ldq + head * g.head_dim;
    t.length[r] = g.position + token + 1;
    size_t d = 0;
    for (; d + kLanes <= g.head_dim; d += kLanes) store(&t.q[r][d], mul(load(q + d), scale));
    for (; d < g.head_dim; ++d) t.q[r][d] = q[d] * g.scale;
  }
}

template <typename L>
static void block_into_tile(const AttentionArgs& g, size_t start, AttentionTile& t) {
  if (t.rows <= kDirectRows && g.head_dim % kLanes == 0) {
    scores_as_stored<L>(g, start, t);
    weights(start, t);
    values_as_stored<L>(g, start, t);
  } else {
    scores_by_panels<L>(g, start, t);
    weights(start, t);
    values_by_panels<L>(g, start, t);
  }
}

// A row's sums over its keys: divided by the sum of the weights.
static void finish_row(const AttentionArgs& g, size_t row, float l, const float* acc) {
  float* out = g.out + row / g.group * g.ldo + row % g.group * g.head_dim;
  const float inverse = 1.0f / l;
  for (size_t d = 0; d < g.head_dim; ++d) out[d] = acc[d] * inverse;
}

// The state of a row after a block alone: its sums [head_dim], maximum, sum of weights.
static float* state_of(const AttentionArgs& g, size_t block, size_t row) {
  return g.states + (block * g.tokens * g.group + row) * (g.head_dim + 2);
}

template <typename L>
static void attention_rows(const AttentionArgs& g) {
  const size_t rows = g.tokens * g.group;
  AttentionTile t;
  const size_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (size_t i = 0, first = 0; i < tiles; ++i, first += t.rows) {
    begin_tile(g, first, (rows - first + tiles - i - 1) / (tiles - i), t);
    const size_t blocks = (t.length[t.rows - 1] + kAttentionBlock - 1) / kAttentionBlock;
    if (g.states == nullptr) {
      clear_states(g.head_dim, t);
      for (size_t b = 0; b < blocks; ++b) block_into_tile<L>(g, b * kAttentionBlock, t);
      for (size_t r = 0; r < t.rows; ++r) finish_row(g, first + r, t.l[r], t.acc[r]);
      continue;
    }
    for (size_t b = g.block_begin; b < g.block_end; ++b) {
      clear_states(g.head_dim, t);
      if (b < blocks) block_into_tile<L>(g, b * kAttentionBlock, t);
      for (size_t r = 0; r < t.rows; ++r) {
        float* state = state_of(g, b, first + r);
        __builtin_memcpy(state, t.acc[r], g.head_dim * sizeof(float));
        state[g.head_dim] = t.m[r];
        state[g.head_dim + 1] = t.l[r];
      }
    }
  }
}

static void attention(const AttentionArgs& g) noexcept {
  switch (g.type) {
    case FloatType::kF32:
      return attention_rows<LoadF32>(g);
    case FloatType::kF16:
      return attention_rows<LoadF16>(g);
    case FloatType::kBF16:
      return attention_rows<LoadBF16>(g);
    case FloatType::kI8:
      return attention_rows<LoadI8>(g);
  }
}

static void attention_merge(const AttentionArgs& g) noexcept {
  alignas(64) float acc[kMaxHeadDim];
  for (size_t row = 0; row < g.tokens * g.group; ++row) {
    float m = -__builtin_inff(), l = 0, fade, part;
    for (float& sum : acc) sum = 0;
    for (size_t b = 0; b < g.block_end; ++b) {
      const float* state = state_of(g, b, row);
      join(state[g.head_dim], state[g.head_dim + 1], &m, &l, &fade, &part);
      for (size_t d = 0; d < g.head_dim; ++d)
        acc[d] = __builtin_fmaf(state[d], part, acc[d] * fade);
    }
    finish_row(g, row, l, acc);
  }
}
