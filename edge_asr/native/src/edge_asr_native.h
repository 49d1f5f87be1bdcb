// The C interface of the kernels, for Python (ctypes) and for the operators of the three runtimes.
//
// Functions that can fail give 0, or -1 and then `edge_asr_error()` says what is wrong.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGE_ASR_API __attribute__((visibility("default")))
#define EDGE_ASR_ABI 1

// Of the kernels. Operators that were built with another EDGE_ASR_ABI refuse to run.
EDGE_ASR_API int edge_asr_abi(void);
#define EDGE_ASR_OTHER_BUILD \
  "the native kernels are of another build than the operators; build both with: make native"

// In each library of operators: edge_asr_operators_abi() is the EDGE_ASR_ABI that it was built
// with.
#define EDGE_ASR_OPERATORS \
  extern "C" EDGE_ASR_API int edge_asr_operators_abi(void) { return EDGE_ASR_ABI; }

// What went wrong in this thread's last call; never nullptr.
EDGE_ASR_API const char* edge_asr_error(void);

// Memory for a file of weights, aligned and in huge pages where the system has them.
EDGE_ASR_API void* edge_asr_allocate(size_t bytes);
EDGE_ASR_API void edge_asr_free(void* memory, size_t bytes);

// Weights (see weights.h) under the number that programs carry. `memory` is from
// `edge_asr_allocate` and is owned by the weights if 0 is returned. Programs that are running keep
// unloaded weights alive until they end.
EDGE_ASR_API int edge_asr_load(int64_t id, void* memory, size_t bytes);
EDGE_ASR_API void edge_asr_unload(int64_t id);

// See moe_ffn.h. They hold for all streams of these weights.
EDGE_ASR_API int edge_asr_set_levers(int64_t id, int top_k, float min_weight, int max_experts);

// calls, rows, (row, expert) pairs and touched experts of the expert layers since the last call.
EDGE_ASR_API int edge_asr_counters(int64_t id, int64_t* four);

#define EDGE_ASR_MAX_RANK 8
#define EDGE_ASR_MAX_TENSORS 8

// A dense float32 tensor.
typedef struct {
  float* data;
  int64_t rank;
  int64_t shape[EDGE_ASR_MAX_RANK];
} EdgeAsrTensor;

// How many inputs and outputs the layers behind the operator of that name have; see blocks.h.
EDGE_ASR_API int edge_asr_operator(const char* name, int* inputs, int* outputs);

// One layer. `shapes` fills in the shapes of the outputs, `run` the data that they point to.
EDGE_ASR_API int edge_asr_shapes(int64_t id, int64_t layer, const EdgeAsrTensor* inputs,
                                 int input_count, EdgeAsrTensor* outputs, int output_count);
EDGE_ASR_API int edge_asr_run(int64_t id, int64_t layer, const EdgeAsrTensor* inputs,
                              int input_count, EdgeAsrTensor* outputs, int output_count);

EDGE_ASR_API void edge_asr_set_threads(int count);
EDGE_ASR_API int edge_asr_threads(void);

// The instruction set in use. Setting it is for tests; all give the same bits.
EDGE_ASR_API const char* edge_asr_kernel(void);
EDGE_ASR_API int edge_asr_set_kernel(const char* name);
// The i-th that this library was built with, whether or not it can run here; nullptr past the end.
EDGE_ASR_API const char* edge_asr_kernel_name(int i);
EDGE_ASR_API int edge_asr_kernel_supported(int i);

// The machine's limits, for the benchmarks: bytes and multiply-adds a second.
EDGE_ASR_API double edge_asr_read_bandwidth(size_t bytes, int threads);
EDGE_ASR_API double edge_asr_int8_peak(void);

#ifdef __cplusplus
}
#endif
