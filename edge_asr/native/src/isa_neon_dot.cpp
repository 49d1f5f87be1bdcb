// NEON with dot products (SDOT, UDOT): four products of bytes a lane, both signed or both unsigned.
#include <arm_neon.h>

#include <cstring>
#include <utility>

#include "kernel.h"

namespace edge_asr {
namespace neon_dot {

#include "lanes.h"

constexpr int kMaxRows = 6;       // with 16 channels 24 sums, of 32 registers
constexpr int kByteOffset = 128;  // rows are packed as signed bytes, for signed weights

// packed[k / 4][row][k % 4], signed
void pack(const uint8_t* const* rows, int count, int depth, uint8_t* out) {
  constexpr uint32_t kSigns = 0x80808080u;
  for (int row = 0; row < count; row++)
    for (int k = 0; k < depth; k += 4) {
      uint32_t four;
      std::memcpy(&four, rows[row] + k, sizeof four);
      four ^= kSigns;
      std::memcpy(out + k * count + 4 * row, &four, sizeof four);
    }
}

// Calls body(row) with each row as a constant, which the lane of an instruction must be.
template <int Rows, class Body>
EDGE_INLINE void each_row(Body body) {
  [&]<int... row>(std::integer_sequence<int, row...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, row>{}), ...);
  }(std::make_integer_sequence<int, Rows>{});
}

// Four bytes of up to four rows.
template <int Rows>
EDGE_INLINE uint8x16_t load_rows(const uint8_t* from) {
  if constexpr (Rows >= 4) {
    return vld1q_u8(from);
  } else {
    uint32_t four[4] = {};
    std::memcpy(four, from, 4 * Rows);
    return vreinterpretq_u8_u32(vld1q_u32(four));
  }
}

// Four bytes of all rows, four rows a register.
template <int Rows>
struct Step {
  uint8x16_t first, second;

  EDGE_INLINE Step of(const uint8_t* from) {
    if constexpr (Rows > 4)
      return {vld1q_u8(from), load_rows<Rows - 4>(from + 16)};
    else
      return {load_rows<Rows>(from), vdupq_n_u8(0)};
  }

  template <int Row>
  __attribute__((always_inline)) uint8x16_t holding() const {
    return Row < 4 ? first : second;
  }
};

template <int Rows>
struct Tile8 {
  EDGE_INLINE void run(const uint8_t* packed, int depth, const int8_t* weights, const int8_t* ahead,
                       int32_t (*sums)[kPanel]) {
    for (int half = 0; half < 2; half++) {
      int32x4_t sum[Rows][4];
      each_row<Rows>([&](auto row) __attribute__((always_inline)) {
        for (int i = 0; i < 4; i++) sum[row.value][i] = vdupq_n_s32(0);
      });
      const uint8_t* x = packed;
      const int8_t* w = weights + 64 * half;
      for (int k = 0; k < depth; k += 4, x += 4 * Rows, w += 128) {
        if (ahead) __builtin_prefetch(ahead + 32 * k + 64 * half, 0, 2);
        const int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);
        const int8x16_t w2 = vld1q_s8(w + 32), w3 = vld1q_s8(w + 48);
        const auto step = Step<Rows>::of(x);
        each_row<Rows>([&](auto row) __attribute__((always_inline)) {
          constexpr int kRow = row.value;
          const int8x16_t rows = vreinterpretq_s8_u8(step.template holding<kRow>());
          sum[kRow][0] = vdotq_laneq_s32(sum[kRow][0], w0, rows, kRow % 4);
          sum[kRow][1] = vdotq_laneq_s32(sum[kRow][1], w1, rows, kRow % 4);
          sum[kRow][2] = vdotq_laneq_s32(sum[kRow][2], w2, rows, kRow % 4);
          sum[kRow][3] = vdotq_laneq_s32(sum[kRow][3], w3, rows, kRow % 4);
        });
      }
      each_row<Rows>([&](auto row) __attribute__((always_inline)) {
        for (int i = 0; i < 4; i++)
          vst1q_s32(sums[row.value] + 16 * half + 4 * i, sum[row.value][i]);
      });
    }
  }
};

// Four bfloat16 numbers.
EDGE_INLINE float32x4_t bfloat16(const uint8_t* four) {
  return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(four)), 16));
}

