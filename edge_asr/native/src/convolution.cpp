// The convolution module and the subsampling (model/convolution.py, model/subsampling.py).
#include <algorithm>
#include <cstring>

#include "blocks.h"
#include "gemm.h"

namespace edge_asr {
namespace {

// Encoder frames that are subsampled together: what the first convolution gives for them stays in
// the cache, and a whole utterance needs no more memory than a chunk.
constexpr int64_t kFramesTogether = 16;

}  // namespace

void run_convolution(const Kernel& kernel, const Layer& layer, const EdgeAsrTensor* in,
                     EdgeAsrTensor* out) {
  static thread_local Buffer<float> normed_buffer, active_buffer, wide_buffer, window_buffer;
  const int frames = static_cast<int>(in[0].shape[1]), dim = layer.in, past = layer.kernel - 1;
  const size_t rows = static_cast<size_t>(frames), row = static_cast<size_t>(dim);
  const float *x = in[0].data, *weights = layer.vectors[0], *bias = layer.vectors[1];
  const float *scale = layer.vectors[2], *shift = layer.vectors[3], *rest = layer.vectors[4];

  float* active = active_buffer.reserve(rows * row);
  float* wide = wide_buffer.reserve(rows * 2 * row);
  float* window = window_buffer.reserve((static_cast<size_t>(past) + rows) * row);
  const float* from = normed(kernel, layer, x, frames, normed_buffer);
  multiply(kernel, layer.matrices[0], from, frames, Activation::kNone, wide);
  const float* cached = in[1].data + static_cast<size_t>(layer.slot * past) * row;
  std::memcpy(window, cached, static_cast<size_t>(past) * row * sizeof(float));
  for_each(frames, [&](int64_t t) {
    const float* pair = wide + t * 2 * dim;
    kernel.glu(pair, pair + dim, rest, dim, window + (past + t) * dim);
  });
  std::memcpy(out[1].data, window + rows * row, static_cast<size_t>(past) * row * sizeof(float));
  for_each(frames, [&](int64_t t) {
    kernel.depthwise(window + t * dim, weights, bias, rest, layer.kernel, dim, wide + t * dim);
    kernel.norm_activate(wide + t * dim, scale, shift, layer.inner_layer_norm, layer.activation,
                         dim, active + t * dim);
  });
  multiply(kernel, layer.matrices[1], active, frames, Activation::kNone, out[0].data);
  add_residual(kernel, layer, x, frames, out[0].data);
}

void run_subsampling(const Kernel& kernel, const Layer& layer, const EdgeAsrTensor* in,
                     EdgeAsrTensor* out) {
  static thread_local Buffer<float> first_buffer, second_buffer;
  const int64_t bins = layer.in, channels = layer.hidden;
  const int64_t bins_1 = (bins - 1) / 2, bins_2 = (bins_1 - 1) / 2;
  const int64_t frames_2 = ((in[0].shape[1] - 1) / 2 - 1) / 2;
  // Channels come last: a window is three runs of memory.
  float* first =
      first_buffer.reserve(static_cast<size_t>((2 * kFramesTogether + 1) * bins_1 * channels));
  float* second = second_buffer.reserve(static_cast<size_t>(frames_2 * bins_2 * channels));
  for (int64_t begin = 0; begin < frames_2; begin += kFramesTogether) {
    const int64_t count = std::min(kFramesTogether, frames_2 - begin);
    for_each((2 * count + 1) * bins_1, [&](int64_t place) {
      const int64_t t = 2 * begin + place / bins_1, bin = place % bins_1;
      kernel.convolve(in[0].data + 2 * t * bins + 2 * bin, static_cast<int>(bins), layer.vectors[0],
                      layer.vectors[1], static_cast<int>(channels), first + place * channels);
    });
    const auto window = [&](int64_t place, float* room) -> const float* {
      const int64_t t = place / bins_2, bin = place % bins_2;
      const size_t run = static_cast<size_t>(3 * channels);
      for (int64_t i = 0; i < 3; i++)
        std::memcpy(room + static_cast<size_t>(i) * run,
                    first + ((2 * t + i) * bins_1 + 2 * bin) * channels, run * sizeof(float));
      return room;
    };
    multiply(kernel, layer.matrices[0], window, count * bins_2, Activation::kRelu,
             second + begin * bins_2 * channels);
  }
  multiply(kernel, layer.matrices[1], second, frames_2, Activation::kNone, out[0].data);
}

}  // namespace edge_asr
