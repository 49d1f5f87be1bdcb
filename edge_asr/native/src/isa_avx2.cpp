// AVX2: bytes widened to 16 bits, because its product of bytes saturates.
#include <immintrin.h>

#include <cstring>

#include "kernel.h"

namespace edge_asr {
namespace avx2 {

#include "lanes.h"

constexpr int kMaxRows = 2;  // with 16 channels 8 sums, of 16 registers
constexpr int kByteOffset = 0;

// packed[k / 4][row][k % 4]
void pack(const uint8_t* const* rows, int count, int depth, uint8_t* out) {
  for (int row = 0; row < count; row++)
    for (int k = 0; k < depth; k += 4) std::memcpy(out + k * count + 4 * row, rows[row] + k, 4);
}

// Four bytes as 16-bit numbers, four times.
EDGE_INLINE __m256i broadcast(const uint8_t* four) {
  int32_t value;
  std::memcpy(&value, four, sizeof value);
  return _mm256_cvtepu8_epi16(_mm_set1_epi32(value));
}

EDGE_INLINE __m128i load16(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}

// sums[i] holds two sums for each of channels 4i to 4i + 3.
EDGE_INLINE void add_up(const __m256i (&sums)[4], __m256i (&out)[2]) {
  for (int i = 0; i < 2; i++)
    out[i] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums[2 * i], sums[2 * i + 1]), 0xD8);
}

template <int Rows>
struct Tile8 {
  EDGE_INLINE void run(const uint8_t* packed, int depth, const int8_t* weights, const int8_t* ahead,
                       int32_t (*sums)[kPanel]) {
    for (int half = 0; half < 2; half++) {
      __m256i sum[Rows][4];
      for (int row = 0; row < Rows; row++)
        for (int i = 0; i < 4; i++) sum[row][i] = _mm256_setzero_si256();
      const uint8_t* x = packed;
      const int8_t* w = weights + 64 * half;
      for (int k = 0; k < depth; k += 4, x += 4 * Rows, w += 128) {
        if (ahead)
          _mm_prefetch(reinterpret_cast<const char*>(ahead + 32 * k + 64 * half), _MM_HINT_T1);
        __m256i rows[Rows];
        for (int row = 0; row < Rows; row++) rows[row] = broadcast(x + 4 * row);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
          const __m256i four = _mm256_cvtepi8_epi16(load16(w + 16 * i));
#pragma GCC unroll 2
          for (int row = 0; row < Rows; row++)
            sum[row][i] = _mm256_add_epi32(sum[row][i], _mm256_madd_epi16(rows[row], four));
        }
      }
      for (int row = 0; row < Rows; row++) {
        __m256i out[2];
        add_up(sum[row], out);
        for (int i = 0; i < 2; i++)
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums[row] + 16 * half + 8 * i), out[i]);
      }
    }
  }
};

template <int Rows>
struct Tile4 {
  EDGE_INLINE void run(const uint8_t* packed, int depth, int group, const uint8_t* weights,
                       const uint8_t* ahead, float (*sums)[kPanel]) {
    const __m128i low = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    for (int half = 0; half < 2; half++) {
      __m256 total[Rows][2];
      for (int row = 0; row < Rows; row++) total[row][0] = total[row][1] = _mm256_setzero_ps();
      const uint8_t *x = packed, *w = weights, *next = ahead;
      for (int begin = 0; begin < depth; begin += group) {
        __m256 scale[2];
        for (int i = 0; i < 2; i++)
          scale[i] = _mm256_castsi256_ps(
              _mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(w + 32 * half + 16 * i)), 16));
        w += 64;
        __m256i sum[Rows][4];
        for (int row = 0; row < Rows; row++)
          for (int i = 0; i < 4; i++) sum[row][i] = _mm256_setzero_si256();
        for (int k = 0; k < group; k += 4, x += 4 * Rows, w += 64) {
          if (ahead && half == 0)
            _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1), next += 64;
          __m256i rows[Rows];
          for (int row = 0; row < Rows; row++) rows[row] = broadcast(x + 4 * row);
#pragma GCC unroll 4
          for (int i = 0; i < 4; i++) {
            const __m128i both = load16(w + 16 * i);
            const __m128i nibble = _mm_and_si128(half ? _mm_srli_epi16(both, 4) : both, low);
            const __m256i four = _mm256_cvtepi8_epi16(_mm_sub_epi8(nibble, eight));
#pragma GCC unroll 2
            for (int row = 0; row < Rows; row++)
              sum[row][i] = _mm256_add_epi32(sum[row][i], _mm256_madd_epi16(rows[row], four));
          }
        }
        if (ahead) next += 64;
        for (int row = 0; row < Rows; row++) {
          __m256i out[2];
          add_up(sum[row], out);
          for (int i = 0; i < 2; i++)
            total[row][i] =
                _mm256_add_ps(total[row][i], _mm256_mul_ps(_mm256_cvtepi32_ps(out[i]), scale[i]));
        }
      }
      for (int row = 0; row < Rows; row++)
        for (int i = 0; i < 2; i++) _mm256_storeu_ps(sums[row] + 16 * half + 8 * i, total[row][i]);
    }
  }
};

#include "body.h"
#include "body_blocks.h"

}  // namespace avx2

extern const Kernel kAvx2;
constinit const Kernel kAvx2 = avx2::table("avx2");

}  // namespace edge_asr
