// The operators: what they take and give, and the blocks of the encoder that they run.
//
//   operator     inputs                                         outputs
//   linear       x (..., in)                                    y (..., out)
//   moe_ffn      x (..., in)                                    y (..., out)
//   subsampling  feats (1, T, bins)                             x (1, T', out)
//   attention    x (1, T', D), positions (1, T', D),            y (1, T', D); key, value, score
//                hidden (1,), key (L, 1, H, C, d),              after it, of this layer alone:
//                value (L, 1, H, C, d), score (L, 1, H, C)      L is 1
//   convolution  x (1, T', D), past (L, 1, kernel - 1, D)       y (1, T', D), past after it
//
// The states of all L layers come in whole, and each layer reads its own by its slot.
//
// All compute what model/ computes (encoder.py, attention.py, convolution.py, subsampling.py), on
// the integers of quant/. `hidden` says how many of the C cached frames are not there yet. With a
// residual the block reads the layer norm of x, and gives x + residual * its result.
#pragma once

#include "edge_asr_native.h"
#include "kernel.h"
#include "weights.h"

namespace edge_asr {

struct Operator {
  const char* name;
  LayerKind kind;
  int inputs, outputs;
};

// Throws std::invalid_argument.
const Operator& find_operator(const char* name);

// The shapes of a layer's outputs. Throws std::invalid_argument where the inputs do not fit.
void infer_shapes(const Layer& layer, const EdgeAsrTensor* inputs, int input_count,
                  EdgeAsrTensor* outputs, int output_count);

// Inputs and outputs are those of `infer_shapes`.
void run_layer(const Kernel& kernel, const Weights& weights, const Layer& layer,
               const EdgeAsrTensor* inputs, EdgeAsrTensor* outputs);

// What a block reads and writes, by name; the order of the tensors is known in blocks.cpp alone.
struct AttentionIo {
  const EdgeAsrTensor &x, &positions, &hidden, &key, &value, &score;
  EdgeAsrTensor &y, &new_key, &new_value, &new_score;
};

struct ConvolutionIo {
  const EdgeAsrTensor &x, &past;
  EdgeAsrTensor &y, &new_past;
};

// The blocks, over T' rows of the layer's width.
void run_attention(const Kernel& kernel, const Layer& layer, const AttentionIo& io);
void run_convolution(const Kernel& kernel, const Layer& layer, const ConvolutionIo& io);
void run_subsampling(const Kernel& kernel, const Layer& layer, const EdgeAsrTensor& feats,
                     EdgeAsrTensor& y);

}  // namespace edge_asr
