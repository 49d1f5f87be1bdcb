// The part of a kernel that the blocks of the encoder need in addition to products, and the table
// of the whole kernel. Included by each isa_*.cpp after body.h, in the same namespace.

// Calls body(i, n) for sixteen numbers at a time and what is left, loaded through small copies.
template <class Body>
EDGE_INLINE void each16(int n, Body body) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}

EDGE_INLINE Float16 load_some(const float* from, int count) {
  if (count == kLanes) return load(from);
  float some[kLanes] = {};
  std::memcpy(some, from, sizeof(float) * count);
  return load(some);
}

EDGE_INLINE void store_some(float* to, Float16 x, int count) {
  if (count == kLanes) return store(to, x);
  std::memcpy(to, &x, sizeof(float) * count);
}

void normalize(const float* row, const float* scale, const float* shift, int n, float* out) {
  Float16 total{}, squares{};
  each16(n, [&](int i, int count)
                __attribute__((always_inline)) { total = total + load_some(row + i, count); });
  const float mean = sum(total) / static_cast<float>(n);
  each16(n, [&](int i, int count) __attribute__((always_inline)) {
    // What is missing counts as the mean.
    Float16 x = load_some(row + i, count) - mean;
    if (count < kLanes)
      for (int lane = count; lane < kLanes; lane++) x[lane] = 0.0f;
    squares = squares + x * x;
  });
  const float variance = sum(squares) / static_cast<float>(n);
  const float inverse = 1.0f / __builtin_sqrtf(variance + 1e-5f);
  each16(n, [&](int i, int count) __attribute__((always_inline)) {
    Float16 x = (load_some(row + i, count) - mean) * inverse;
    store_some(out + i, x * load_some(scale + i, count) + load_some(shift + i, count), count);
  });
}

void add(const float* x, float factor, int n, float* y) {
  each16(n, [&](int i, int count) __attribute__((always_inline)) {
    store_some(y + i, load_some(x + i, count) + factor * load_some(y + i, count), count);
  });
}

void glu(const float* a, const float* b, const float* rest, int n, float* out) {
  each16(n, [&](int i, int count) __attribute__((always_inline)) {
    Float16 gate = 1.0f / (1.0f + exponential(-load_some(b + i, count)));
    store_some(out + i, load_some(a + i, count) * gate - load_some(rest + i, count), count);
  });
}

void norm_activate(const float* x, const float* scale, const float* shift, bool layer_norm,
                   Activation activation, int n, float* out) {
  if (layer_norm)
    normalize(x, scale, shift, n, out);
  else
    each16(n, [&](int i, int count) __attribute__((always_inline)) {
      store_some(
          out + i,
          load_some(x + i, count) * load_some(scale + i, count) + load_some(shift + i, count),
          count);
    });
  each16(n, [&](int i, int count) __attribute__((always_inline)) {
    Float16 y = load_some(out + i, count);
    if (activation == Activation::kRelu) y = relu(y);
    if (activation == Activation::kSilu) y = silu(y);
    store_some(out + i, y, count);
  });
}

void depthwise(const float* window, const float* weights, const float* bias, const float* rest,
               int kernel, int n, float* out) {
  each16(n, [&](int i, int count) __attribute__((always_inline)) {
    Float16 y = load_some(bias + i, count);
    const Float16 padding = load_some(rest + i, count);
    for (int k = 0; k < kernel; k++) {
      const int64_t place = at(k, n) + i;
      y = y + load_some(weights + place, count) * (load_some(window + place, count) + padding);
    }
    store_some(out + i, y, count);
  });
}

// Scores of Rows queries over 16 keys at a time: keys are transposed, so that no sum runs across
// lanes.
template <int Rows>
EDGE_INLINE void score_rows(const float* q, int stride, const float* transposed, int padded,
                            int width, const float* score, float scale, float* out) {
  for (int s = 0; s < padded; s += kLanes) {
    Float16 total[Rows];
    for (int row = 0; row < Rows; row++) total[row] = load(score + s);
    for (int i = 0; i < width; i++) {
      const Float16 key = load(transposed + at(i, padded) + s);
      for (int row = 0; row < Rows; row++) total[row] = total[row] + q[at(row, stride) + i] * key;
    }
    for (int row = 0; row < Rows; row++) store(out + at(row, padded) + s, total[row] * scale);
  }
}

// Weights (padded,) of the frames from `hidden` on, from scores; the rest become zero.
EDGE_INLINE void weigh(float* scores, int hidden, int frames, int padded) {
  for (int s = 0; s < hidden; s++) scores[s] = -1e30f;
  for (int s = frames; s < padded; s++) scores[s] = -1e30f;
  Float16 most16 = load(scores);
  for (int s = kLanes; s < padded; s += kLanes) most16 = larger(load(scores + s), most16);
  const float most = largest(most16);
  Float16 total{};
  for (int s = 0; s < padded; s += kLanes) {
    Float16 weight = exponential(load(scores + s) - most);
    store(scores + s, weight);
  }
  for (int s = 0; s < hidden; s++) scores[s] = 0.0f;
  for (int s = frames; s < padded; s++) scores[s] = 0.0f;
  for (int s = 0; s < padded; s += kLanes) total = total + load(scores + s);
  const float inverse = 1.0f / sum(total);
  for (int s = 0; s < padded; s += kLanes) store(scores + s, load(scores + s) * inverse);
}

