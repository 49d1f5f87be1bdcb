// The part of a kernel that is the same for every instruction set, written on `Float16`:
// quantizing rows, tiles from their sums to the results, routing to experts.
//
// It has no include guard: each isa_*.cpp includes it inside its own namespace, so that it is
// compiled once for each instruction set. Before that the file has defined
//     constexpr int kMaxRows;     rows of its largest tile
//     constexpr int kByteOffset;  what packed bytes are too small by (128 where they are signed)
//     Tile8<rows>::run(packed, depth, weights, ahead, sums)         int32 sums[rows][32]
//     Tile4<rows>::run(packed, depth, group, weights, ahead, sums)  float sums[rows][32]
//     pack(rows, count, depth, out)
// and afterwards it defines `quantize`, `tile8`, `tile4`, `route` and `softmax` of struct Kernel.

RowScale quantize(const float* row, int depth, int padded, uint8_t* out) {
  Float16 low16{}, high16{};  // zero is always in the range
  Float16 nothing16{};        // zero times what is no number is none
  int i = 0;
  for (; i + kLanes <= depth; i += kLanes) {
    Float16 x = load(row + i);
    low16 = smaller(x, low16);
    high16 = larger(x, high16);
    nothing16 = nothing16 + x * 0.0f;
  }
  float low = smallest(low16), high = largest(high16), nothing = sum(nothing16);
  for (int rest = i; rest < depth; rest++) {
    low = row[rest] < low ? row[rest] : low;
    high = row[rest] > high ? row[rest] : high;
    nothing += row[rest] * 0.0f;
  }
  float scale = (high - low) / 255.0f;
  if (!(scale >= 1e-8f)) scale = 1e-8f;
  if (!(nothing == 0.0f)) scale = __builtin_nanf("");  // bytes would hide that a row is not finite
  // -255 to 0, and 0 where such a row leaves no number.
  float lowest = larger(smaller(round_even(splat(low / scale)), splat(0.0f)), splat(-255.0f))[0];
  RowScale result{scale, -static_cast<int32_t>(lowest)};
  const Float16 zero = splat(-lowest), most = splat(255.0f), none = splat(0.0f);
  auto byte16 = [&](Float16 x) __attribute__((always_inline)) {
    Float16 y = smaller(round_even(x / scale) + zero, most);
    return __builtin_convertvector(to_int(larger(y, none)), Byte16);
  };
  for (i = 0; i + kLanes <= depth; i += kLanes) {
    Byte16 bytes = byte16(load(row + i));
    std::memcpy(out + i, &bytes, sizeof bytes);
  }
  if (i < depth) {
    float rest[kLanes] = {};
    std::memcpy(rest, row + i, sizeof(float) * (depth - i));
    Byte16 bytes = byte16(load(rest));
    std::memcpy(out + i, &bytes, depth - i);
  }
  std::memset(out + depth, result.zero, padded - depth);
  return result;
}

// y = activation(scaled sum + bias), stored or added; what is left of a panel at the end of a layer
// is written channel by channel.
EDGE_INLINE void emit_half(const Emit& emit, int row, int first, Float16 y) {
  y = y + load(emit.bias + first);
  if (emit.activation == Activation::kRelu) y = relu(y);
  if (emit.activation == Activation::kSilu) y = silu(y);
  float* out = emit.out[row] + first;
  const int channels = emit.channels - first;
  if (emit.gates) y = y * emit.gates[row];
  if (channels >= kLanes) {
    store(out, emit.gates ? load(out) + y : y);
    return;
  }
  for (int i = 0; i < channels; i++) out[i] = emit.gates ? out[i] + y[i] : y[i];
}

static void emit8(const int32_t (*sums)[kPanel], int count, const Emit& emit) {
  for (int row = 0; row < count; row++)
    for (int first = 0; first < kPanel; first += kLanes) {
      const int32_t zero = emit.rows[row].zero - kByteOffset;
      Int16 product = load(sums[row] + first) - zero * load(emit.sum + first);
      Float16 y = to_float(product) * emit.rows[row].scale * load(emit.scale + first);
      emit_half(emit, row, first, y);
    }
}

static void emit4(const float (*sums)[kPanel], int count, const Emit& emit) {
  for (int row = 0; row < count; row++) {
    const float zero = static_cast<float>(emit.rows[row].zero);
    for (int first = 0; first < kPanel; first += kLanes) {
      Float16 product = load(sums[row] + first) - zero * load(emit.scaled_sum + first);
      emit_half(emit, row, first, product * emit.rows[row].scale);
    }
  }
}

template <int Rows>
void run_tile8(const uint8_t* packed, int depth, const int8_t* weights, const int8_t* ahead,
               const Emit& emit) {
  alignas(64) int32_t sums[Rows][kPanel];
  Tile8<Rows>::run(packed, depth, weights, ahead, sums);
  emit8(sums, Rows, emit);
}

template <int Rows>
void run_tile4(const uint8_t* packed, int depth, int group, const uint8_t* weights,
               const uint8_t* ahead, const Emit& emit) {
  alignas(64) float sums[Rows][kPanel];
  Tile4<Rows>::run(packed, depth, group, weights, ahead, sums);
  emit4(sums, Rows, emit);
}

template <int Rows>
EDGE_INLINE void choose8(const uint8_t* packed, int count, int depth, const int8_t* weights,
                         const int8_t* ahead, const Emit& emit) {
  if (count == Rows) return run_tile8<Rows>(packed, depth, weights, ahead, emit);
  if constexpr (Rows > 1) choose8<Rows - 1>(packed, count, depth, weights, ahead, emit);
}

template <int Rows>
EDGE_INLINE void choose4(const uint8_t* packed, int count, int depth, int group,
                         const uint8_t* weights, const uint8_t* ahead, const Emit& emit) {
  if (count == Rows) return run_tile4<Rows>(packed, depth, group, weights, ahead, emit);
  if constexpr (Rows > 1) choose4<Rows - 1>(packed, count, depth, group, weights, ahead, emit);
}

void tile8(const uint8_t* packed, int count, int depth, const int8_t* weights, const int8_t* ahead,
           const Emit& emit) {
  choose8<kMaxRows>(packed, count, depth, weights, ahead, emit);
}

void tile4(const uint8_t* packed, int count, int depth, int group, const uint8_t* weights,
           const uint8_t* ahead, const Emit& emit) {
  choose4<kMaxRows>(packed, count, depth, group, weights, ahead, emit);
}

void route(const float* row, const float* router, int depth, int experts, float* logits) {
  for (int expert = 0; expert < experts; expert++) {
    const float* weights = router + at(expert, depth);
    Float16 total{};
    int i = 0;
    for (; i + kLanes <= depth; i += kLanes) total = total + load(row + i) * load(weights + i);
    float logit = sum(total);
    for (; i < depth; i++) logit += row[i] * weights[i];
    logits[expert] = logit;
  }
}

void softmax(float* logits, int count) {
  float most = logits[0], total = 0.0f;
  for (int i = 1; i < count; i++) most = logits[i] > most ? logits[i] : most;
  for (int i = 0; i < count; i++) {
    logits[i] = exponential(splat(logits[i] - most))[0];
    total += logits[i];
  }
  for (int i = 0; i < count; i++) logits[i] /= total;
}
