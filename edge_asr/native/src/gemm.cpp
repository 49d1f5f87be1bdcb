#include "gemm.h"

#include <algorithm>

#include "threads.h"

namespace edge_asr {
namespace {

// Rows of one product: their bytes stay in the second-level cache while the panels pass by.
constexpr int kBlockBytes = 256 << 10;

// Sizes of the tiles that `count` rows are cut into: full ones, then two of about the same size.
int tile_rows(const Kernel& kernel, int left) {
  if (left <= kernel.max_rows) return left;
  return left >= 2 * kernel.max_rows ? kernel.max_rows : (left + 1) / 2;
}

void run_panel(const Kernel& kernel, const Product& product, int panel, const uint8_t* ahead,
               Activation activation) {
  const Matrix& matrix = *product.matrix;
  const uint8_t* weights = matrix.panel + matrix.panel_bytes * static_cast<size_t>(panel);
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
    packed += static_cast<size_t>(rows) * static_cast<size_t>(matrix.depth);
    row += rows;
  }
}

}  // namespace

void pack_rows(const Kernel& kernel, const uint8_t* const* rows, int count, int depth,
               uint8_t* out) {
  for (int row = 0; row < count;) {
    const int tile = tile_rows(kernel, count - row);
    kernel.pack(rows + row, tile, depth, out);
    out += static_cast<size_t>(tile) * static_cast<size_t>(depth);
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
          ahead =
              product.matrix->panel + product.matrix->panel_bytes * static_cast<size_t>(panel + 1);
        } else if (i + 1 < products.size()) {
          const Matrix& next = *products[i + 1].matrix;
          ahead = next.panel + next.panel_bytes * static_cast<size_t>(next.panels * index / count);
        } else {
          ahead = product.matrix->panel + product.matrix->panel_bytes * static_cast<size_t>(panel);
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

void quantize_rows(const Kernel& kernel, const float* x, int count, int in, int depth,
                   uint8_t* bytes, RowScale* scales) {
  for_each(count, [&](int64_t row) {
    scales[row] = kernel.quantize(x + row * in, in, depth, bytes + row * depth);
  });
}

void multiply(const Kernel& kernel, const Matrix& matrix, const RowSource& x, int64_t rows,
              Activation activation, float* y) {
  static thread_local Buffer<uint8_t> bytes_buffer, packed_buffer;
  static thread_local Buffer<RowScale> scale_buffer;
  static thread_local std::vector<float*> out;
  static thread_local std::vector<const uint8_t*> pointers;
  const int block = std::max(kernel.max_rows, kBlockBytes / matrix.depth);
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int count = static_cast<int>(std::min<int64_t>(block, rows - begin));
    const size_t depth = static_cast<size_t>(matrix.depth), size = static_cast<size_t>(count);
    uint8_t* bytes = bytes_buffer.reserve(size * depth);
    uint8_t* packed = packed_buffer.reserve(size * depth);
    RowScale* scales = scale_buffer.reserve(size);
    for_each(count, [&](int64_t row) {
      static thread_local Buffer<float> room;
      const float* from = x(begin + row, room.reserve(static_cast<size_t>(matrix.in)));
      scales[row] =
          kernel.quantize(from, matrix.in, matrix.depth, bytes + static_cast<size_t>(row) * depth);
    });
    out.resize(size);
    pointers.resize(size);
    for (int row = 0; row < count; row++) {
      out[static_cast<size_t>(row)] = y + (begin + row) * matrix.out;
      pointers[static_cast<size_t>(row)] = bytes + static_cast<size_t>(row) * depth;
    }
    pack_rows(kernel, pointers.data(), count, matrix.depth, packed);
    run_products(kernel, {{&matrix, packed, scales, count, out.data(), nullptr}}, activation);
  }
}

void multiply(const Kernel& kernel, const Matrix& matrix, const float* x, int64_t rows,
              Activation activation, float* y) {
  multiply(
      kernel, matrix, [&](int64_t row, float*) { return x + row * matrix.in; }, rows, activation,
      y);
}

const float* normed(const Kernel& kernel, const Layer& layer, const float* x, int64_t rows,
                    Buffer<float>& room) {
  if (!layer.norm_scale) return x;
  float* y = room.reserve(static_cast<size_t>(rows) * static_cast<size_t>(layer.in));
  for_each(rows, [&](int64_t row) {
    kernel.normalize(x + row * layer.in, layer.norm_scale, layer.norm_shift, layer.in,
                     y + row * layer.in);
  });
  return y;
}

void add_residual(const Kernel& kernel, const Layer& layer, const float* x, int64_t rows,
                  float* y) {
  if (!layer.norm_scale) return;
  for_each(rows, [&](int64_t row) {
    kernel.add(x + row * layer.in, layer.residual, layer.in, y + row * layer.in);
  });
}

}  // namespace edge_asr
