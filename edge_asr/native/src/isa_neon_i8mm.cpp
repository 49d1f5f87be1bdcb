// NEON with I8MM: unsigned bytes times signed bytes, two rows times two channels an instruction
// (USMMLA), and one row times four channels (USDOT) for a row without a partner.
#include <arm_neon.h>

#include <cstring>

#include "kernel.h"

namespace edge_asr {
namespace neon_i8mm {

#include "lanes.h"

constexpr int kMaxRows = 8;  // with 8 channels 16 sums, of 32 registers
constexpr int kByteOffset = 0;

// packed[k / 8][row][k % 8]: two rows side by side are one operand
void pack(const uint8_t* const* rows, int count, int depth, uint8_t* out) {
  for (int row = 0; row < count; row++)
    for (int k = 0; k < depth; k += 8) std::memcpy(out + k * count + 8 * row, rows[row] + k, 8);
}

EDGE_INLINE int8x16_t zip_low(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

EDGE_INLINE int8x16_t zip_high(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

// Sums of some rows over eight channels, two times four.
template <int Rows>
struct Sums {
  static constexpr int kPairs = Rows / 2;
  static constexpr bool kLone = Rows % 2 != 0;

  int32x4_t pair[kPairs + 1][4];  // two rows times channels 2i and 2i + 1
  int32x4_t lone[2];              // the last row times channels 4i to 4i + 3

  __attribute__((always_inline)) void clear() {
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; i++)
      for (int j = 0; j < 4; j++) pair[i][j] = vdupq_n_s32(0);
    lone[0] = lone[1] = vdupq_n_s32(0);
  }

  // x [Rows][8] times channels [4][4] of four inputs, and of the next four.
  __attribute__((always_inline)) void add(const uint8_t* x, const int8x16_t (&now)[2],
                                          const int8x16_t (&next)[2]) {
    int8x16_t channels[4];
    for (int i = 0; i < 2; i++) {
      channels[2 * i] = zip_low(now[i], next[i]);
      channels[2 * i + 1] = zip_high(now[i], next[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; i++) {
      const uint8x16_t rows = vld1q_u8(x + 16 * i);
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) pair[i][j] = vusmmlaq_s32(pair[i][j], rows, channels[j]);
    }
    if constexpr (kLone) {
      const uint8x8_t row = vld1_u8(x + 16 * kPairs);
      const uint8x16_t eight = vcombine_u8(row, row);
      const uint8x16_t first =
          vreinterpretq_u8_u32(vdupq_laneq_u32(vreinterpretq_u32_u8(eight), 0));
      const uint8x16_t second =
          vreinterpretq_u8_u32(vdupq_laneq_u32(vreinterpretq_u32_u8(eight), 1));
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++)
        lone[i] = vusdotq_s32(vusdotq_s32(lone[i], first, now[i]), second, next[i]);
    }
  }

  // Calls take(row, i, four): the sums of a row over channels 4i to 4i + 3.
  template <class Take>
  __attribute__((always_inline)) void each(Take take) const {
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; i++)
#pragma GCC unroll 2
      for (int j = 0; j < 2; j++) {
        const int64x2_t a = vreinterpretq_s64_s32(pair[i][2 * j]);
        const int64x2_t b = vreinterpretq_s64_s32(pair[i][2 * j + 1]);
        take(2 * i, j, vreinterpretq_s32_s64(vzip1q_s64(a, b)));
        take(2 * i + 1, j, vreinterpretq_s32_s64(vzip2q_s64(a, b)));
      }
    if constexpr (kLone)
      for (int j = 0; j < 2; j++) take(Rows - 1, j, lone[j]);
  }
};

template <int Rows>
struct Tile8 {
  EDGE_INLINE void run(const uint8_t* packed, int depth, const int8_t* weights, const int8_t* ahead,
                       int32_t (*sums)[kPanel]) {
    for (int quarter = 0; quarter < 4; quarter++) {
      Sums<Rows> sum;
      sum.clear();
      const uint8_t* x = packed;
      const int8_t* w = weights + 32 * quarter;
      for (int k = 0; k < depth; k += 8, x += 8 * Rows, w += 256) {
        if (ahead) __builtin_prefetch(ahead + 32 * k + 64 * quarter, 0, 2);
        const int8x16_t now[2] = {vld1q_s8(w), vld1q_s8(w + 16)};
        const int8x16_t next[2] = {vld1q_s8(w + 128), vld1q_s8(w + 144)};
        sum.add(x, now, next);
      }
      sum.each([&](int row, int i, int32x4_t four) __attribute__((always_inline)) {
        vst1q_s32(sums[row] + 8 * quarter + 4 * i, four);
      });
    }
  }
};

// Four bfloat16 numbers.
EDGE_INLINE float32x4_t bfloat16(const uint8_t* four) {
  return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(four)), 16));
}

// Sixteen times the weights in the low and in the high halves of bytes: no product of a group,
// 128 * 255 * 128, comes near the end of its range, and dividing by 16 at its end is exact.
EDGE_INLINE void unpack(const uint8_t* bytes, int8x16_t (&out)[2]) {
  const uint8x16_t both = veorq_u8(vld1q_u8(bytes), vdupq_n_u8(0x88));
  out[0] = vreinterpretq_s8_u8(vshlq_n_u8(both, 4));
  out[1] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(0xF0)));
}

template <int Rows>
struct Tile4 {
  EDGE_INLINE void run(const uint8_t* packed, int depth, int group, const uint8_t* weights,
                       const uint8_t* ahead, float (*sums)[kPanel]) {
    std::memset(sums, 0, sizeof(float) * Rows * kPanel);
    // Each quarter of the bytes has four channels in their low halves, and four in their high ones.
    for (int quarter = 0; quarter < 4; quarter++) {
      const uint8_t *x = packed, *w = weights, *line = quarter == 0 ? ahead : nullptr;
      for (int begin = 0; begin < depth; begin += group) {
        const float32x4_t scale[2] = {bfloat16(w + 8 * quarter), bfloat16(w + 8 * quarter + 32)};
        if (line) __builtin_prefetch(line, 0, 2), line += 64;
        w += 64;
        Sums<Rows> sum;
        sum.clear();
        for (int k = 0; k < group; k += 8, x += 8 * Rows, w += 128) {
          if (line)
            __builtin_prefetch(line, 0, 2), __builtin_prefetch(line + 64, 0, 2), line += 128;
          int8x16_t now[2], next[2];
          unpack(w + 16 * quarter, now);
          unpack(w + 16 * quarter + 64, next);
          sum.add(x, now, next);
        }
        sum.each([&](int row, int i, int32x4_t four) __attribute__((always_inline)) {
          float* total = sums[row] + 4 * quarter + 16 * i;
          const float32x4_t part = vcvtq_f32_s32(vshrq_n_s32(four, 4));
          vst1q_f32(total, vaddq_f32(vld1q_f32(total), vmulq_f32(part, scale[i])));
        });
      }
    }
  }
};

#include "body.h"
#include "body_blocks.h"

}  // namespace neon_i8mm

extern const Kernel kNeonI8mm;
constinit const Kernel kNeonI8mm = neon_i8mm::table("neon_i8mm");

}  // namespace edge_asr
