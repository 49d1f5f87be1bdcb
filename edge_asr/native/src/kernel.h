// What one instruction set offers: the arithmetic on rows and panels, behind a table of functions.
//
// A row of activations is quantized to bytes with a scale and a zero point (quant/linear.py).
// Weights come in panels of 32 output channels. A tile is up to `max_rows` packed rows times one
// panel.
#pragma once

#include <cstdint>

namespace edge_asr {

constexpr int kPanel = 32;         // output channels of a panel
constexpr int kDepthMultiple = 8;  // depths are padded to it with weights of zero
constexpr int kMaxTileRows = 8;

// Where row number `row` begins in rows of `width` numbers, or how many numbers so many rows have.
// 64 bits, so that no product overflows. Static, because every instruction set compiles its own.
static inline int64_t at(int64_t row, int64_t width) { return row * width; }

enum class Activation : int32_t { kNone = 0, kRelu = 1, kSilu = 2 };

// float = (byte - zero) * scale
struct RowScale {
  float scale;
  int32_t zero;
};

// Where a panel's results go, and what turns sums into them.
struct Emit {
  const RowScale* rows;     // of each row of the tile
  const float* scale;       // of each of the 32 channels
  const int32_t* sum;       // int8: sum of each channel's weights
  const float* scaled_sum;  // int4: sum of each channel's scaled weights
  const float* bias;
  Activation activation;
  int channels;  // of the 32, how many exist
  // One pointer for each row. With `gates` the result times the row's gate is added there, else
  // the result is stored.
  float* const* out;
  const float* gates;
};

// Keys and values of one head: those of the cache, then those of this call.
struct Cached {
  const float* keys[2];
  const float* values[2];
  int frames[2];
};

// Filled by `table` in body_blocks.h.
struct Kernel {
  const char* name;
  int max_rows;

  // row (depth,) to bytes (padded,); the padding gets the zero point.
  RowScale (*quantize)(const float* row, int depth, int padded, uint8_t* out);

  // rows[i] (depth,) bytes into the order that a tile reads; depth * count bytes.
  void (*pack)(const uint8_t* const* rows, int count, int depth, uint8_t* out);

  // One tile. `ahead` is what will be read next, as long as `weights`, or nullptr.
  void (*tile8)(const uint8_t* packed, int count, int depth, const int8_t* weights,
                const int8_t* ahead, const Emit& emit);
  // int4: group is 32, 64 or 128; see weights.h for the order of nibbles and scales.
  void (*tile4)(const uint8_t* packed, int count, int depth, int group, const uint8_t* weights,
                const uint8_t* ahead, const Emit& emit);

  // logits[e] = row . router[e]
  void (*route)(const float* row, const float* router, int depth, int experts, float* logits);

  // Softmax over `count` logits, in place.
  void (*softmax)(float* logits, int count);

  // Layer norm of a row (n,), with epsilon 1e-5.
  void (*normalize)(const float* row, const float* scale, const float* shift, int n, float* out);
  // y = x + factor * y
  void (*add)(const float* x, float factor, int n, float* y);
  // out = a * sigmoid(b) - rest
  void (*glu)(const float* a, const float* b, const float* rest, int n, float* out);
  // out = scale * x + shift, or the layer norm of x; then the activation.
  void (*norm_activate)(const float* x, const float* scale, const float* shift, bool layer_norm,
                        Activation activation, int n, float* out);
  // out (n,) = bias + sum over k of weights[k] * (window[k] + rest), window (kernel, n)
  void (*depthwise)(const float* window, const float* weights, const float* bias, const float* rest,
                    int kernel, int n, float* out);
  // key = k + position, (width,); returns u . k + v . position
  float (*place_key)(const float* k, const float* position, const float* u, const float* v,
                     int width, float* key);
  // One head: rows of q (count, width) attend to all frames but the first `hidden`. score (frames,)
  // is added before scaling by 1 / sqrt(width). Rows of q are `stride` apart, of out `out_stride`.
  // scratch: attend_scratch(...) floats.
  void (*attend)(const float* q, int count, int stride, const Cached& cached, const float* score,
                 int hidden, int width, float* out, int out_stride, float* scratch);
  // relu(bias + 3x3 window of x times weights[9][n]), x with rows of `width`.
  void (*convolve)(const float* x, int width, const float* weights, const float* bias, int n,
                   float* out);
};

// Floats of `attend`'s scratch.
int64_t attend_scratch(int frames, int width);

// Those that this file was built with, fastest first, whether or not the processor can run them.
struct KernelEntry {
  const Kernel* kernel;
  bool (*supported)();
};
const KernelEntry* kernels(int* count);

// The fastest that this processor can run.
const Kernel& best_kernel();

// By name; nullptr where it was not built or the processor cannot run it.
const Kernel* find_kernel(const char* name);

}  // namespace edge_asr
