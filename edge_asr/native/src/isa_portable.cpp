// Plain C++: the reference that every other kernel must equal bit for bit.
#include <cstring>

#include "kernel.h"

namespace edge_asr {
namespace portable {

#include "lanes.h"

constexpr int kMaxRows = 4;
constexpr int kByteOffset = 0;

// packed[k / 4][row][k % 4]
void pack(const uint8_t* const* rows, int count, int depth, uint8_t* out) {
  for (int k = 0; k < depth; k += 4)
    for (int row = 0; row < count; row++, out += 4) std::memcpy(out, rows[row] + k, 4);
}

template <int Rows>
struct Tile8 {
  static void run(const uint8_t* packed, int depth, const int8_t* weights, const int8_t*,
                  int32_t (*sums)[kPanel]) {
    std::memset(sums, 0, sizeof(int32_t) * Rows * kPanel);
    for (int k = 0; k < depth; k += 4, packed += 4 * Rows, weights += 4 * kPanel)
      for (int row = 0; row < Rows; row++)
        for (int channel = 0; channel < kPanel; channel++)
          for (int i = 0; i < 4; i++)
            sums[row][channel] += packed[4 * row + i] * weights[4 * channel + i];
  }
};

template <int Rows>
struct Tile4 {
  static void run(const uint8_t* packed, int depth, int group, const uint8_t* weights,
                  const uint8_t*, float (*sums)[kPanel]) {
    std::memset(sums, 0, sizeof(float) * Rows * kPanel);
    for (int begin = 0; begin < depth; begin += group) {
      int32_t part[Rows][kPanel] = {};
      const uint8_t* scales = weights;
      weights += 2 * kPanel;
      for (int k = 0; k < group; k += 4, packed += 4 * Rows, weights += 2 * kPanel)
        for (int row = 0; row < Rows; row++)
          for (int channel = 0; channel < kLanes; channel++)
            for (int i = 0; i < 4; i++) {
              const uint8_t byte = weights[4 * channel + i];
              part[row][channel] += packed[4 * row + i] * ((byte & 15) - 8);
              part[row][channel + kLanes] += packed[4 * row + i] * ((byte >> 4) - 8);
            }
      for (int channel = 0; channel < kPanel; channel++) {
        const uint32_t high = static_cast<uint32_t>(scales[2 * channel]) << 16 |
                              static_cast<uint32_t>(scales[2 * channel + 1]) << 24;
        float scale;
        std::memcpy(&scale, &high, sizeof scale);  // bfloat16
        for (int row = 0; row < Rows; row++)
          sums[row][channel] += static_cast<float>(part[row][channel]) * scale;
      }
    }
  }
};

#include "body.h"
#include "body_blocks.h"

}  // namespace portable

extern const Kernel kPortable;
constinit const Kernel kPortable = portable::table("portable");

}  // namespace edge_asr
