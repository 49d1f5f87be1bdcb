#include "weights.h"

#include <cstring>
#include <mutex>
#include <stdexcept>
#include <unordered_map>

namespace edge_asr {
namespace {

constexpr char kMagic[8] = {'E', 'D', 'G', 'E', 'A', 'S', 'R', 'W'};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 64, kAlignment = 64;
constexpr uint32_t kMaxLayers = 1 << 16, kMaxSize = 1 << 16, kMaxExperts = 64;

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
  const T* array(int count) {
    return reinterpret_cast<const T*>(take(sizeof(T) * static_cast<size_t>(count)));
  }

  size_t left() const { return left_; }

 private:
  const uint8_t* at_;
  size_t left_;
  uint32_t layer_;
};

Matrix read_matrix(Cursor& data, const LayerHeader& header, int in, int out) {
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
  const size_t depth = static_cast<size_t>(matrix.depth);
  matrix.panel_bytes = header.bits == 8
                           ? depth * kPanel
                           : depth / header.group * (2 * kPanel + header.group * kPanel / 2);
  matrix.panel = data.take(matrix.panel_bytes * static_cast<size_t>(matrix.panels));
  return matrix;
}

void check(uint32_t index, const LayerHeader& header) {
  const auto kind = static_cast<LayerKind>(header.kind);
  const bool feed_forward = kind == LayerKind::kFeedForward;
  if (!feed_forward && kind != LayerKind::kLinear && kind != LayerKind::kConvolution)
    refuse(index, "kind " + std::to_string(header.kind) + " is unknown");
  if (header.activation > static_cast<uint32_t>(Activation::kSilu))
    refuse(index, "activation " + std::to_string(header.activation) + " is unknown");
  for (uint32_t size : {header.in, header.out, feed_forward ? header.hidden : 1u})
    if (size < 1 || size > kMaxSize)
      refuse(index, "a size of " + std::to_string(size) + ", allowed are 1 to 65536");
  if (header.bits != 8 && header.bits != 4)
    refuse(index, std::to_string(header.bits) + " bits, allowed are 8 and 4");
  const bool group_fits = header.bits == 8 ? header.group == 0
                                           : header.group == 32 || header.group == 64 ||
                                                 header.group == 128;
  if (!group_fits)
    refuse(index, "groups of " + std::to_string(header.group) + ", allowed are 32, 64 and 128");
  if (header.experts > kMaxExperts || (header.experts > 0 && !feed_forward))
    refuse(index, std::to_string(header.experts) + " experts, allowed are 0 to 64");
  if (header.top_k > header.experts || (header.experts > 0 && header.top_k < 1))
    refuse(index, "top-" + std::to_string(header.top_k) + " of " +
                      std::to_string(header.experts) + " experts");
}

Layer read_layer(uint32_t index, const LayerHeader& header, const uint8_t* bytes, size_t size) {
  check(index, header);
  if (header.offset % kAlignment || header.offset > size || header.bytes > size - header.offset)
    refuse(index, "its data lies outside the file");
  Layer layer;
  layer.kind = static_cast<LayerKind>(header.kind);
  layer.activation = static_cast<Activation>(header.activation);
  layer.in = static_cast<int>(header.in);
  layer.out = static_cast<int>(header.out);
  layer.top_k = static_cast<int>(header.top_k);
  Cursor data(bytes + header.offset, header.bytes, index);
  const int experts = header.experts ? static_cast<int>(header.experts) : 1;
  if (header.experts) layer.router = data.array<float>(experts * layer.in);
  for (int expert = 0; expert < experts; expert++) {
    if (layer.kind == LayerKind::kFeedForward) {
      const int hidden = static_cast<int>(header.hidden);
      layer.first.push_back(read_matrix(data, header, layer.in, hidden));
      layer.second.push_back(read_matrix(data, header, hidden, layer.out));
    } else {
      layer.first.push_back(read_matrix(data, header, layer.in, layer.out));
    }
  }
  if (data.left()) refuse(index, "its data is longer than its sizes say");
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
  return layers_[static_cast<size_t>(index)];
}

namespace {

struct Registry {
  std::mutex mutex;
  std::unordered_map<int64_t, std::shared_ptr<Weights>> entries;
};

Registry& registry() {
  static Registry* one = new Registry;  // outlives the programs of a process that ends
  return *one;
}

}  // namespace

void register_weights(int64_t id, std::shared_ptr<Weights> weights) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  registry().entries[id] = std::move(weights);
}

void unregister_weights(int64_t id) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  registry().entries.erase(id);
}

std::shared_ptr<Weights> find_weights(int64_t id) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  const auto found = registry().entries.find(id);
  if (found == registry().entries.end())
    throw std::out_of_range(
        "the program's weights are not loaded; open it through edge_asr, which loads them");
  return found->second;
}

}  // namespace edge_asr
