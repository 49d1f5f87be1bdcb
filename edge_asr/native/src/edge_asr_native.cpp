#include "edge_asr_native.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "blocks.h"
#include "kernel.h"
#include "per_thread.h"
#include "threads.h"
#include "weights.h"

namespace {

using namespace edge_asr;

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kHugePage = 64;  // what is read past the end must not be ours
#else
constexpr size_t kHugePage = size_t{2} << 20;
#endif

constexpr const char* kNoMemory = "out of memory; use smaller chunks";

// In memory that every thread has from its beginning, and with it all that this library keeps of a
// thread: an exception of a thread without memory finds its place there too.
[[gnu::tls_model("initial-exec")]] thread_local const char* last_error = "";

struct ErrorText {
  char text[1024];
};

// A copy, as long as there is memory for one.
const char* kept(const char* what) noexcept {
  try {
    static PerThread<ErrorText> texts;
    char* text = texts.get().text;
    std::strncpy(text, what, sizeof(ErrorText) - 1);  // its last byte stays zero
    return text;
  } catch (const std::exception&) {
    return kNoMemory;
  }
}

// Calls `function`; what it throws becomes -1 and the last error.
template <class Function>
int64_t guarded(Function function) noexcept {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    last_error = kNoMemory;
  } catch (const std::exception& error) {
    last_error = kept(error.what());
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

}  // namespace

int edge_asr_abi() { return EDGE_ASR_ABI; }

const char* edge_asr_error() { return last_error; }

void* edge_asr_allocate(size_t bytes) {
  const size_t size = whole_pages(bytes ? bytes : 1);
  void* memory = std::aligned_alloc(kHugePage, size);
  if (memory) madvise(memory, size, MADV_HUGEPAGE);  // a tenth faster; no loss where refused
  return memory;
}

void edge_asr_free(void* memory, size_t) { std::free(memory); }

int edge_asr_load(int64_t id, void* memory, size_t bytes) {
  return static_cast<int>(guarded([&] {
    // Last of all, so that on any error the memory stays the caller's.
    auto weights = std::make_shared<Weights>(static_cast<const uint8_t*>(memory), bytes);
    register_weights(id, weights);
    weights->own(memory);
    return 0;
  }));
}

void edge_asr_unload(int64_t id) {
  guarded([&] {
    unregister_weights(id);
    return 0;
  });
}

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

int edge_asr_operator(const char* name, int* inputs, int* outputs) {
  return static_cast<int>(guarded([&] {
    const Operator& found = find_operator(name);
    *inputs = found.inputs;
    *outputs = found.outputs;
    return 0;
  }));
}

int edge_asr_shapes(int64_t id, int64_t index, const EdgeAsrTensor* inputs, int input_count,
                    EdgeAsrTensor* outputs, int output_count) {
  return static_cast<int>(guarded([&] {
    const auto weights = find_weights(id);
    infer_shapes(weights->layer(index), inputs, input_count, outputs, output_count);
    return 0;
  }));
}

int edge_asr_run(int64_t id, int64_t index, const EdgeAsrTensor* inputs, int input_count,
                 EdgeAsrTensor* outputs, int output_count) {
  return static_cast<int>(guarded([&] {
    const auto weights = find_weights(id);
    EdgeAsrTensor wanted[EDGE_ASR_MAX_TENSORS];
    infer_shapes(weights->layer(index), inputs, input_count, wanted, output_count);
    run_layer(current_kernel(), *weights, weights->layer(index), inputs, outputs);
    return 0;
  }));
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
  return static_cast<int>(guarded([&] {
    const Kernel* kernel = find_kernel(name);
    if (!kernel)
      throw std::invalid_argument(std::string("kernel ") + name +
                                  " is not in this build, or not for this processor");
    forced = kernel;
    return 0;
  }));
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
