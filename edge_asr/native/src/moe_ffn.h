// Feed-forward layers, dense or of experts (arXiv 2404.16407, section 2; quant/linear.py for the
// arithmetic).
#pragma once

#include <cstdint>

#include "kernel.h"
#include "weights.h"

namespace edge_asr {

// x (rows, in) to y (rows, out):
//
//     y[t] = sum over the chosen experts e, in the order of their numbers, of
//            gate[t, e] * (second_e(activation(first_e(x[t]))))
//
// The router is float32; the k largest logits are chosen, of equal ones the first, and the gates
// are a softmax over them. A row's result depends on that row alone, unless `max_experts` is set.
//
// Levers (weights.levers), each 0 for "as trained":
//     top_k        so many experts for each row instead of the trained number, if fewer
//     min_weight   an expert beyond the first is left out where its gate is smaller; the gates of
//                  the rest are scaled to a sum of one
//     max_experts  of all experts only those so many whose gates have the largest sums over the
//                  rows of this call; rows choose again among them
void run_feed_forward(const Kernel& kernel, const Weights& weights, const Layer& layer,
                      const float* x, int64_t rows, float* y);

}  // namespace edge_asr