// The rows' unsigned bytes again.
EDGE_INLINE uint8x16_t flip(uint8x16_t rows) { return veorq_u8(rows, vdupq_n_u8(0x80)); }

template <int Rows>
struct Tile4 {
  // Weights are stored plus 8, so each product has 8 times the sum of the row's bytes too much.
  EDGE_INLINE void excess(const uint8_t* x, int group, int32_t* rows) {
    uint32x4_t first = vdupq_n_u32(0), second = vdupq_n_u32(0);
    const uint8x16_t eight = vdupq_n_u8(8);
    for (int k = 0; k < group; k += 4, x += 4 * Rows) {
      const auto step = Step<Rows>::of(x);
      first = vdotq_u32(first, flip(step.first), eight);
      if constexpr (Rows > 4) second = vdotq_u32(second, flip(step.second), eight);
    }
    vst1q_s32(rows, vreinterpretq_s32_u32(first));
    vst1q_s32(rows + 4, vreinterpretq_s32_u32(second));
  }

  EDGE_INLINE void run(const uint8_t* packed, int depth, int group, const uint8_t* weights,
                       const uint8_t* ahead, float (*sums)[kPanel]) {
    const uint8x16_t low = vdupq_n_u8(15);
    std::memset(sums, 0, sizeof(float) * Rows * kPanel);
    // Each half of the bytes has eight channels in their low halves, and eight in their high ones.
    for (int half = 0; half < 2; half++) {
      const uint8_t *x = packed, *w = weights, *next = half == 0 ? ahead : nullptr;
      for (int begin = 0; begin < depth; begin += group) {
        int32_t too_much[8];
        excess(x, group, too_much);
        float32x4_t scale[4];
        for (int i = 0; i < 4; i++) scale[i] = bfloat16(w + 16 * half + 8 * (i % 2) + 32 * (i / 2));
        if (next) __builtin_prefetch(next, 0, 2), next += 64;
        w += 64;
        uint32x4_t sum[Rows][4];
        each_row<Rows>([&](auto row) __attribute__((always_inline)) {
          for (int i = 0; i < 4; i++) sum[row.value][i] = vdupq_n_u32(0);
        });
        for (int k = 0; k < group; k += 4, x += 4 * Rows, w += 64) {
          if (next) __builtin_prefetch(next, 0, 2), next += 64;
          const uint8x16_t both0 = vld1q_u8(w + 32 * half), both1 = vld1q_u8(w + 32 * half + 16);
          const uint8x16_t w0 = vandq_u8(both0, low), w1 = vandq_u8(both1, low);
          const uint8x16_t w2 = vshrq_n_u8(both0, 4), w3 = vshrq_n_u8(both1, 4);
          auto step = Step<Rows>::of(x);
          step.first = flip(step.first);
          step.second = flip(step.second);
          each_row<Rows>([&](auto row) __attribute__((always_inline)) {
            constexpr int kRow = row.value;
            const uint8x16_t rows = step.template holding<kRow>();
            sum[kRow][0] = vdotq_laneq_u32(sum[kRow][0], w0, rows, kRow % 4);
            sum[kRow][1] = vdotq_laneq_u32(sum[kRow][1], w1, rows, kRow % 4);
            sum[kRow][2] = vdotq_laneq_u32(sum[kRow][2], w2, rows, kRow % 4);
            sum[kRow][3] = vdotq_laneq_u32(sum[kRow][3], w3, rows, kRow % 4);
          });
        }
        each_row<Rows>([&](auto row) __attribute__((always_inline)) {
          const int32x4_t less = vdupq_n_s32(too_much[row.value]);
          for (int i = 0; i < 4; i++) {
            float* total = sums[row.value] + 8 * half + 4 * (i % 2) + 16 * (i / 2);
            const int32x4_t part = vsubq_s32(vreinterpretq_s32_u32(sum[row.value][i]), less);
            const float32x4_t scaled = vmulq_f32(vcvtq_f32_s32(part), scale[i]);
            vst1q_f32(total, vaddq_f32(vld1q_f32(total), scaled));
          }
        });
      }
    }
  }
};

#include "body.h"
#include "body_blocks.h"

}  // namespace neon_dot

extern const Kernel kNeonDot;
constinit const Kernel kNeonDot = neon_dot::table("neon_dot");

}  // namespace edge_asr
