// Attention over a cache of past frames and the frames of this call (model/attention.py).
#include <algorithm>
#include <cstring>

#include "blocks.h"
#include "gemm.h"

namespace edge_asr {
namespace {

// One head's cache after this call: what is left of the cache before, then the new frames.
void shift(const float* before, int left, int width, int frames, float* after) {
  const int kept = std::max(0, left - frames);
  std::memcpy(after, before + (left - kept) * width,
              sizeof(float) * static_cast<size_t>(kept * width));
}

}  // namespace

size_t attend_scratch(int frames, int width) {
  const size_t padded = (static_cast<size_t>(frames) + 15) / 16 * 16;
  return padded * (static_cast<size_t>(width) + 5);
}

void run_attention(const Kernel& kernel, const Layer& layer, const EdgeAsrTensor* in,
                   EdgeAsrTensor* out) {
  static thread_local Buffer<float> normed_buffer, qkv_buffer, p_buffer, mixed_buffer, key_buffer,
      value_buffer, score_buffer;
  const int frames = static_cast<int>(in[0].shape[1]), left = static_cast<int>(in[3].shape[3]);
  const int dim = layer.in, heads = layer.heads, width = dim / heads, all = left + frames;
  const float unseen = *in[2].data;  // not a number: none
  const int hidden = !(unseen > 0.0f)                    ? 0
                     : unseen < static_cast<float>(left) ? static_cast<int>(unseen)
                                                         : left;
  const size_t rows = static_cast<size_t>(frames), row = static_cast<size_t>(dim);
  const size_t cached = static_cast<size_t>(left) * static_cast<size_t>(width);
  const size_t slot = static_cast<size_t>(layer.slot) * static_cast<size_t>(heads);
  const float *x = in[0].data, *u = layer.vectors[0], *v = layer.vectors[1];

  float* qkv = qkv_buffer.reserve(rows * 3 * row);
  float* p = p_buffer.reserve(rows * row);
  float* mixed = mixed_buffer.reserve(rows * row);
  float* key = key_buffer.reserve(rows * row);
  float* value = value_buffer.reserve(rows * row);
  float* score = score_buffer.reserve(static_cast<size_t>(all * heads));

  multiply(kernel, layer.matrices[0], normed(kernel, layer, x, frames, normed_buffer), frames,
           Activation::kNone, qkv);
  multiply(kernel, layer.matrices[1], in[1].data, frames, Activation::kNone, p);

  for_each(heads, [&](int64_t head) {
    static thread_local Buffer<float> scratch;
    const size_t place = slot + static_cast<size_t>(head);
    const float *keys = in[3].data + place * cached, *values = in[4].data + place * cached;
    float* new_keys = key + head * frames * width;
    float* new_values = value + head * frames * width;
    float* scores = score + head * all;
    std::memcpy(scores, in[5].data + place * static_cast<size_t>(left),
                static_cast<size_t>(left) * sizeof(float));
    for (int t = 0; t < frames; t++) {
      const float* k = qkv + static_cast<size_t>(t) * 3 * row + row + head * width;
      const float* position = p + static_cast<size_t>(t) * row + head * width;
      scores[left + t] = kernel.place_key(k, position, u + head * width, v + head * width, width,
                                          new_keys + t * width);
      std::memcpy(new_values + t * width, k + row, sizeof(float) * static_cast<size_t>(width));
    }
    const Cached cache{{keys, new_keys}, {values, new_values}, {left, frames}};
    kernel.attend(qkv + head * width, frames, 3 * dim, cache, scores, hidden, width,
                  mixed + head * width, dim, scratch.reserve(attend_scratch(all, width)));

    const int taken = std::min(left, frames), kept = left - taken;
    float* next[] = {out[1].data + static_cast<size_t>(head) * cached,
                     out[2].data + static_cast<size_t>(head) * cached};
    shift(keys, left, width, frames, next[0]);
    shift(values, left, width, frames, next[1]);
    const size_t bytes = sizeof(float) * static_cast<size_t>(taken * width);
    std::memcpy(next[0] + kept * width, new_keys + (frames - taken) * width, bytes);
    std::memcpy(next[1] + kept * width, new_values + (frames - taken) * width, bytes);
    std::memcpy(out[3].data + head * left, scores + frames,
                static_cast<size_t>(left) * sizeof(float));
  });
  multiply(kernel, layer.matrices[2], mixed, frames, Activation::kNone, out[0].data);
  add_residual(kernel, layer, x, frames, out[0].data);
}

}  // namespace edge_asr
