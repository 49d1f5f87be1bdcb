#include "edge_asr_native.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "gemm.h"
#include "kernel.h"
#include "moe_ffn.h"
#include "threads.h"
#include "weights.h"

namespace {

using namespace edge_asr;

constexpr size_t kHugePage = size_t{2} << 20;

thread_local std::string last_error;

// Calls `function`; what it throws becomes -1 and the last error.
template <class Function>
int64_t guarded(Function function) noexcept {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    last_error = "out of memory; use smaller chunks";
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown error";
  }
  return -1;
}

std::atomic<const Kernel*> forced{nullptr};

const Kernel& current_kernel() {
  const Kernel* kernel = forced;
  return kernel ? *kernel : best_kernel();
}

size_t whole_pages(size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

[[noreturn]] void wrong_width(const Layer& layer, int64_t width) {
  throw std::invalid_argument("native operator: rows of " + std::to_string(layer.in) +
                              " numbers expected, found " + std::to_string(width) +
                              "; export the package again");
}

}  // namespace

int edge_asr_abi() { return EDGE_ASR_ABI; }

const char* edge_asr_error() { return last_error.c_str(); }

void* edge_asr_allocate(size_t bytes) {
  const size_t size = whole_pages(bytes ? bytes : 1);
  void* memory = std::aligned_alloc(kHugePage, size);
  if (memory) madvise(memory, size, MADV_HUGEPAGE);  // a tenth faster; no loss where refused
  return memory;
}

void edge_asr_free(void* memory, size_t) { std::free(memory); }

int edge_asr_load(int64_t id, void* memory, size_t bytes) {
  return static_cast<int>(guarded([&] {
    // The weights are parsed first: on an error the memory stays the caller's.
    auto weights = std::make_unique<Weights>(static_cast<const uint8_t*>(memory), bytes);
    register_weights(id, std::shared_ptr<Weights>(weights.release(), [memory](Weights* owned) {
                       delete owned;
                       std::free(memory);
                     }));
    return 0;
  }));
}

void edge_asr_unload(int64_t id) { unregister_weights(id); }

int edge_asr_set_levers(int64_t id, int top_k, float min_weight, int max_experts) {
  return static_cast<int>(guarded([&] {
    if (top_k < 0 || max_experts < 0 || !(min_weight >= 0.0f && min_weight < 1.0f))
      throw std::invalid_argument(
          "levers: top_k and max_experts are 0 or more, min_weight is from 0 to below 1");
    const auto weights = find_weights(id);
    weights->levers.top_k = top_k;
    weights->levers.min_weight = min_weight;
    weights->levers.max_experts = max_experts;
    return 0;
  }));
}

int edge_asr_counters(int64_t id, int64_t* four) {
  return static_cast<int>(guarded([&] {
    const auto weights = find_weights(id);
    Counters& counters = weights->counters;
    four[0] = counters.calls.exchange(0);
    four[1] = counters.rows.exchange(0);
    four[2] = counters.pairs.exchange(0);
    four[3] = counters.experts.exchange(0);
    return 0;
  }));
}

int edge_asr_run(int64_t id, int64_t index, const float* x, int64_t rows, int64_t width,
                 float* y) {
  return static_cast<int>(guarded([&] {
    const auto weights = find_weights(id);
    const Layer& layer = weights->layer(index);
    if (width != layer.in) wrong_width(layer, width);
    if (rows < 0 || rows > (1 << 24))
      throw std::invalid_argument("native operator: " + std::to_string(rows) +
                                  " rows, allowed are 0 to 16777216; use smaller chunks");
    if (layer.kind == LayerKind::kFeedForward)
      run_feed_forward(current_kernel(), *weights, layer, x, rows, y);
    else
      run_linear(current_kernel(), layer, x, rows, y);
    return 0;
  }));
}

int64_t edge_asr_output_width(int64_t id, int64_t index, int64_t width) {
  return guarded([&] {
    const auto weights = find_weights(id);
    const Layer& layer = weights->layer(index);
    if (width != layer.in) wrong_width(layer, width);
    return static_cast<int64_t>(layer.out);
  });
}

void edge_asr_set_threads(int count) {
  guarded([&] {
    set_threads(count);
    return 0;
  });
}

int edge_asr_threads() { return threads(); }

const char* edge_asr_kernel() { return current_kernel().name; }

int edge_asr_set_kernel(const char* name) {
  const Kernel* kernel = find_kernel(name);
  if (!kernel) {
    last_error = std::string("kernel ") + name + " is not in this build, or not for this processor";
    return -1;
  }
  forced = kernel;
  return 0;
}

const char* edge_asr_kernel_name(int i) {
  int count;
  const KernelEntry* entries = kernels(&count);
  return i >= 0 && i < count ? entries[i].kernel->name : nullptr;
}

int edge_asr_kernel_supported(int i) {
  int count;
  const KernelEntry* entries = kernels(&count);
  return i >= 0 && i < count && entries[i].supported();
}
