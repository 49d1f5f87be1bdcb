// Rows times matrices: what linear layers and experts are made of.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <new>
#include <vector>

#include "kernel.h"
#include "weights.h"

namespace edge_asr {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kReuseMemory = false;  // so that what lies past the end is never ours
#else
constexpr bool kReuseMemory = true;
#endif

// Memory that is used again, aligned to a cache line. It grows when more is wanted, and shrinks
// when less than half was, for many calls; contents are lost then.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  T* reserve(int64_t count) {
    most_ = std::max(most_, count);
    if (count > capacity_ || !kReuseMemory) allocate(count);
    if (++calls_ == kCallsTogether) {
      if (capacity_ > 2 * most_) allocate(most_);
      most_ = count;
      calls_ = 0;
    }
    return data_;
  }

 private:
  // More than one step of a large encoder makes with any of them.
  static constexpr int kCallsTogether = 256;

  void allocate(int64_t count) {
    std::free(data_);
    data_ = nullptr;
    capacity_ = 0;
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, sizeof(T) * count) != 0) throw std::bad_alloc();
    data_ = static_cast<T*>(memory);
    capacity_ = count;
  }

  T* data_ = nullptr;
  int64_t capacity_ = 0;
  int64_t most_ = 0;  // that was wanted in `calls_` calls
  int calls_ = 0;
};

// Quantized rows: bytes (count, depth), and each row's scale.
struct QuantizedRows {
  const uint8_t* bytes = nullptr;
  const RowScale* scales = nullptr;
  int depth = 0;
};

// Some rows times one matrix.
struct Product {
  const Matrix* matrix = nullptr;
  const uint8_t* packed = nullptr;   // tile after tile
  const RowScale* scales = nullptr;  // (count,)
  int count = 0;
  float* const* out = nullptr;   // (count,)
  const float* gates = nullptr;  // (count,), or none: store instead of add
};

// Packs rows given by pointers into `out` (count * depth bytes), as `run_products` reads them.
void pack_rows(const Kernel& kernel, const uint8_t* const* rows, int count, int depth,
               uint8_t* out);

// All products, on all threads. Each output is computed by one thread, product by product in the
// order given, so results are the same for every number of threads.
void run_products(const Kernel& kernel, const std::vector<Product>& products,
                  Activation activation);

// Quantizes x (count, in) to bytes (count, depth), on all threads.
void quantize_rows(const Kernel& kernel, const float* x, int count, int in, int depth,
                   uint8_t* bytes, RowScale* scales);

// Calls body(i) for i in 0..count-1, on all threads.
void for_each(int64_t count, const std::function<void(int64_t)>& body);

// Calls body(i, room) with so many `floats` of room, which is its thread's alone during the call.
void for_each(int64_t count, Buffer<float>& rooms, int64_t floats,
              const std::function<void(int64_t, float*)>& body);

// x (rows, in) times a matrix to y (rows, out). `x` gives row i where it is asked for it, which may
// be a copy in the memory that it is handed, (in,) floats.
using RowSource = std::function<const float*(int64_t row, float* room)>;
void multiply(const Kernel& kernel, const Matrix& matrix, const RowSource& x, int64_t rows,
              Activation activation, float* y);
void multiply(const Kernel& kernel, const Matrix& matrix, const float* x, int64_t rows,
              Activation activation, float* y);

// What a layer reads of x (rows, in): its layer norm in `room`, or x itself without a residual.
const float* normed(const Kernel& kernel, const Layer& layer, const float* x, int64_t rows,
                    Buffer<float>& room);

// y = x + residual * y, or nothing without a residual.
void add_residual(const Kernel& kernel, const Layer& layer, const float* x, int64_t rows, float* y);

}  // namespace edge_asr
