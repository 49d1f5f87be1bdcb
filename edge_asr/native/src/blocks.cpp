#include "blocks.h"

#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "gemm.h"
#include "moe_ffn.h"

namespace edge_asr {
namespace {

constexpr Operator kOperators[] = {
    {.name = "linear", .kind = LayerKind::kLinear, .inputs = 1, .outputs = 1},
    {.name = "moe_ffn", .kind = LayerKind::kFeedForward, .inputs = 1, .outputs = 1},
    {.name = "subsampling", .kind = LayerKind::kSubsampling, .inputs = 1, .outputs = 1},
    {.name = "attention", .kind = LayerKind::kAttention, .inputs = 6, .outputs = 4},
    {.name = "convolution", .kind = LayerKind::kConvolution, .inputs = 2, .outputs = 2},
};

constexpr int64_t kMaxRows = 1 << 24;
constexpr int64_t kAny = -1;

std::string shape_text(std::initializer_list<int64_t> shape) {
  std::string text;
  for (int64_t size : shape)
    text += (text.empty() ? "" : ", ") + (size == kAny ? "any" : std::to_string(size));
  return "(" + text + ")";
}

[[noreturn]] void refuse(const Operator& op, const std::string& what) {
  throw std::invalid_argument(std::string("edge_asr::") + op.name + ": " + what +
                              "; export the package again");
}

void expect(const Operator& op, const char* name, const EdgeAsrTensor& tensor,
            std::initializer_list<int64_t> shape) {
  bool fits = tensor.rank == static_cast<int64_t>(shape.size());
  int axis = 0;
  std::string found;
  for (int64_t size : shape) {
    if (fits) fits = size == kAny || tensor.shape[axis] == size;
    axis++;
  }
  if (fits) return;
  for (int64_t i = 0; i < tensor.rank && i < EDGE_ASR_MAX_RANK; i++)
    found += (i ? ", " : "") + std::to_string(tensor.shape[i]);
  refuse(op,
         std::string(name) + " of shape " + shape_text(shape) + " expected, found (" + found + ")");
}

void expect_slot(const Operator& op, const Layer& layer, int64_t layers) {
  if (layer.slot >= layers)
    refuse(op, "states of more than " + std::to_string(layer.slot) + " layers expected, found " +
                   std::to_string(layers));
}

void give(EdgeAsrTensor& tensor, std::initializer_list<int64_t> shape) {
  tensor.rank = 0;
  for (int64_t size : shape) tensor.shape[tensor.rank++] = size;
}

void copy_shape(const EdgeAsrTensor& from, EdgeAsrTensor& to) {
  to.rank = from.rank;
  std::memcpy(to.shape, from.shape, sizeof to.shape);
}

const Operator& operator_of(LayerKind kind) {
  for (const Operator& op : kOperators)
    if (op.kind == kind) return op;
  throw std::invalid_argument("no operator runs this layer");
}

int64_t rows_of(const EdgeAsrTensor& x) {
  int64_t rows = 1;
  for (int64_t i = 0; i + 1 < x.rank; i++) rows *= x.shape[i];
  return rows;
}

}  // namespace

const Operator& find_operator(const char* name) {
  for (const Operator& op : kOperators)
    if (std::strcmp(op.name, name) == 0) return op;
  throw std::invalid_argument(std::string("edge_asr::") + name + " is not an operator");
}

void infer_shapes(const Layer& layer, const EdgeAsrTensor* in, int input_count, EdgeAsrTensor* out,
                  int output_count) {
  const Operator& op = operator_of(layer.kind);
  if (input_count != op.inputs || output_count != op.outputs)
    refuse(op, std::to_string(op.inputs) + " inputs and " + std::to_string(op.outputs) +
                   " outputs expected, found " + std::to_string(input_count) + " and " +
                   std::to_string(output_count));
  for (int i = 0; i < input_count; i++) {
    if (in[i].rank < 1 || in[i].rank > EDGE_ASR_MAX_RANK)
      refuse(op, "1 to 8 dimensions expected, found " + std::to_string(in[i].rank));
    int64_t rows = 1;
    for (int64_t axis = 0; axis + 1 < in[i].rank; axis++) {
      const int64_t size = in[i].shape[axis];
      // Both factors are at most kMaxRows: nothing overflows.
      rows = size < 0 || size > kMaxRows ? kMaxRows + 1 : rows * size;
      if (rows > kMaxRows) refuse(op, "0 to 16777216 rows expected, found more, or less");
    }
  }
  const int64_t width = layer.in;
  switch (layer.kind) {
    case LayerKind::kLinear:
    case LayerKind::kFeedForward:
      if (in[0].shape[in[0].rank - 1] != width)
        refuse(op, "rows of " + std::to_string(width) + " numbers expected, found " +
                       std::to_string(in[0].shape[in[0].rank - 1]));
      copy_shape(in[0], out[0]);
      out[0].shape[out[0].rank - 1] = layer.out;
      break;
    case LayerKind::kSubsampling:
      expect(op, "feats", in[0], {1, kAny, width});
      if (in[0].shape[1] < 7)
        refuse(op, "at least 7 frames expected, found " + std::to_string(in[0].shape[1]));
      give(out[0], {1, ((in[0].shape[1] - 1) / 2 - 1) / 2, layer.out});
      break;
    case LayerKind::kAttention: {
      const int64_t heads = layer.heads, left = in[3].rank == 5 ? in[3].shape[3] : kAny;
      const int64_t layers = in[3].shape[0];
      expect(op, "x", in[0], {1, kAny, width});
      expect(op, "positions", in[1], {1, in[0].shape[1], width});
      expect(op, "hidden", in[2], {1});
      expect(op, "key", in[3], {kAny, 1, heads, kAny, width / heads});
      expect(op, "value", in[4], {layers, 1, heads, left, width / heads});
      expect(op, "score", in[5], {layers, 1, heads, left});
      expect_slot(op, layer, layers);
      copy_shape(in[0], out[0]);
      for (int i = 1; i < 4; i++) {
        copy_shape(in[i + 2], out[i]);
        out[i].shape[0] = 1;
      }
      break;
    }
    case LayerKind::kConvolution:
      expect(op, "x", in[0], {1, kAny, width});
      expect(op, "past", in[1], {kAny, 1, layer.kernel - 1, width});
      expect_slot(op, layer, in[1].shape[0]);
      for (int i = 0; i < 2; i++) copy_shape(in[i], out[i]);
      out[1].shape[0] = 1;
      break;
  }
}

void run_layer(const Kernel& kernel, const Weights& weights, const Layer& layer,
               const EdgeAsrTensor* in, EdgeAsrTensor* out) {
  switch (layer.kind) {
    case LayerKind::kLinear:
      multiply(kernel, layer.matrices[0], in[0].data, rows_of(in[0]), layer.activation,
               out[0].data);
      break;
    case LayerKind::kFeedForward:
      run_feed_forward(kernel, weights, layer, in[0].data, rows_of(in[0]), out[0].data);
      break;
    case LayerKind::kSubsampling:
      run_subsampling(kernel, layer, in, out);
      break;
    case LayerKind::kAttention:
      run_attention(kernel, layer, in, out);
      break;
    case LayerKind::kConvolution:
      run_convolution(kernel, layer, in, out);
      break;
  }
}

}  // namespace edge_asr
