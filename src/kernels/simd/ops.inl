// Algorithms over the vector V of a set and the functions of its vec.h, and no intrinsics: the text
// is every set's that has such a file. Included inside `namespace octet::kernels::<set> { namespace
// {` after vec.h; everything here gets internal linkage in that namespace.

// e^x with about 2 ulp; x is clamped to [-87, 88]. Range reduction by ln 2 in two parts
// (Cody and Waite), then a degree-6 Taylor-like polynomial on [-ln2/2, ln2/2].
static inline V exp_v(V x) {
  x = max(min(x, set1(88.0f)), set1(-87.0f));
  const V n = round(mul(x, set1(1.44269504088896341f)));
  V r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  V p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = fma(mul(r, r), p, add(r, set1(1.0f)));
  return scale_by_pow2(p, n);
}

static void rms_norm(const float* x, const float* w, const float* b, size_t n, float eps,
                     float* y) noexcept {
  V acc0 = zero(), acc1 = zero();
  size_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const V a = load(x + i), c = load(x + i + kLanes);
    acc0 = fma(a, a, acc0);
    acc1 = fma(c, c, acc1);
  }
  for (; i < n; i += kLanes) {
    const V a = load_head(x + i, n - i < kLanes ? n - i : kLanes);
    acc0 = fma(a, a, acc0);
  }
  const float mean = sum(add(acc0, acc1)) / static_cast<float>(n);
  const V r = set1(1.0f / __builtin_sqrtf(mean + eps));
  for (i = 0; i + kLanes <= n; i += kLanes) {
    V v = mul(mul(load(x + i), r), load(w + i));
    if (b != nullptr) v = add(v, load(b + i));
    store(y + i, v);
  }
  if (i < n) {
    const size_t rest = n - i;
    V v = mul(mul(load_head(x + i, rest), r), load_head(w + i, rest));
    if (b != nullptr) v = add(v, load_head(b + i, rest));
    store_head(y + i, v, rest);
  }
}

static void rope(float* x, const float* cos, const float* sin, size_t head_dim) noexcept {
  const size_t half = head_dim / 2;
  for (size_t i = 0; i < half; i += kLanes) {
    const size_t n = half - i < kLanes ? half - i : kLanes;
    const V a = load_head(x + i, n), b = load_head(x + half + i, n);
    const V c = load_head(cos + i, n), s = load_head(sin + i, n);
    store_head(x + i, sub(mul(a, c), mul(b, s)), n);
    store_head(x + half + i, add(mul(b, c), mul(a, s)), n);
  }
}

static void silu_mul(const float* gate, const float* up, size_t n, float* out) noexcept {
  const V one = set1(1.0f);
  for (size_t i = 0; i < n; i += kLanes) {
    const size_t k = n - i < kLanes ? n - i : kLanes;
    const V g = load_head(gate + i, k);
    const V y = div(g, add(one, exp_v(sub(zero(), g))));
    store_head(out + i, mul(y, load_head(up + i, k)), k);
  }
}

static void softmax_weights(float* x, size_t n, float largest, float inverse) noexcept {
  const V least = exp_v(set1(-87.0f));  // what exp_v holds smaller numbers at
  for (size_t i = 0; i < n; i += kLanes) {
    const size_t k = n - i < kLanes ? n - i : kLanes;
    const V e = exp_v(mul(sub(load_head(x + i, k), set1(largest)), set1(inverse)));
    store_head(x + i, max(sub(e, least), zero()), k);
  }
}

// Element access by storage type; the load takes kLanes elements.
struct LoadF32 {
  using T = float;
  static V vec(const T* p) { return load(p); }
};
struct LoadF16 {
  using T = uint16_t;
  static V vec(const T* p) { return from_f16(p); }
};
struct LoadBF16 {
  using T = uint16_t;
  static V vec(const T* p) { return from_bf16(p); }
};
struct LoadI8 {
  using T = int8_t;
  static V vec(const T* p) { return from_i8(p); }
};

static inline uint16_t to_bf16(float v) {
  uint32_t u;
  __builtin_memcpy(&u, &v, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline int8_t to_int8(float v) {  // NaN gives -128
  const float q = __builtin_nearbyintf(v);
  return static_cast<int8_t>(q > -128.0f ? (q < 127.0f ? q : 127.0f) : -128.0f);
}

static void kv_store(const float* k, const float* v, size_t head_dim, size_t slot, FloatType type,
                     void* k_page, void* v_page) noexcept {
  const auto fill = [&](auto* kp, auto* vp, auto convert) {
    for (size_t d = 0; d < head_dim; ++d) {
      kp[d * kBlockTokens + slot] = convert(k[d]);
      vp[slot * head_dim + d] = convert(v[d]);
    }
  };
  if (type == FloatType::kF32)
    fill(static_cast<float*>(k_page), static_cast<float*>(v_page), [](float f) { return f; });
  else if (type == FloatType::kF16)
    fill(static_cast<uint16_t*>(k_page), static_cast<uint16_t*>(v_page), to_f16);
  else if (type == FloatType::kBF16)
    fill(static_cast<uint16_t*>(k_page), static_cast<uint16_t*>(v_page), to_bf16);
  else
    fill(static_cast<int8_t*>(k_page), static_cast<int8_t*>(v_page), to_int8);
}
