#include "moe_ffn.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "gemm.h"
#include "per_thread.h"
#include "routing.h"

namespace edge_asr {
namespace {

// Between the two products of a group of blocks lies this much, at most; more would leave the
// second-level cache.
constexpr int kHiddenBytes = 768 << 10;
constexpr int kHiddenFloats = kHiddenBytes / static_cast<int>(sizeof(float));

// Some rows of one expert.
struct Block {
  int expert, begin, count;  // pairs begin..begin + count of the routing
};

struct Scratch {
  Buffer<uint8_t> bytes, packed, hidden_bytes, hidden_packed;
  Buffer<RowScale> scales, pair_scales, hidden_scales;
  Buffer<float> hidden, normed;
  std::vector<float*> hidden_rows, out_rows;
  std::vector<const uint8_t*> pointers;
  std::vector<Block> blocks;
  std::vector<Product> products;
  Routing routing;
};

void route_to_one(int rows, Routing& routing) {
  routing.begin = {0, rows};
  routing.row.resize(rows);
  std::iota(routing.row.begin(), routing.row.end(), 0);
  routing.gate.clear();
  routing.touched = 1;
}

// Cuts each expert's rows so that a block's hidden rows fit `kHiddenBytes`.
void cut(const Routing& routing, int hidden, int max_rows, std::vector<Block>& blocks) {
  blocks.clear();
  const int most = std::max(max_rows, kHiddenFloats / hidden / max_rows * max_rows);
  const int experts = static_cast<int>(routing.begin.size()) - 1;
  for (int expert = 0; expert < experts; expert++)
    for (int begin = routing.begin[expert]; begin < routing.begin[expert + 1]; begin += most)
      blocks.push_back({.expert = expert,
                        .begin = begin,
                        .count = std::min(most, routing.begin[expert + 1] - begin)});
}

// The end of the group of blocks that begins at `group`: at least one block, and more as long as
// their hidden rows fit `kHiddenBytes`.
size_t group_end(const std::vector<Block>& blocks, size_t group, int hidden) {
  size_t end = group + 1;
  for (int64_t pairs = blocks[group].count; end < blocks.size(); end++) {
    pairs += blocks[end].count;
    if (at(pairs, hidden) > kHiddenFloats) break;
  }
  return end;
}

// One of an expert's two products, for the pairs of a group of blocks.
struct Half {
  int which;               // 0: into the hidden rows, 1: out of them
  const RowScale* scales;  // of each pair of the group
  float* const* out;       // of each pair of the group
  const float* gates;      // of each pair of the routing, or none
  Activation activation;
};

// s.pointers are the pairs' quantized rows; `room` is for as many packed ones.
void run_half(const Kernel& kernel, const Layer& layer, Scratch& s, std::span<const Block> blocks,
              const Half& half, uint8_t* room) {
  s.products.clear();
  for (const Block& block : blocks) {
    const Matrix& matrix = layer.matrices[2 * block.expert + half.which];
    const int first = block.begin - blocks.front().begin;
    uint8_t* packed = room + at(first, matrix.depth);
    pack_rows(kernel, s.pointers.data() + first, block.count, matrix.depth, packed);
    s.products.push_back({.matrix = &matrix,
                          .packed = packed,
                          .scales = half.scales + first,
                          .count = block.count,
                          .out = half.out + first,
                          .gates = half.gates ? half.gates + block.begin : nullptr});
  }
  run_products(kernel, s.products, half.activation);
}

// The quantized rows of the layer, (rows, depth).
struct Rows {
  const uint8_t* bytes;
  const RowScale* scales;
};

// Both products of the pairs of a group of blocks, stored or added to y.
void run_group(const Kernel& kernel, const Layer& layer, Scratch& s, std::span<const Block> blocks,
               const Rows& x, float* y) {
  const Matrix &first = layer.matrices[0], &second = layer.matrices[1];
  const int begin = blocks.front().begin;
  const int pairs = blocks.back().begin + blocks.back().count - begin;
  float* hidden = s.hidden.reserve(at(pairs, first.out));
  uint8_t* packed = s.packed.reserve(at(pairs, first.depth));
  uint8_t* hidden_bytes = s.hidden_bytes.reserve(at(pairs, second.depth));
  uint8_t* hidden_packed = s.hidden_packed.reserve(at(pairs, second.depth));
  RowScale* scales = s.pair_scales.reserve(pairs);
  RowScale* hidden_scales = s.hidden_scales.reserve(pairs);
  s.hidden_rows.resize(pairs);
  s.out_rows.resize(pairs);
  s.pointers.resize(pairs);
  for (int pair = 0; pair < pairs; pair++) {
    const int row = s.routing.row[begin + pair];
    s.pointers[pair] = x.bytes + at(row, first.depth);
    scales[pair] = x.scales[row];
    s.hidden_rows[pair] = hidden + at(pair, first.out);
    s.out_rows[pair] = y + at(row, layer.out);
  }
  run_half(kernel, layer, s, blocks,
           {.which = 0,
            .scales = scales,
            .out = s.hidden_rows.data(),
            .gates = nullptr,
            .activation = layer.activation},
           packed);
  quantize_rows(kernel, hidden, pairs, first.out, second.depth, hidden_bytes, hidden_scales);
  for (int pair = 0; pair < pairs; pair++) s.pointers[pair] = hidden_bytes + at(pair, second.depth);
  run_half(kernel, layer, s, blocks,
           {.which = 1,
            .scales = hidden_scales,
            .out = s.out_rows.data(),
            .gates = layer.router ? s.routing.gate.data() : nullptr,
            .activation = Activation::kNone},
           hidden_packed);
}

void count_work(Counters& counters, const Routing& routing, int rows) {
  counters.calls++;
  counters.rows += rows;
  counters.pairs += static_cast<int64_t>(routing.row.size());
  counters.experts += routing.touched;
}

}  // namespace

void run_feed_forward(const Kernel& kernel, const Weights& weights, const Layer& layer,
                      const float* input, int64_t many_rows, float* y) {
  static PerThread<Scratch> scratches;
  Scratch& s = scratches.get();
  const int rows = static_cast<int>(many_rows);
  if (rows == 0) return;
  const float* x = normed(kernel, layer, input, rows, s.normed);
  if (layer.router) {
    choose_experts(kernel, layer, weights.levers, x, rows, s.routing);
    count_work(weights.counters, s.routing, rows);
    std::fill_n(y, at(rows, layer.out), 0.0f);  // the experts add to it
  } else {
    route_to_one(rows, s.routing);
  }
  const Matrix& first = layer.matrices[0];
  uint8_t* bytes = s.bytes.reserve(at(rows, first.depth));
  RowScale* scales = s.scales.reserve(rows);
  quantize_rows(kernel, x, rows, layer.in, first.depth, bytes, scales);

  cut(s.routing, first.out, kernel.max_rows, s.blocks);
  for (size_t group = 0, end; group < s.blocks.size(); group = end) {
    end = group_end(s.blocks, group, first.out);
    run_group(kernel, layer, s, std::span(s.blocks).subspan(group, end - group), {bytes, scales},
              y);
  }
  add_residual(kernel, layer, input, rows, y);
}

}  // namespace edge_asr
