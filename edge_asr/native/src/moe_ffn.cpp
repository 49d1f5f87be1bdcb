#include "moe_ffn.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "gemm.h"
#include "routing.h"
#include "threads.h"

namespace edge_asr {
namespace {

// Between the two products of a group of blocks lies this much, at most; more would leave the
// second-level cache.
constexpr size_t kHiddenBytes = 768 << 10;

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
  routing.row.resize(static_cast<size_t>(rows));
  for (int row = 0; row < rows; row++) routing.row[static_cast<size_t>(row)] = row;
  routing.gate.clear();
  routing.touched = 1;
}

// Cuts each expert's rows so that a block's hidden rows fit `kHiddenBytes`.
void cut(const Routing& routing, int hidden, int max_rows, std::vector<Block>& blocks) {
  blocks.clear();
  const int most = std::max(
      max_rows, static_cast<int>(kHiddenBytes / sizeof(float)) / hidden / max_rows * max_rows);
  for (size_t expert = 0; expert + 1 < routing.begin.size(); expert++)
    for (int begin = routing.begin[expert]; begin < routing.begin[expert + 1]; begin += most)
      blocks.push_back(
          {static_cast<int>(expert), begin, std::min(most, routing.begin[expert + 1] - begin)});
}

}  // namespace

void run_feed_forward(const Kernel& kernel, const Weights& weights, const Layer& layer,
                      const float* input, int64_t many_rows, float* y) {
  static thread_local Scratch scratch;
  Scratch& s = scratch;
  const int rows = static_cast<int>(many_rows);
  if (rows == 0) return;
  const float* x = normed(kernel, layer, input, rows, s.normed);
  Routing& routing = s.routing;
  if (layer.router)
    choose_experts(kernel, layer, weights.levers, x, rows, routing);
  else
    route_to_one(rows, routing);
  if (layer.router) {
    weights.counters.calls++;
    weights.counters.rows += rows;
    weights.counters.pairs += static_cast<int64_t>(routing.row.size());
    weights.counters.experts += routing.touched;
  }

  const Matrix &first = layer.matrices[0], &second = layer.matrices[1];
  const size_t depth = static_cast<size_t>(first.depth), out = static_cast<size_t>(layer.out);
  const size_t hidden = static_cast<size_t>(first.out), deep = static_cast<size_t>(second.depth);
  uint8_t* bytes = s.bytes.reserve(static_cast<size_t>(rows) * depth);
  RowScale* scales = s.scales.reserve(static_cast<size_t>(rows));
  quantize_rows(kernel, x, rows, layer.in, first.depth, bytes, scales);
  const float* gates = layer.router ? routing.gate.data() : nullptr;
  if (gates) std::memset(y, 0, sizeof(float) * static_cast<size_t>(rows) * out);

  cut(routing, first.out, kernel.max_rows, s.blocks);
  for (size_t group = 0; group < s.blocks.size();) {
    const int base = s.blocks[group].begin;
    size_t end = group;
    int pairs = 0;
    while (
        end < s.blocks.size() &&
        (end == group ||
         static_cast<size_t>(pairs + s.blocks[end].count) * hidden * sizeof(float) <= kHiddenBytes))
      pairs += s.blocks[end++].count;

    const size_t size = static_cast<size_t>(pairs);
    float* middle = s.hidden.reserve(size * hidden);
    uint8_t* packed = s.packed.reserve(size * depth);
    uint8_t* middle_bytes = s.hidden_bytes.reserve(size * deep);
    uint8_t* middle_packed = s.hidden_packed.reserve(size * deep);
    RowScale* pair_scales = s.pair_scales.reserve(size);
    RowScale* middle_scales = s.hidden_scales.reserve(size);
    s.hidden_rows.resize(size);
    s.out_rows.resize(size);
    s.pointers.resize(size);
    for (size_t pair = 0; pair < size; pair++) {
      const size_t row = static_cast<size_t>(routing.row[static_cast<size_t>(base) + pair]);
      s.pointers[pair] = bytes + row * depth;
      pair_scales[pair] = scales[row];
      s.hidden_rows[pair] = middle + pair * hidden;
      s.out_rows[pair] = y + row * out;
    }
    s.products.clear();
    for (size_t i = group; i < end; i++) {
      const Block& block = s.blocks[i];
      const size_t at = static_cast<size_t>(block.begin - base);
      uint8_t* to = packed + at * depth;
      pack_rows(kernel, s.pointers.data() + at, block.count, first.depth, to);
      s.products.push_back({&layer.matrices[2 * static_cast<size_t>(block.expert)], to,
                            pair_scales + at, block.count, s.hidden_rows.data() + at, nullptr});
    }
    run_products(kernel, s.products, layer.activation);

    quantize_rows(kernel, middle, pairs, first.out, second.depth, middle_bytes, middle_scales);
    for (size_t pair = 0; pair < size; pair++) s.pointers[pair] = middle_bytes + pair * deep;
    s.products.clear();
    for (size_t i = group; i < end; i++) {
      const Block& block = s.blocks[i];
      const size_t at = static_cast<size_t>(block.begin - base);
      uint8_t* to = middle_packed + at * deep;
      pack_rows(kernel, s.pointers.data() + at, block.count, second.depth, to);
      s.products.push_back({&layer.matrices[2 * static_cast<size_t>(block.expert) + 1], to,
                            middle_scales + at, block.count, s.out_rows.data() + at,
                            gates ? gates + block.begin : nullptr});
    }
    run_products(kernel, s.products, Activation::kNone);
    group = end;
  }
  add_residual(kernel, layer, input, rows, y);
}

}  // namespace edge_asr