template <int Rows>
EDGE_INLINE void mix_rows(const float* weights, int padded, const Cached& cached, int hidden,
                          int width, float* out, int stride) {
  each16(width, [&](int i, int count) __attribute__((always_inline)) {
    Float16 total[Rows];
    for (int row = 0; row < Rows; row++) total[row] = splat(0.0f);
    int s = 0;
    for (int part = 0; part < 2; part++) {
      const float* values = cached.values[part] + i;
      for (int frame = 0; frame < cached.frames[part]; frame++, s++, values += width) {
        if (s < hidden) continue;
        const Float16 value = load_some(values, count);
        for (int row = 0; row < Rows; row++)
          total[row] = total[row] + weights[at(row, padded) + s] * value;
      }
    }
    for (int row = 0; row < Rows; row++) store_some(out + at(row, stride) + i, total[row], count);
  });
}

template <int Rows>
void attend_rows(const float* q, int stride, const float* transposed, int padded,
                 const Cached& cached, const float* score, int hidden, int width, float* out,
                 int out_stride, float* scores) {
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(width));
  const int frames = cached.frames[0] + cached.frames[1];
  score_rows<Rows>(q, stride, transposed, padded, width, score, scale, scores);
  for (int row = 0; row < Rows; row++) weigh(scores + at(row, padded), hidden, frames, padded);
  mix_rows<Rows>(scores, padded, cached, hidden, width, out, out_stride);
}

constexpr int kQueryRows = 4;

void attend(const float* q, int count, int stride, const Cached& cached, const float* score,
            int hidden, int width, float* out, int out_stride, float* scratch) {
  const int frames = cached.frames[0] + cached.frames[1];
  const int padded = (frames + kLanes - 1) / kLanes * kLanes;
  float* transposed = scratch;
  float* scores = transposed + at(width, padded);
  float* own_score = scores + at(kQueryRows, padded);
  for (int s = 0; s < padded; s++) own_score[s] = s < frames ? score[s] : 0.0f;
  // Eight keys at a time, so that each line of the result is visited once for all of them.
  int s = 0;
  for (int part = 0; part < 2; part++)
    for (int frame = 0; frame < cached.frames[part];) {
      const int together = cached.frames[part] - frame < 8 ? cached.frames[part] - frame : 8;
      const float* key = cached.keys[part] + at(frame, width);
      for (int i = 0; i < width; i++)
        for (int j = 0; j < together; j++)
          transposed[at(i, padded) + s + j] = key[at(j, width) + i];
      frame += together;
      s += together;
    }
  for (; s < padded; s++)
    for (int i = 0; i < width; i++) transposed[at(i, padded) + s] = 0.0f;
  int row = 0;
  for (; row + kQueryRows <= count; row += kQueryRows)
    attend_rows<kQueryRows>(q + at(row, stride), stride, transposed, padded, cached, own_score,
                            hidden, width, out + at(row, out_stride), out_stride, scores);
  for (; row < count; row++)
    attend_rows<1>(q + at(row, stride), stride, transposed, padded, cached, own_score, hidden,
                   width, out + at(row, out_stride), out_stride, scores);
}

float place_key(const float* k, const float* position, const float* u, const float* v, int width,
                float* key) {
  Float16 total{};
  each16(width, [&](int i, int count) __attribute__((always_inline)) {
    const Float16 of_k = load_some(k + i, count), of_position = load_some(position + i, count);
    total = total + of_k * load_some(u + i, count) + of_position * load_some(v + i, count);
    store_some(key + i, of_k + of_position, count);
  });
  return sum(total);
}

void convolve(const float* x, int width, const float* weights, const float* bias, int n,
              float* out) {
  each16(n, [&](int i, int count) __attribute__((always_inline)) {
    Float16 y = load_some(bias + i, count);
    for (int k = 0; k < 9; k++)
      y = y + x[k / 3 * width + k % 3] * load_some(weights + at(k, n) + i, count);
    store_some(out + i, relu(y), count);
  });
}

constexpr Kernel table(const char* name) noexcept {
  return {
      .name = name,
      .max_rows = kMaxRows,
      .quantize = quantize,
      .pack = pack,
      .tile8 = tile8,
      .tile4 = tile4,
      .route = route,
      .softmax = softmax,
      .normalize = normalize,
      .add = add,
      .glu = glu,
      .norm_activate = norm_activate,
      .depthwise = depthwise,
      .place_key = place_key,
      .attend = attend,
      .convolve = convolve,
  };
}
