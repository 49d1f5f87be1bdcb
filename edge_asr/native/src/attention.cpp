// Attention over a cache of past frames and the frames of this call (model/attention.py).
#include <algorithm>
#include <cstring>

#include "blocks.h"
#include "gemm.h"

namespace edge_asr {

size_t attend_scratch(int frames, int width) {
  const size_t padded = (static_cast<size_t>(frames) + 15) / 16 * 16;
  return padded * (static_cast<size_t>(width) + 5);
}

void run_attention(const Kernel& kernel, const Layer& layer, const EdgeAsrTensor* in,
                   EdgeAsrTensor* out) {
  static thread_local Buffer<float> normed_buffer, qkv_buffer, p_buffer, mixed_buffer, key_buffer,
      value_buffer, score_buffer;
  const int frames = static_cast<int>(in[0].shape[1]), left = static_cast<int>(in[3].shape[2]);
  const int dim = layer.in, heads = layer.heads, width = dim / heads, all = left + frames;
  const int hidden = std::clamp(static_cast<int>(*in[2].data), 0, left);
  const size_t rows = static_cast<size_t>(frames), row = static_cast<size_t>(dim);
  const float *x = in[0].data, *u = layer.vectors[0], *v = layer.vectors[1];

  float* qkv = qkv_buffer.reserve(rows * 3 * row);
  float* p = p_buffer.reserve(rows * row);
  float* mixed = mixed_buffer.reserve(rows * row);
  float* key = key_buffer.reserve(static_cast<size_t>(all) * row);
  float* value = value_buffer.reserve(static_cast<size_t>(all) * row);
  float* score = score_buffer.reserve(static_cast<size_t>(all * heads));

  const float* from = normed(kernel, layer, x, frames, normed_buffer);
  multiply(kernel, layer.matrices[0], from, frames, Activation::kNone, qkv);
  multiply(kernel, layer.matrices[1], in[1].data, frames, Activation::kNone, p);

  for_each(heads, [&](int64_t head) {
    static thread_local Buffer<float> scratch;
    float* keys = key + head * all * width;
    float* values = value + head * all * width;
    float* scores = score + head * all;
    const size_t cached = static_cast<size_t>(left) * static_cast<size_t>(width);
    std::memcpy(keys, in[3].data + static_cast<size_t>(head) * cached, cached * sizeof(float));
    std::memcpy(values, in[4].data + static_cast<size_t>(head) * cached, cached * sizeof(float));
    std::memcpy(scores, in[5].data + head * left, static_cast<size_t>(left) * sizeof(float));
    for (int t = 0; t < frames; t++) {
      const float* k = qkv + static_cast<size_t>(t) * 3 * row + row + head * width;
      const float* position = p + static_cast<size_t>(t) * row + head * width;
      float* new_key = keys + (left + t) * width;
      float total = 0.0f;
      for (int i = 0; i < width; i++) {
        total += k[i] * u[head * width + i] + position[i] * v[head * width + i];
        new_key[i] = k[i] + position[i];
      }
      scores[left + t] = total;
      std::memcpy(values + (left + t) * width, k + row, sizeof(float) * static_cast<size_t>(width));
    }
    kernel.attend(qkv + head * width, frames, 3 * dim, keys, values, scores, hidden, all, width,
                  mixed + head * width, dim, scratch.reserve(attend_scratch(all, width)));
    const size_t skip = static_cast<size_t>(frames) * static_cast<size_t>(width);
    std::memcpy(out[1].data + static_cast<size_t>(head) * cached, keys + skip, cached * sizeof(float));
    std::memcpy(out[2].data + static_cast<size_t>(head) * cached, values + skip, cached * sizeof(float));
    std::memcpy(out[3].data + head * left, scores + frames, static_cast<size_t>(left) * sizeof(float));
  });
  multiply(kernel, layer.matrices[2], mixed, frames, Activation::kNone, out[0].data);
  add_residual(kernel, layer, x, frames, out[0].data);
}

}  // namespace edge_asr
