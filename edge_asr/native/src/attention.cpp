// Attention over a cache of past frames and the frames of this call (model/attention.py).
#include <algorithm>

#include "blocks.h"
#include "gemm.h"
#include "per_thread.h"

namespace edge_asr {
namespace {

struct Sizes {
  int frames, left;  // of this call, of the cache
  int hidden;        // of the cache's frames, how many are not there yet
  int dim, heads, width;

  int all() const { return left + frames; }
  int64_t cached() const { return at(left, width); }  // numbers of one head's cached keys
};

Sizes sizes_of(const Layer& layer, const AttentionIo& io) {
  const int left = static_cast<int>(io.key.shape[3]);
  const float unseen = *io.hidden.data;
  int hidden = 0;  // where it is no number too
  if (unseen > 0.0f) hidden = unseen < static_cast<float>(left) ? static_cast<int>(unseen) : left;
  return {.frames = static_cast<int>(io.x.shape[1]),
          .left = left,
          .hidden = hidden,
          .dim = layer.in,
          .heads = layer.heads,
          .width = layer.in / layer.heads};
}

struct Scratch {
  Buffer<float> normed, qkv, positions, mixed, key, value, score, rooms;
};

// What all heads read and write, of all frames of this call.
struct Frames {
  const float* qkv;        // (frames, 3, heads, width)
  const float* positions;  // (frames, heads, width)
  float *key, *value;      // (heads, frames, width)
  float* score;            // (heads, left + frames)
  float* mixed;            // (frames, heads, width)
};

// One head's cache after this call: what is left of the cache before, then the new frames.
void shift(const float* before, const float* added, const Sizes& sizes, float* after) {
  const int taken = std::min(sizes.left, sizes.frames), kept = sizes.left - taken;
  after = std::copy_n(before + at(taken, sizes.width), at(kept, sizes.width), after);
  std::copy_n(added + at(sizes.frames - taken, sizes.width), at(taken, sizes.width), after);
}

void run_head(const Kernel& kernel, const Layer& layer, const AttentionIo& io, const Sizes& sizes,
              const Frames& all, int64_t head, float* scratch) {
  const int frames = sizes.frames, left = sizes.left, width = sizes.width, dim = sizes.dim;
  const int64_t place = at(layer.slot, sizes.heads) + head, first = at(head, width);
  const float *u = layer.vectors[0] + first, *v = layer.vectors[1] + first;
  const float* keys = io.key.data + at(place, sizes.cached());
  const float* values = io.value.data + at(place, sizes.cached());
  float* new_keys = all.key + at(head, at(frames, width));
  float* new_values = all.value + at(head, at(frames, width));
  float* scores = all.score + at(head, sizes.all());

  std::copy_n(io.score.data + at(place, left), left, scores);
  for (int t = 0; t < frames; t++) {
    const float* k = all.qkv + at(3 * t + 1, dim) + first;
    scores[left + t] = kernel.place_key(k, all.positions + at(t, dim) + first, u, v, width,
                                        new_keys + at(t, width));
    std::copy_n(k + dim, width, new_values + at(t, width));
  }
  const Cached cache{
      .keys = {keys, new_keys}, .values = {values, new_values}, .frames = {left, frames}};
  kernel.attend(all.qkv + first, frames, 3 * dim, cache, scores, sizes.hidden, width,
                all.mixed + first, dim, scratch);

  shift(keys, new_keys, sizes, io.new_key.data + at(head, sizes.cached()));
  shift(values, new_values, sizes, io.new_value.data + at(head, sizes.cached()));
  std::copy_n(scores + frames, left, io.new_score.data + at(head, left));
}

}  // namespace

int64_t attend_scratch(int frames, int width) {
  const int padded = (frames + 15) / 16 * 16;
  return at(width + 5, padded);
}

void run_attention(const Kernel& kernel, const Layer& layer, const AttentionIo& io) {
  static PerThread<Scratch> scratches;
  Scratch& s = scratches.get();
  const Matrix &to_qkv = layer.matrices[0], &to_positions = layer.matrices[1];
  const Matrix& to_output = layer.matrices[2];
  const Sizes sizes = sizes_of(layer, io);
  const int frames = sizes.frames;
  const int64_t numbers = at(frames, sizes.dim);
  float* qkv = s.qkv.reserve(3 * numbers);
  float* positions = s.positions.reserve(numbers);
  float* mixed = s.mixed.reserve(numbers);

  multiply(kernel, to_qkv, normed(kernel, layer, io.x.data, frames, s.normed), frames,
           Activation::kNone, qkv);
  multiply(kernel, to_positions, io.positions.data, frames, Activation::kNone, positions);
  const Frames all = {.qkv = qkv,
                      .positions = positions,
                      .key = s.key.reserve(numbers),
                      .value = s.value.reserve(numbers),
                      .score = s.score.reserve(at(sizes.heads, sizes.all())),
                      .mixed = mixed};
  for_each(sizes.heads, s.rooms, attend_scratch(sizes.all(), sizes.width),
           [&](int64_t head, float* room) { run_head(kernel, layer, io, sizes, all, head, room); });
  multiply(kernel, to_output, mixed, frames, Activation::kNone, io.y.data);
  add_residual(kernel, layer, io.x.data, frames, io.y.data);
}

}  // namespace edge_asr
