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

AttentionIo attention_io(const EdgeAsrTensor* in, EdgeAsrTensor* out) {
  return {.x = in[0],
          .positions = in[1],
          .hidden = in[2],
          .key = in[3],
          .value = in[4],
          .score = in[5],
          .y = out[0],
          .new_key = out[1],
          .new_value = out[2],
          .new_score = out[3]};
}

ConvolutionIo convolution_io(const EdgeAsrTensor* in, EdgeAsrTensor* out) {
  return {.x = in[0], .past = in[1], .y = out[0], .new_past = out[1]};
}

// A state after a call is that of one layer.
void copy_state_shape(const EdgeAsrTensor& before, EdgeAsrTensor& after) {
  copy_shape(before, after);
  after.shape[0] = 1;
}

// Neither no dimensions nor too many, and a number of rows with which nothing overflows.
void check_size(const Operator& op, const EdgeAsrTensor& tensor) {
  if (tensor.rank < 1 || tensor.rank > EDGE_ASR_MAX_RANK)
    refuse(op, "1 to 8 dimensions expected, found " + std::to_string(tensor.rank));
  int64_t rows = 1;
  for (int64_t axis = 0; axis + 1 < tensor.rank; axis++) {
    const int64_t size = tensor.shape[axis];
    // Both factors are at most kMaxRows: nothing overflows.
    rows = size < 0 || size > kMaxRows ? kMaxRows + 1 : rows * size;
    if (rows > kMaxRows) refuse(op, "0 to 16777216 rows expected, found more, or less");
  }
}

void infer_rows(const Operator& op, const Layer& layer, const EdgeAsrTensor& x, EdgeAsrTensor& y) {
  const int64_t width = x.shape[x.rank - 1];
  if (width != layer.in)
    refuse(op, "rows of " + std::to_string(layer.in) + " numbers expected, found " +
                   std::to_string(width));
  copy_shape(x, y);
  y.shape[y.rank - 1] = layer.out;
}

void infer_subsampling(const Operator& op, const Layer& layer, const EdgeAsrTensor& feats,
                       EdgeAsrTensor& y) {
  expect(op, "feats", feats, {1, kAny, layer.in});
  const int64_t frames = feats.shape[1];
  if (frames < 7) refuse(op, "at least 7 frames expected, found " + std::to_string(frames));
  give(y, {1, ((frames - 1) / 2 - 1) / 2, layer.out});
}

void infer_attention(const Operator& op, const Layer& layer, const AttentionIo& io) {
  const int64_t heads = layer.heads, width = layer.in / heads, layers = io.key.shape[0];
  const int64_t left = io.key.rank == 5 ? io.key.shape[3] : kAny;
  expect(op, "x", io.x, {1, kAny, layer.in});
  expect(op, "positions", io.positions, {1, io.x.shape[1], layer.in});
  expect(op, "hidden", io.hidden, {1});
  expect(op, "key", io.key, {kAny, 1, heads, kAny, width});
  expect(op, "value", io.value, {layers, 1, heads, left, width});
  expect(op, "score", io.score, {layers, 1, heads, left});
  expect_slot(op, layer, layers);
  copy_shape(io.x, io.y);
  copy_state_shape(io.key, io.new_key);
  copy_state_shape(io.value, io.new_value);
  copy_state_shape(io.score, io.new_score);
}

void infer_convolution(const Operator& op, const Layer& layer, const ConvolutionIo& io) {
  expect(op, "x", io.x, {1, kAny, layer.in});
  expect(op, "past", io.past, {kAny, 1, layer.kernel - 1, layer.in});
  expect_slot(op, layer, io.past.shape[0]);
  copy_shape(io.x, io.y);
  copy_state_shape(io.past, io.new_past);
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
  for (int i = 0; i < input_count; i++) check_size(op, in[i]);
  switch (layer.kind) {
    case LayerKind::kLinear:
    case LayerKind::kFeedForward:
      return infer_rows(op, layer, in[0], out[0]);
    case LayerKind::kSubsampling:
      return infer_subsampling(op, layer, in[0], out[0]);
    case LayerKind::kAttention:
      return infer_attention(op, layer, attention_io(in, out));
    case LayerKind::kConvolution:
      return infer_convolution(op, layer, convolution_io(in, out));
  }
}

void run_layer(const Kernel& kernel, const Weights& weights, const Layer& layer,
               const EdgeAsrTensor* in, EdgeAsrTensor* out) {
  switch (layer.kind) {
    case LayerKind::kLinear:
      return multiply(kernel, layer.matrices[0], in[0].data, rows_of(in[0]), layer.activation,
                      out[0].data);
    case LayerKind::kFeedForward:
      return run_feed_forward(kernel, weights, layer, in[0].data, rows_of(in[0]), out[0].data);
    case LayerKind::kSubsampling:
      return run_subsampling(kernel, layer, in[0], out[0]);
    case LayerKind::kAttention:
      return run_attention(kernel, layer, attention_io(in, out));
    case LayerKind::kConvolution:
      return run_convolution(kernel, layer, convolution_io(in, out));
  }
}

}  // namespace edge_asr
