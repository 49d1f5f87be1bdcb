// The weights of a package's native programs: one file, read once, shared by every stream.
//
// All numbers are little-endian, every part begins at a multiple of 64 bytes.
//
//   header  64 bytes: magic "EDGEASRW", uint32 version, uint32 layers, uint64 bytes of the file
//   layers  128 bytes each: LayerHeader
//   data    of each layer, where its header says, the vectors float32:
//             norm scale, norm shift [in]      with kResidual
//             then by kind
//             linear        matrix
//             feed-forward  router [experts][in] with experts; for each expert two matrices
//             subsampling   first convolution's weights [9][hidden], bias [hidden];
//                           matrices of the second convolution (its 3x3 window, then channels) and
//                           of the projection (bins, then channels)
//             attention     u, v [in]; matrices of q k v as one, of positions, of the output
//             convolution   depthwise weights [kernel][in]; bias, norm scale, norm shift, rest
//             [in];
//                           matrices of the two pointwise layers
//           a matrix is
//             scale float32 [N]        int8: of each output channel; int4: unused
//             sum   int32/float32 [N]  int8: sums of weights; int4: sums of scaled ones
//             bias  float32 [N]
//             panels, N / 32 of them
//
// N is the number of output channels rounded up to 32, K that of input channels rounded up to 8
// (int4: to the group). A panel holds 32 channels:
//   int8  int8 [K / 4][32][4]
//   int4  for each group: bfloat16 scale [32], then bytes [group / 4][16][4], whose low halves are
//         channels 0 to 15 and high halves channels 16 to 31, stored plus 8
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernel.h"

namespace edge_asr {

enum class LayerKind : uint32_t {
  kLinear = 1,
  kFeedForward = 2,
  kSubsampling = 3,
  kAttention = 4,
  kConvolution = 5,
};

enum LayerFlags : uint32_t {
  kResidual = 1,       // y = x + residual * f(norm(x)) instead of f(x)
  kInnerLayerNorm = 2  // the convolution's own norm is a layer norm, not a scale and shift
};

struct LayerHeader {
  uint32_t kind, activation, in, hidden, out, experts, top_k, bits, group, heads, kernel, flags;
  float residual;
  uint32_t slot;           // attention, convolution: which of the states is this layer's
  uint64_t offset, bytes;  // of the layer's data
  uint8_t padding[56];
};
static_assert(sizeof(LayerHeader) == 128);

// One weight matrix: in -> out.
struct Matrix {
  int in = 0, out = 0, depth = 0, panels = 0, bits = 8, group = 0;
  const float* scale = nullptr;
  const int32_t* sum = nullptr;
  const float* scaled_sum = nullptr;
  const float* bias = nullptr;
  const uint8_t* panels_begin = nullptr;
  int64_t panel_bytes = 0;

  const uint8_t* panel(int index) const { return panels_begin + at(index, panel_bytes); }
};

struct Layer {
  LayerKind kind = LayerKind::kLinear;
  Activation activation = Activation::kNone;
  int in = 0, hidden = 0, out = 0, experts = 0, top_k = 0, heads = 0, kernel = 0, slot = 0;
  float residual = 0.0f;  // 0: none
  bool inner_layer_norm = false;
  const float *norm_scale = nullptr, *norm_shift = nullptr;  // with a residual
  const float* router = nullptr;                             // with experts
  std::vector<const float*> vectors;
  std::vector<Matrix> matrices;
};

// What may be changed while a model runs; see moe_ffn.h. Zero means: as trained.
struct Levers {
  std::atomic<int> top_k{0};
  std::atomic<float> min_weight{0.0f};
  std::atomic<int> max_experts{0};
};

// How much work the expert layers had.
struct Counters {
  std::atomic<int64_t> calls{0}, rows{0}, pairs{0}, experts{0};
};

class Weights {
 public:
  // Reads `bytes`, which must outlive it. Throws std::invalid_argument with what is wrong.
  Weights(const uint8_t* bytes, size_t size);
  ~Weights() { std::free(owned_); }
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  // From now on `memory` is its own, to free at its end.
  void own(void* memory) noexcept { owned_ = memory; }

  // Throws std::out_of_range.
  const Layer& layer(int64_t index) const;
  int count() const { return static_cast<int>(layers_.size()); }

  Levers levers;
  mutable Counters counters;

 private:
  std::vector<Layer> layers_;
  void* owned_ = nullptr;
};

// Weights by the number that a program carries. Thread-safe.
void register_weights(int64_t id, std::shared_ptr<Weights> weights);
void unregister_weights(int64_t id);
std::shared_ptr<Weights> find_weights(int64_t id);  // throws std::out_of_range

}  // namespace edge_asr
