#include "weights.h"

#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <unordered_map>

namespace edge_asr {
namespace {

constexpr char kMagic[8] = {'E', 'D', 'G', 'E', 'A', 'S', 'R', 'W'};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 64, kAlignment = 64;
constexpr uint32_t kMaxLayers = 1 << 16, kMaxSize = 1 << 16, kMaxExperts = 64, kMaxKernel = 256;

[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument("native weights: " + what + "; export the package again");
}

[[noreturn]] void refuse(uint32_t layer, const std::string& what) {
  refuse("layer " + std::to_string(layer) + ": " + what);
}

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Hands out the parts of a layer's data, one after another.
class Cursor {
 public:
  Cursor(const uint8_t* begin, size_t size, uint32_t layer)
      : at_(begin), left_(size), layer_(layer) {}

  const uint8_t* take(size_t bytes) {
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > left_) refuse(layer_, "its data ends early");
    const uint8_t* part = at_;
    at_ += bytes;
    left_ -= bytes;
    return part;
  }

  template <class T>
  const T* array(int64_t count) {
    return reinterpret_cast<const T*>(take(sizeof(T) * count));
  }

  size_t left() const { return left_; }

  [[noreturn]] void refuse_depth(int depth) const {
    refuse(layer_, "rows of " + std::to_string(depth) + " numbers, allowed are 1 to 65536");
  }

