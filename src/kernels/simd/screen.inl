// What screening a head takes (docs/kernels.md): rotations, codes of rows, bounds and their
// largest. Included like ops.inl, after it and int8.inl.

// The steps below kLanes, of a vector's lanes with each other: with the lane's partner i ^ step,
// lane i becomes their sum where i lacks the bit of the step, their difference where it has it.
struct LaneButterflies {
  LaneButterflies() {
    alignas(64) float signs[kLanes];
    for (size_t s = 0; s < kSteps; ++s) {
      for (size_t i = 0; i < kLanes; ++i) signs[i] = (i >> s & 1) != 0 ? -1.0f : 1.0f;
      sign[s] = load(signs);
    }
  }
  V apply(V v) const {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSteps; ++s) v = fma(v, sign[s], swap_lanes(v, size_t{1} << s));
    return v;
  }
  static constexpr size_t kSteps = kLanes == 8 ? 3 : 4;
  V sign[kSteps];
};

// n < kLanes.
static void hadamard_of_few(float* x, size_t n) {
  for (size_t step = 1; step < n; step *= 2)
    for (size_t i = 0; i < n; i += 2 * step)
      for (size_t j = i; j < i + step; ++j) {
        const float a = x[j], b = x[j + step];
        x[j] = a + b;
        x[j + step] = a - b;
      }
}

static void hadamard(float* x, size_t n) noexcept {
  size_t step = kLanes;
  if (n < kLanes) {
    hadamard_of_few(x, n);
  } else {
    const LaneButterflies lanes;
    for (size_t i = 0; i < n; i += kLanes) store(x + i, lanes.apply(load(x + i)));
  }
  for (; 4 * step <= n; step *= 4)  // two steps in one pass
    for (size_t i = 0; i < n; i += 4 * step)
      for (size_t j = i; j < i + step; j += kLanes) {
        const V a = load(x + j), b = load(x + j + step);
        const V c = load(x + j + 2 * step), d = load(x + j + 3 * step);
        const V ab = add(a, b), cd = add(c, d), a_b = sub(a, b), c_d = sub(c, d);
        store(x + j, add(ab, cd));
        store(x + j + step, add(a_b, c_d));
        store(x + j + 2 * step, sub(ab, cd));
        store(x + j + 3 * step, sub(a_b, c_d));
      }
  if (2 * step <= n)
    for (size_t j = 0; j < step; j += kLanes) {
      const V a = load(x + j), b = load(x + j + step);
      store(x + j, add(a, b));
      store(x + j + step, sub(a, b));
    }
  const V norm = set1(1.0f / __builtin_sqrtf(static_cast<float>(n)));
  for (size_t i = 0; i < n; i += kLanes) {
    const size_t rest = n - i < kLanes ? n - i : kLanes;
    store_head(x + i, mul(load_head(x + i, rest), norm), rest);
  }
}

static RowCodes int8_codes(const float* x, size_t k, int8_t* q) noexcept {
  const float scale = token_scale(x, k);
  const V s = set1(scale), hi = set1(127.0f), lo = set1(-127.0f);
  V squares = zero(), errors = zero();
  for (size_t i = 0; i < k; i += kLanes) {
    const size_t n = k - i < kLanes ? k - i : kLanes;
    const V v = load_head(x + i, n);
    const V code = min(max(round(div(v, s)), lo), hi);
    const V error = fma(code, sub(zero(), s), v);
    squares = fma(v, v, squares);
    errors = fma(error, error, errors);
    store_i8(q + i, code, n);
  }
  return {scale, __builtin_sqrtf(sum(squares)), __builtin_sqrtf(sum(errors))};
}

static void add_bounds(float* y, const float* a, const float* b, float x, float e,
                       size_t n) noexcept {
  const V by_a = set1(x), by_b = set1(e);
  for (size_t i = 0; i < n; i += kLanes) {
    const size_t rest = n - i < kLanes ? n - i : kLanes;
    const V bound = fma(by_a, load_head(a + i, rest), mul(by_b, load_head(b + i, rest)));
    store_head(y + i, add(load_head(y + i, rest), bound), rest);
  }
}

static void block_maxima(const float* x, size_t n, float* maxima) noexcept {
  for (size_t i = 0; i < n; i += kMaximumBlock, ++maxima) {
    const size_t end = n - i < kMaximumBlock ? n : i + kMaximumBlock;
    V top = set1(-__builtin_inff());
    size_t j = i;
    for (; j + kLanes <= end; j += kLanes) top = max(load(x + j), top);
    *maxima = maximum(top);
    for (; j < end; ++j) *maxima = x[j] > *maxima ? x[j] : *maxima;
  }
}
