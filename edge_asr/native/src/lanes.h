// Sixteen floats at a time, on any processor.
//
// Compilers turn these into whatever vectors the file is compiled for. No fused multiply-add and no
// reassociation (-ffp-contract=off), so that every instruction set computes the same bits.
//
// Included inside the namespace of one instruction set: nothing here may be shared between files
// that are compiled for different processors.

using Float16 = float __attribute__((vector_size(64)));
using Int16 = int32_t __attribute__((vector_size(64)));
using Byte16 = uint8_t __attribute__((vector_size(16)));

constexpr int kLanes = 16;

#define EDGE_INLINE static inline __attribute__((always_inline))

EDGE_INLINE Float16 load(const float* from) {
  Float16 x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

EDGE_INLINE Int16 load(const int32_t* from) {
  Int16 x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

EDGE_INLINE void store(float* to, Float16 x) { std::memcpy(to, &x, sizeof x); }

EDGE_INLINE Float16 splat(float x) { return Float16{} + x; }

// Where x is not a number these give the bound, and of two zeros too. Compilers make a comparison
// and a choice of it, where one instruction does just that.
#if defined(__AVX512F__)
EDGE_INLINE Float16 smaller(Float16 x, Float16 bound) {
  return reinterpret_cast<Float16>(
      _mm512_min_ps(reinterpret_cast<__m512>(x), reinterpret_cast<__m512>(bound)));
}
EDGE_INLINE Float16 larger(Float16 x, Float16 bound) {
  return reinterpret_cast<Float16>(
      _mm512_max_ps(reinterpret_cast<__m512>(x), reinterpret_cast<__m512>(bound)));
}
#else
EDGE_INLINE Float16 smaller(Float16 x, Float16 bound) { return x < bound ? x : bound; }
EDGE_INLINE Float16 larger(Float16 x, Float16 bound) { return x > bound ? x : bound; }
#endif

EDGE_INLINE Float16 to_float(Int16 x) { return __builtin_convertvector(x, Float16); }
EDGE_INLINE Int16 bits(Float16 x) { return reinterpret_cast<Int16>(x); }
EDGE_INLINE Float16 from_bits(Int16 x) { return reinterpret_cast<Float16>(x); }

// Adding it rounds to a whole number, half to even, for |x| < 2^22.
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23
EDGE_INLINE Float16 round_even(Float16 x) { return (x + kRounder) - kRounder; }

// The whole number that x holds exactly, for |x| < 2^22.
EDGE_INLINE Int16 to_int(Float16 x) { return bits(x + kRounder) - 0x4B400000; }

EDGE_INLINE float sum(Float16 x) {
  float part[kLanes];
  std::memcpy(part, &x, sizeof part);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) part[i] += part[i + width];
  return part[0];
}

EDGE_INLINE float smallest(Float16 x) {
  float part[kLanes];
  std::memcpy(part, &x, sizeof part);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) part[i] = part[i + width] < part[i] ? part[i + width] : part[i];
  return part[0];
}

EDGE_INLINE float largest(Float16 x) { return -smallest(-x); }

// Not a number where x is none, as in torch.
EDGE_INLINE Float16 relu(Float16 x) { return larger(splat(0.0f), x); }

// exp(x), to two last bits, for finite x; clamped where the result would leave float's range. Not a
// number where x is none.
// Cody-Waite reduction and the polynomial of Cephes' expf.
EDGE_INLINE Float16 exponential(Float16 x) {
  x = larger(splat(-87.0f), smaller(splat(88.0f), x));
  Float16 n = round_even(x * 1.44269504f);
  Float16 r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Float16 p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * from_bits((to_int(n) + 127) << 23);
}

EDGE_INLINE Float16 silu(Float16 x) { return x / (1.0f + exponential(-x)); }
