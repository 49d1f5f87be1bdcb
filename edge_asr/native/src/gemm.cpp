#include "gemm.h"

#include <algorithm>

#include "per_thread.h"
#include "threads.h"

namespace edge_asr {
namespace {

// Rows of one product: their bytes stay in the second-level cache while the panels pass by.
constexpr int kBlockBytes = 256 << 10;

struct Scratch {
  Buffer<uint8_t> bytes, packed;
  Buffer<RowScale> scales;
  Buffer<float> rooms;
  std::vector<float*> out;
  std::vector<const uint8_t*> pointers;
};

// Sizes of the tiles that `count` rows are cut into: full ones, then two of about the same size.
int tile_rows(const Kernel& kernel, int left) {
  if (left <= kernel.max_rows) return left;
  return left >= 2 * kernel.max_rows ? kernel.max_rows : (left + 1) / 2;
}

void run_panel(const Kernel& kernel, const Product& product, int panel, const uint8_t* ahead,
               Activation activation) {
  const Matrix& matrix = *product.matrix;
  const uint8_t* weights = matrix.panel(panel);
  const int channel = panel * kPanel;
  Emit emit{};
  emit.scale = matrix.scale + channel;
  emit.sum = matrix.sum ? matrix.sum + channel : nullptr;
  emit.scaled_sum = matrix.scaled_sum ? matrix.scaled_sum + channel : nullptr;
  emit.bias = matrix.bias + channel;
  emit.activation = activation;
  emit.channels = std::min(kPanel, matrix.out - channel);
  const uint8_t* packed = product.packed;
  float* out[kMaxTileRows];
  for (int row = 0; row < product.count;) {
    const int rows = tile_rows(kernel, product.count - row);
    for (int i = 0; i < rows; i++) out[i] = product.out[row + i] + channel;
    emit.rows = product.scales + row;
    emit.gates = product.gates ? product.gates + row : nullptr;
    emit.out = out;
    // What comes next is fetched while the first tile waits for nothing else.
    const uint8_t* next = row == 0 ? ahead : nullptr;
    if (matrix.bits == 8)
      kernel.tile8(packed, rows, matrix.depth, reinterpret_cast<const int8_t*>(weights),
                   reinterpret_cast<const int8_t*>(next), emit);
    else
      kernel.tile4(packed, rows, matrix.depth, matrix.group, weights, next, emit);
    packed += at(rows, matrix.depth);
    row += rows;
  }
}

}  // namespace

void pack_rows(const Kernel& kernel, const uint8_t* const* rows, int count, int depth,
               uint8_t* out) {
  for (int row = 0; row < count;) {
    const int tile = tile_rows(kernel, count - row);
    kernel.pack(rows + row, tile, depth, out);
    out += at(tile, depth);
    row += tile;
  }
}

void run_products(const Kernel& kernel, const std::vector<Product>& products,
                  Activation activation) {
  if (products.empty()) return;
  parallel([&](int index, int count) {
    for (size_t i = 0; i < products.size(); i++) {
      const Product& product = products[i];
      const int panels = product.matrix->panels;
      const int begin = panels * index / count, end = panels * (index + 1) / count;
      for (int panel = begin; panel < end; panel++) {
        const uint8_t* ahead = nullptr;
        if (panel + 1 < end) {
          ahead = product.matrix->panel(panel + 1);
        } else if (i + 1 < products.size()) {
          const Matrix& next = *products[i + 1].matrix;
          ahead = next.panel(next.panels * index / count);
        } else {
          ahead = product.matrix->panel(panel);
        }
        run_panel(kernel, product, panel, ahead, activation);
      }
    }
  });
}

void for_each(int64_t count, const std::function<void(int64_t)>& body) {
  parallel([&](int index, int parts) {
    for (int64_t i = count * index / parts; i < count * (index + 1) / parts; i++) body(i);
  });
}

void for_each(int64_t count, Buffer<float>& rooms, int64_t floats,
              const std::function<void(int64_t, float*)>& body) {
  const int most = threads();
  float* room = rooms.reserve(at(most, floats));
  parallel(
      [&](int index, int parts) {
        for (int64_t i = count * index / parts; i < count * (index + 1) / parts; i++)
          body(i, room + at(index, floats));
      },
      most);
}

void quantize_rows(const Kernel& kernel, const float* x, int count, int in, int depth,
                   uint8_t* bytes, RowScale* scales) {
  for_each(count, [&](int64_t row) {
    scales[row] = kernel.quantize(x + at(row, in), in, depth, bytes + at(row, depth));
  });
}

void multiply(const Kernel& kernel, const Matrix& matrix, const RowSource& x, int64_t rows,
              Activation activation, float* y) {
  static PerThread<Scratch> scratches;
  Scratch& s = scratches.get();
  const int block = std::max(kernel.max_rows, kBlockBytes / matrix.depth);
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int count = static_cast<int>(std::min<int64_t>(block, rows - begin));
    uint8_t* bytes = s.bytes.reserve(at(count, matrix.depth));
    uint8_t* packed = s.packed.reserve(at(count, matrix.depth));
    RowScale* scales = s.scales.reserve(count);
    for_each(count, s.rooms, matrix.in, [&](int64_t row, float* room) {
      const float* from = x(begin + row, room);
      scales[row] = kernel.quantize(from, matrix.in, matrix.depth, bytes + at(row, matrix.depth));
    });
    s.out.resize(count);
    s.pointers.resize(count);
    for (int row = 0; row < count; row++) {
      s.out[row] = y + at(begin + row, matrix.out);
      s.pointers[row] = bytes + at(row, matrix.depth);
    }
    pack_rows(kernel, s.pointers.data(), count, matrix.depth, packed);
    const Product product = {
        .matrix = &matrix, .packed = packed, .scales = scales, .count = count, .out = s.out.data()};
    run_products(kernel, {product}, activation);
  }
}

void multiply(const Kernel& kernel, const Matrix& matrix, const float* x, int64_t rows,
              Activation activation, float* y) {
  multiply(
      kernel, matrix, [&](int64_t row, float*) { return x + at(row, matrix.in); }, rows, activation,
      y);
}

const float* normed(const Kernel& kernel, const Layer& layer, const float* x, int64_t rows,
                    Buffer<float>& room) {
  if (!layer.norm_scale) return x;
  float* y = room.reserve(at(rows, layer.in));
  for_each(rows, [&](int64_t row) {
    kernel.normalize(x + at(row, layer.in), layer.norm_scale, layer.norm_shift, layer.in,
                     y + at(row, layer.in));
  });
  return y;
}

void add_residual(const Kernel& kernel, const Layer& layer, const float* x, int64_t rows,
                  float* y) {
  if (!layer.norm_scale) return;
  for_each(rows, [&](int64_t row) {
    kernel.add(x + at(row, layer.in), layer.residual, layer.in, y + at(row, layer.in));
  });
}

}  // namespace edge_asr
