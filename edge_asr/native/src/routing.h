// Which experts take which rows.
#pragma once

#include <vector>

#include "kernel.h"
#include "weights.h"

namespace edge_asr {

// The chosen (row, expert) pairs in the order of experts, and within an expert of rows.
struct Routing {
  std::vector<int> row;     // (pairs,)
  std::vector<float> gate;  // (pairs,)
  std::vector<int> begin;   // (experts + 1,): where each expert's pairs begin
  int touched = 0;          // experts with at least one row
};

// Of experts with equal logits the first are chosen, as ONNX defines its TopK; torch defines
// nothing, and takes others.
void choose_experts(const Kernel& kernel, const Layer& layer, const Levers& levers, const float* x,
                    int rows, Routing& routing);

}  // namespace edge_asr