 private:
  const uint8_t* at_;
  size_t left_;
  uint32_t layer_;
};

// Adds up a panel's integers (depth / 4, 32, 4) by output channel.
void add_up8(const uint8_t* panel, int depth, int32_t* sums) {
  constexpr int kRow = 4 * kPanel, kTogether = 255;  // so many stay below 2^15
  const auto* row = reinterpret_cast<const int8_t*>(panel);
  int32_t totals[kRow] = {};
  for (int left = depth / 4; left > 0; left -= kTogether) {
    int16_t few[kRow] = {};
    for (int i = 0; i < std::min(left, kTogether); i++, row += kRow)
      for (int j = 0; j < kRow; j++) few[j] = static_cast<int16_t>(few[j] + row[j]);
    for (int j = 0; j < kRow; j++) totals[j] += few[j];
  }
  for (int j = 0; j < kRow; j++) sums[j / 4] += totals[j];
}

// The same of one group of int4, [group / 4][16][4] bytes.
void add_up4(const uint8_t* packed, int group, int32_t* sums) {
  constexpr int kHalf = kPanel / 2;
  for (int i = 0; i < group * kHalf; i++) {
    const int channel = i / 4 % kHalf;
    sums[channel] += (packed[i] & 15) - 8;
    sums[channel + kHalf] += (packed[i] >> 4) - 8;
  }
}

float from_bfloat16(const uint8_t* bytes) {
  uint32_t bits = static_cast<uint32_t>(bytes[0] | bytes[1] << 8) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The sum that an output channel's weights must have, and how far float32 may be from it.
struct Sum {
  double value = 0, rounding = 0;
};

void add_up_groups(const Matrix& matrix, const uint8_t* panel, Sum* sums) {
  for (int g = 0; g < matrix.depth / matrix.group; g++) {
    const uint8_t* scales = panel;
    int32_t weights[kPanel] = {};
    panel += at(2, kPanel);
    add_up4(panel, matrix.group, weights);
    panel += at(matrix.group, kPanel) / 2;
    for (int c = 0; c < kPanel; c++) {
      const double term = static_cast<double>(from_bfloat16(scales + at(2, c))) * weights[c];
      sums[c].value += term;
      sums[c].rounding += 1e-5 * std::abs(term);
    }
  }
}

// Whether the integers are those that the sums were made of: any that is another shows, and any
// order of panels that is another.
bool sums_fit(const Matrix& matrix) {
  for (int p = 0; p < matrix.panels; p++) {
    const int first = p * kPanel;
    if (matrix.bits == 8) {
      int32_t sums[kPanel] = {};
      add_up8(matrix.panel(p), matrix.depth, sums);
      if (!std::equal(sums, sums + kPanel, matrix.sum + first)) return false;
      continue;
    }
    Sum sums[kPanel];
    add_up_groups(matrix, matrix.panel(p), sums);
    for (int c = 0; c < kPanel; c++)  // so that what is no number does not fit either
      if (!(std::abs(sums[c].value - matrix.scaled_sum[first + c]) <= sums[c].rounding))
        return false;
  }
  return true;
}

Matrix read_matrix(Cursor& data, const LayerHeader& header, int in, int out) {
  // Sums of products stay below 2^31.
  if (in > static_cast<int>(kMaxSize)) data.refuse_depth(in);
  Matrix matrix;
  matrix.in = in;
  matrix.out = out;
  matrix.bits = static_cast<int>(header.bits);
  matrix.group = static_cast<int>(header.group);
  matrix.depth = round_up(in, header.bits == 4 ? matrix.group : kDepthMultiple);
  matrix.panels = round_up(out, kPanel) / kPanel;
  const int channels = matrix.panels * kPanel;
  matrix.scale = data.array<float>(channels);
  if (header.bits == 8)
    matrix.sum = data.array<int32_t>(channels);
  else
    matrix.scaled_sum = data.array<float>(channels);
  matrix.bias = data.array<float>(channels);
  // int4: bfloat16 scales of a group, then its weights, two in a byte.
  const int64_t group_bytes = at(2, kPanel) + at(matrix.group, kPanel) / 2;
  matrix.panel_bytes =
      header.bits == 8 ? at(matrix.depth, kPanel) : at(matrix.depth / matrix.group, group_bytes);
  matrix.panels_begin = data.take(at(matrix.panels, matrix.panel_bytes));
  return matrix;
}

bool is(const LayerHeader& header, LayerKind kind) {
  return header.kind == static_cast<uint32_t>(kind);
}

void check_sizes(uint32_t index, const LayerHeader& header) {
  const bool has_hidden =
      is(header, LayerKind::kFeedForward) || is(header, LayerKind::kSubsampling);
  for (uint32_t size : {header.in, header.out, has_hidden ? header.hidden : 1u})
    if (size < 1 || size > kMaxSize)
      refuse(index, "a size of " + std::to_string(size) + ", allowed are 1 to 65536");
  if ((header.flags & kResidual) &&
      (is(header, LayerKind::kLinear) || is(header, LayerKind::kSubsampling)))
    refuse(index, "a residual, which its kind has not");
  const bool same = is(header, LayerKind::kAttention) || is(header, LayerKind::kConvolution) ||
                    (header.flags & kResidual);
  if (same && header.in != header.out) refuse(index, "its input and output differ in size");
  if (is(header, LayerKind::kAttention) && (header.heads < 1 || header.in % header.heads))
    refuse(index, std::to_string(header.heads) + " heads of " + std::to_string(header.in));
  if (is(header, LayerKind::kConvolution) && (header.kernel < 1 || header.kernel > kMaxKernel))
    refuse(index, "a kernel of " + std::to_string(header.kernel) + ", allowed are 1 to 256");
  if (header.slot > kMaxSize) refuse(index, "slot " + std::to_string(header.slot));
  if (is(header, LayerKind::kSubsampling) && (header.in < 7 || header.hidden > kMaxSize / 9))
    refuse(index, "a subsampling of " + std::to_string(header.in) + " bins to " +
                      std::to_string(header.hidden) + " channels");
}

void check(uint32_t index, const LayerHeader& header) {
  if (header.kind < static_cast<uint32_t>(LayerKind::kLinear) ||
      header.kind > static_cast<uint32_t>(LayerKind::kConvolution))
    refuse(index, "kind " + std::to_string(header.kind) + " is unknown");
  if (header.activation > static_cast<uint32_t>(Activation::kSilu))
    refuse(index, "activation " + std::to_string(header.activation) + " is unknown");
  if (header.flags & ~uint32_t{kResidual | kInnerLayerNorm})
    refuse(index, "flags " + std::to_string(header.flags) + " are unknown");
  check_sizes(index, header);
  if (header.bits != 8 && header.bits != 4)
    refuse(index, std::to_string(header.bits) + " bits, allowed are 8 and 4");
  const bool group_fits = header.bits == 8
                              ? header.group == 0
                              : header.group == 32 || header.group == 64 || header.group == 128;
  if (!group_fits)
    refuse(index, "groups of " + std::to_string(header.group) + ", allowed are 32, 64 and 128");
  if (header.experts > kMaxExperts || (header.experts > 0 && !is(header, LayerKind::kFeedForward)))
    refuse(index, std::to_string(header.experts) + " experts, allowed are 0 to 64");
  if (header.top_k > header.experts || (header.experts > 0 && header.top_k < 1))
    refuse(index, "top-" + std::to_string(header.top_k) + " of " + std::to_string(header.experts) +
                      " experts");
}

// The vectors and matrices of each kind, in the order of the file.
void read_parts(Cursor& data, const LayerHeader& header, Layer& layer) {
  auto vector = [&](int64_t count) { layer.vectors.push_back(data.array<float>(count)); };
  auto matrix = [&](int in, int out) {
    layer.matrices.push_back(read_matrix(data, header, in, out));
  };
  const int in = layer.in, hidden = layer.hidden, out = layer.out;
  switch (layer.kind) {
    case LayerKind::kLinear:
      matrix(in, out);
      break;
    case LayerKind::kFeedForward:
      if (layer.experts) layer.router = data.array<float>(at(layer.experts, in));
      for (int expert = 0; expert < (layer.experts ? layer.experts : 1); expert++) {
        matrix(in, hidden);
        matrix(hidden, out);
      }
      break;
    case LayerKind::kSubsampling:
      vector(at(9, hidden));
      vector(hidden);
      matrix(9 * hidden, hidden);
      matrix(hidden * (((in - 1) / 2 - 1) / 2), out);
      break;
    case LayerKind::kAttention:
      for (int i = 0; i < 2; i++) vector(in);
      matrix(in, 3 * in);
      for (int i = 0; i < 2; i++) matrix(in, in);
      break;
    case LayerKind::kConvolution:
      vector(at(layer.kernel, in));
      for (int i = 0; i < 4; i++) vector(in);
      matrix(in, 2 * in);
      matrix(in, in);
      break;
  }
}

Layer read_layer(uint32_t index, const LayerHeader& header, const uint8_t* bytes, size_t size) {
  check(index, header);
  if (header.offset % kAlignment || header.offset > size || header.bytes > size - header.offset)
    refuse(index, "its data lies outside the file");
  Layer layer;
  layer.kind = static_cast<LayerKind>(header.kind);
  layer.activation = static_cast<Activation>(header.activation);
  layer.in = static_cast<int>(header.in);
  layer.hidden = static_cast<int>(header.hidden);
  layer.out = static_cast<int>(header.out);
  layer.experts = static_cast<int>(header.experts);
  layer.top_k = static_cast<int>(header.top_k);
  layer.heads = static_cast<int>(header.heads);
  layer.kernel = static_cast<int>(header.kernel);
  layer.slot = static_cast<int>(header.slot);
  layer.residual = header.flags & kResidual ? header.residual : 0.0f;
  layer.inner_layer_norm = header.flags & kInnerLayerNorm;
  Cursor data(bytes + header.offset, header.bytes, index);
  if (header.flags & kResidual) {
    layer.norm_scale = data.array<float>(layer.in);
    layer.norm_shift = data.array<float>(layer.in);
  }
  read_parts(data, header, layer);
  if (data.left()) refuse(index, "its data is longer than its sizes say");
  for (const Matrix& matrix : layer.matrices)
    if (!sums_fit(matrix)) refuse(index, "its integers do not add up to the sums beside them");
  return layer;
}

}  // namespace

Weights::Weights(const uint8_t* bytes, size_t size) {
  if (reinterpret_cast<uintptr_t>(bytes) % kAlignment) refuse("not aligned to 64 bytes");
  if (size < kHeaderBytes || std::memcmp(bytes, kMagic, sizeof kMagic) != 0)
    refuse("not a file of weights");
  uint32_t version, layers;
  uint64_t total;
  std::memcpy(&version, bytes + 8, sizeof version);
  std::memcpy(&layers, bytes + 12, sizeof layers);
  std::memcpy(&total, bytes + 16, sizeof total);
  if (version != kVersion)
    refuse("version " + std::to_string(version) + ", this edge_asr reads version " +
           std::to_string(kVersion));
  if (total != size)
    refuse("expected " + std::to_string(total) + " bytes, found " + std::to_string(size));
  if (layers > kMaxLayers || layers * sizeof(LayerHeader) > size - kHeaderBytes)
    refuse("the list of layers ends early");
  layers_.reserve(layers);
  for (uint32_t index = 0; index < layers; index++) {
    LayerHeader header;
    std::memcpy(&header, bytes + kHeaderBytes + index * sizeof header, sizeof header);
    layers_.push_back(read_layer(index, header, bytes, size));
  }
}

const Layer& Weights::layer(int64_t index) const {
  if (index < 0 || index >= static_cast<int64_t>(layers_.size()))
    throw std::out_of_range("native weights: no layer " + std::to_string(index) + ", there are " +
                            std::to_string(layers_.size()) + "; export the package again");
  return layers_[index];
}

namespace {

std::mutex registering;

// Needs `registering`.
auto& registry() {
  // Outlives the programs of a process that ends.
  static auto* one = new std::unordered_map<int64_t, std::shared_ptr<Weights>>;
  return *one;
}

void lock_registry() { registering.lock(); }
void unlock_registry() { registering.unlock(); }
// A process is not forked while a thread that it will not have holds the lock.
[[maybe_unused]] const int handlers =
    pthread_atfork(lock_registry, unlock_registry, unlock_registry);

}  // namespace

void register_weights(int64_t id, std::shared_ptr<Weights> weights) {
  std::lock_guard<std::mutex> lock(registering);
  registry()[id] = std::move(weights);
}

void unregister_weights(int64_t id) {
  std::lock_guard<std::mutex> lock(registering);
  registry().erase(id);
}

std::shared_ptr<Weights> find_weights(int64_t id) {
  std::lock_guard<std::mutex> lock(registering);
  const auto found = registry().find(id);
  if (found == registry().end())
    throw std::out_of_range(
        "the program's weights are not loaded; open it through edge_asr, which loads them");
  return found->second;
}

}  // namespace edge_asr
