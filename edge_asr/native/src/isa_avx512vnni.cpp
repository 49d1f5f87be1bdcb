// AVX-512 with VNNI: unsigned bytes times signed bytes, four products a lane.
#include <immintrin.h>

#include <cstring>

#include "kernel.h"

namespace edge_asr {
namespace avx512vnni {

#include "lanes.h"

constexpr int kMaxRows = 8;  // 16 sums of 32 registers; gcc 12 spills from 12 rows
constexpr int kByteOffset = 0;

// With few rows the processor's own prefetcher keeps up best. With more, the next panel is brought
// into the second-level cache while this one is multiplied.
constexpr int kPrefetchRows = 3;

template <int Rows>
EDGE_INLINE void prefetch(const void* ahead) {
  if constexpr (Rows >= kPrefetchRows)
    if (ahead) _mm_prefetch(static_cast<const char*>(ahead), _MM_HINT_T1);
}

// packed[k / 4][row][k % 4]: a tile reads one line after another, whatever the stride of the rows
void pack(const uint8_t* const* rows, int count, int depth, uint8_t* out) {
  for (int row = 0; row < count; row++)
    for (int k = 0; k < depth; k += 4) std::memcpy(out + k * count + 4 * row, rows[row] + k, 4);
}

EDGE_INLINE __m512i broadcast(const uint8_t* four) {
  int32_t value;
  std::memcpy(&value, four, sizeof value);
  return _mm512_set1_epi32(value);
}

template <int Rows>
struct Tile8 {
  EDGE_INLINE void run(const uint8_t* packed, int depth, const int8_t* weights, const int8_t* ahead,
                       int32_t (*sums)[kPanel]) {
    __m512i sum[Rows][2];
#pragma GCC unroll 8
    for (int row = 0; row < Rows; row++) sum[row][0] = sum[row][1] = _mm512_setzero_si512();
    for (int k = 0; k < depth; k += 4) {
      const __m512i w0 = _mm512_loadu_si512(weights), w1 = _mm512_loadu_si512(weights + 64);
      prefetch<Rows>(ahead);
      prefetch<Rows>(ahead ? ahead + 64 : nullptr);
      weights += 128;
      if (ahead) ahead += 128;
#pragma GCC unroll 8
      for (int row = 0; row < Rows; row++) {
        const __m512i x = broadcast(packed + 4 * row);
        sum[row][0] = _mm512_dpbusd_epi32(sum[row][0], x, w0);
        sum[row][1] = _mm512_dpbusd_epi32(sum[row][1], x, w1);
      }
      packed += 4 * Rows;
    }
#pragma GCC unroll 8
    for (int row = 0; row < Rows; row++) {
      _mm512_store_si512(sums[row], sum[row][0]);
      _mm512_store_si512(sums[row] + kLanes, sum[row][1]);
    }
  }
};

EDGE_INLINE __m512 bfloat16(const uint8_t* sixteen) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sixteen));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

template <int Rows>
struct Tile4 {
  EDGE_INLINE void run(const uint8_t* packed, int depth, int group, const uint8_t* weights,
                       const uint8_t* ahead, float (*sums)[kPanel]) {
    const __m512i low = _mm512_set1_epi8(15), eight = _mm512_set1_epi8(8);
    // With many rows the totals stay in memory: beside the sums of a group there is no room.
    constexpr bool kTotalsInRegisters = Rows <= 6;
    __m512 total[Rows][2];
#pragma GCC unroll 8
    for (int row = 0; row < Rows; row++) total[row][0] = total[row][1] = _mm512_setzero_ps();
    if constexpr (!kTotalsInRegisters) std::memset(sums, 0, sizeof(float) * Rows * kPanel);
    for (int begin = 0; begin < depth; begin += group) {
      const __m512 scale0 = bfloat16(weights), scale1 = bfloat16(weights + 32);
      prefetch<Rows>(ahead);
      weights += 64;
      if (ahead) ahead += 64;
      __m512i sum[Rows][2];
#pragma GCC unroll 8
      for (int row = 0; row < Rows; row++) sum[row][0] = sum[row][1] = _mm512_setzero_si512();
      for (int k = 0; k < group; k += 4) {
        const __m512i both = _mm512_loadu_si512(weights);
        prefetch<Rows>(ahead);
        weights += 64;
        if (ahead) ahead += 64;
        const __m512i w0 = _mm512_sub_epi8(_mm512_and_si512(both, low), eight);
        const __m512i w1 =
            _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(both, 4), low), eight);
#pragma GCC unroll 8
        for (int row = 0; row < Rows; row++) {
          const __m512i x = broadcast(packed + 4 * row);
          sum[row][0] = _mm512_dpbusd_epi32(sum[row][0], x, w0);
          sum[row][1] = _mm512_dpbusd_epi32(sum[row][1], x, w1);
        }
        packed += 4 * Rows;
      }
#pragma GCC unroll 8
      for (int row = 0; row < Rows; row++) {
        const __m512 part0 = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[row][0]), scale0);
        const __m512 part1 = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[row][1]), scale1);
        if constexpr (kTotalsInRegisters) {
          total[row][0] = _mm512_add_ps(total[row][0], part0);
          total[row][1] = _mm512_add_ps(total[row][1], part1);
        } else {
          float* kept = sums[row];
          _mm512_store_ps(kept, _mm512_add_ps(_mm512_load_ps(kept), part0));
          _mm512_store_ps(kept + kLanes, _mm512_add_ps(_mm512_load_ps(kept + kLanes), part1));
        }
      }
    }
    if constexpr (kTotalsInRegisters) {
#pragma GCC unroll 8
      for (int row = 0; row < Rows; row++) {
        _mm512_store_ps(sums[row], total[row][0]);
        _mm512_store_ps(sums[row] + kLanes, total[row][1]);
      }
    }
  }
};

#include "body.h"
#include "body_blocks.h"

}  // namespace avx512vnni

extern const Kernel kAvx512Vnni;
constinit const Kernel kAvx512Vnni = avx512vnni::table("avx512vnni");

}  // namespace edge_asr
