// The convolution module and the subsampling (model/convolution.py, model/subsampling.py).
#include <algorithm>

#include "blocks.h"
#include "gemm.h"
#include "per_thread.h"

namespace edge_asr {
namespace {

// Encoder frames that are subsampled together: what the first convolution gives for them stays in
// the cache, and a whole utterance needs no more memory than a chunk.
constexpr int64_t kFramesTogether = 16;

struct ConvolutionScratch {
  Buffer<float> normed, active, wide, window;
};

struct SubsamplingScratch {
  Buffer<float> first, second;
};

}  // namespace

void run_convolution(const Kernel& kernel, const Layer& layer, const ConvolutionIo& io) {
  static PerThread<ConvolutionScratch> scratches;
  ConvolutionScratch& s = scratches.get();
  const Matrix &to_pairs = layer.matrices[0], &to_output = layer.matrices[1];
  const float *weights = layer.vectors[0], *bias = layer.vectors[1];
  const float *scale = layer.vectors[2], *shift = layer.vectors[3], *rest = layer.vectors[4];
  const int frames = static_cast<int>(io.x.shape[1]), dim = layer.in, past = layer.kernel - 1;
  const int64_t past_numbers = at(past, dim);

  float* active = s.active.reserve(at(frames, dim));
  float* wide = s.wide.reserve(2 * at(frames, dim));
  float* window = s.window.reserve(at(past + frames, dim));
  const float* from = normed(kernel, layer, io.x.data, frames, s.normed);
  multiply(kernel, to_pairs, from, frames, Activation::kNone, wide);
  std::copy_n(io.past.data + at(layer.slot, past_numbers), past_numbers, window);
  for_each(frames, [&](int64_t t) {
    const float* pair = wide + at(2 * t, dim);
    kernel.glu(pair, pair + dim, rest, dim, window + at(past + t, dim));
  });
  std::copy_n(window + at(frames, dim), past_numbers, io.new_past.data);
  for_each(frames, [&](int64_t t) {
    float* filtered = wide + at(t, dim);
    kernel.depthwise(window + at(t, dim), weights, bias, rest, layer.kernel, dim, filtered);
    kernel.norm_activate(filtered, scale, shift, layer.inner_layer_norm, layer.activation, dim,
                         active + at(t, dim));
  });
  multiply(kernel, to_output, active, frames, Activation::kNone, io.y.data);
  add_residual(kernel, layer, io.x.data, frames, io.y.data);
}

void run_subsampling(const Kernel& kernel, const Layer& layer, const EdgeAsrTensor& feats,
                     EdgeAsrTensor& y) {
  static PerThread<SubsamplingScratch> scratches;
  SubsamplingScratch& s = scratches.get();
  const float *first_weights = layer.vectors[0], *first_bias = layer.vectors[1];
  const Matrix &to_second = layer.matrices[0], &to_output = layer.matrices[1];
  const int bins = layer.in, channels = layer.hidden;
  const int bins_1 = (bins - 1) / 2, bins_2 = (bins_1 - 1) / 2;
  const int64_t frames_2 = ((feats.shape[1] - 1) / 2 - 1) / 2;
  // Channels come last: a window is three runs of memory.
  float* first = s.first.reserve(at((2 * kFramesTogether + 1) * bins_1, channels));
  float* second = s.second.reserve(at(frames_2 * bins_2, channels));
  for (int64_t begin = 0; begin < frames_2; begin += kFramesTogether) {
    const int64_t count = std::min(kFramesTogether, frames_2 - begin);
    for_each((2 * count + 1) * bins_1, [&](int64_t place) {
      const int64_t t = 2 * begin + place / bins_1, bin = place % bins_1;
      kernel.convolve(feats.data + at(2 * t, bins) + 2 * bin, bins, first_weights, first_bias,
                      channels, first + at(place, channels));
    });
    const auto window = [&](int64_t place, float* room) -> const float* {
      const int64_t t = place / bins_2, bin = place % bins_2;
      const int64_t run = 3 * int64_t{channels};
      for (int64_t i = 0; i < 3; i++)
        std::copy_n(first + at(at(2 * t + i, bins_1) + 2 * bin, channels), run, room + at(i, run));
      return room;
    };
    multiply(kernel, to_second, window, count * bins_2, Activation::kRelu,
             second + at(begin * bins_2, channels));
  }
  multiply(kernel, to_output, second, frames_2, Activation::kNone, y.data);
}

}  // namespace edge_asr
