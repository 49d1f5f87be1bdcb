// The operators in ONNX Runtime, through its C interface.
//
// Its wheel has no headers, so the few functions used here are declared by their place in the
// table, which only ever grows at its end (a test pins them against the installed runtime).
#include <cstdint>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "edge_asr_native.h"

EDGE_ASR_OPERATORS

namespace {

struct OrtStatus;
struct OrtValue;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtTensorTypeAndShapeInfo;

using OrtApi = const void* const;  // a table of functions

struct OrtApiBase {
  OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

constexpr uint32_t kApiVersion = 17;  // onnxruntime 1.17 and later
enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum ElementType : int { kFloat = 1 };
enum Characteristic : int { kRequired = 0 };
enum MemoryType : int { kDefault = 0 };

OrtApi* api = nullptr;

template <class Function>
Function slot(int index) {
  return reinterpret_cast<Function>(const_cast<void*>(api[index]));
}

OrtStatus* create_status(ErrorCode code, const char* message) {
  return slot<OrtStatus* (*)(ErrorCode, const char*)>(0)(code, message);
}
OrtStatus* create_domain(const char* name, OrtCustomOpDomain** out) {
  return slot<OrtStatus* (*)(const char*, OrtCustomOpDomain**)>(26)(name, out);
}
OrtStatus* add_op(OrtCustomOpDomain* domain, const struct OrtCustomOp* op) {
  return slot<OrtStatus* (*)(OrtCustomOpDomain*, const OrtCustomOp*)>(27)(domain, op);
}
OrtStatus* add_domain(OrtSessionOptions* options, OrtCustomOpDomain* domain) {
  return slot<OrtStatus* (*)(OrtSessionOptions*, OrtCustomOpDomain*)>(28)(options, domain);
}
OrtStatus* tensor_data(OrtValue* value, void** out) {
  return slot<OrtStatus* (*)(OrtValue*, void**)>(51)(value, out);
}
OrtStatus* dimension_count(const OrtTensorTypeAndShapeInfo* info, size_t* out) {
  return slot<OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, size_t*)>(61)(info, out);
}
OrtStatus* dimensions(const OrtTensorTypeAndShapeInfo* info, int64_t* out, size_t count) {
  return slot<OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)>(62)(info, out,
                                                                                      count);
}
OrtStatus* type_and_shape(const OrtValue* value, OrtTensorTypeAndShapeInfo** out) {
  return slot<OrtStatus* (*)(const OrtValue*, OrtTensorTypeAndShapeInfo**)>(65)(value, out);
}
OrtStatus* int_attribute(const OrtKernelInfo* info, const char* name, int64_t* out) {
  return slot<OrtStatus* (*)(const OrtKernelInfo*, const char*, int64_t*)>(86)(info, name, out);
}
OrtStatus* input(const OrtKernelContext* context, size_t index, const OrtValue** out) {
  return slot<OrtStatus* (*)(const OrtKernelContext*, size_t, const OrtValue**)>(90)(context, index,
                                                                                     out);
}
OrtStatus* output(OrtKernelContext* context, size_t index, const int64_t* shape, size_t rank,
                  OrtValue** out) {
  return slot<OrtStatus* (*)(OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**)>(91)(
      context, index, shape, rank, out);
}
void release_info(OrtTensorTypeAndShapeInfo* info) {
  slot<void (*)(OrtTensorTypeAndShapeInfo*)>(99)(info);
}

// Members in onnxruntime's order, up to those of version 17.
struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ElementType (*GetInputType)(const OrtCustomOp*, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ElementType (*GetOutputType)(const OrtCustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  Characteristic (*GetInputCharacteristic)(const OrtCustomOp*, size_t);
  Characteristic (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);
  MemoryType (*GetInputMemoryType)(const OrtCustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, OrtApi*, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, void*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
};

// One node: which layer of which weights.
struct Node {
  int64_t weights, layer;
  int inputs, outputs;
};

#define EDGE_RETURN_IF_ERROR(call) \
  if (OrtStatus* status = (call)) return status

// An operator with its number of inputs and outputs.
struct Op : OrtCustomOp {
  const char* name;
  int inputs, outputs;
};

const Op& self(const OrtCustomOp* op) { return *static_cast<const Op*>(op); }

OrtStatus* create_kernel(const OrtCustomOp* op, OrtApi*, const OrtKernelInfo* info, void** out) {
  Node node{0, 0, self(op).inputs, self(op).outputs};
  EDGE_RETURN_IF_ERROR(int_attribute(info, "weights", &node.weights));
  EDGE_RETURN_IF_ERROR(int_attribute(info, "layer", &node.layer));
  *out = new (std::nothrow) Node(node);  // nothing may be thrown into ONNX Runtime
  return *out ? nullptr : create_status(kFail, "out of memory");
}

OrtStatus* read_tensor(const OrtValue* value, EdgeAsrTensor& tensor) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  EDGE_RETURN_IF_ERROR(type_and_shape(value, &info));
  size_t rank = 0;
  OrtStatus* status = dimension_count(info, &rank);
  if (!status && rank <= EDGE_ASR_MAX_RANK) status = dimensions(info, tensor.shape, rank);
  release_info(info);
  if (status) return status;
  if (rank > EDGE_ASR_MAX_RANK)
    return create_status(kInvalidArgument, "edge_asr operator: at most 8 dimensions expected");
  tensor.rank = static_cast<int64_t>(rank);
  void* data = nullptr;
  EDGE_RETURN_IF_ERROR(tensor_data(const_cast<OrtValue*>(value), &data));
  tensor.data = static_cast<float*>(data);
  return nullptr;
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const Node& node = *static_cast<const Node*>(kernel);
  EdgeAsrTensor in[EDGE_ASR_MAX_TENSORS] = {}, out[EDGE_ASR_MAX_TENSORS] = {};
  for (int i = 0; i < node.inputs; i++) {
    const OrtValue* value = nullptr;
    EDGE_RETURN_IF_ERROR(input(context, static_cast<size_t>(i), &value));
    EDGE_RETURN_IF_ERROR(read_tensor(value, in[i]));
  }
  if (edge_asr_shapes(node.weights, node.layer, in, node.inputs, out, node.outputs) != 0)
    return create_status(kInvalidArgument, edge_asr_error());
  for (int i = 0; i < node.outputs; i++) {
    OrtValue* value = nullptr;
    EDGE_RETURN_IF_ERROR(output(context, static_cast<size_t>(i), out[i].shape,
                                static_cast<size_t>(out[i].rank), &value));
    void* data = nullptr;
    EDGE_RETURN_IF_ERROR(tensor_data(value, &data));
    out[i].data = static_cast<float*>(data);
  }
  if (edge_asr_run(node.weights, node.layer, in, node.inputs, out, node.outputs) != 0)
    return create_status(kFail, edge_asr_error());
  return nullptr;
}

Op make_op(const char* name) {
  Op op{};
  op.name = name;
  edge_asr_operator(name, &op.inputs, &op.outputs);
  op.version = kApiVersion;
  op.GetName = [](const OrtCustomOp* op) { return self(op).name; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputType = [](const OrtCustomOp*, size_t) { return kFloat; };
  op.GetInputTypeCount = [](const OrtCustomOp* op) { return static_cast<size_t>(self(op).inputs); };
  op.GetOutputType = [](const OrtCustomOp*, size_t) { return kFloat; };
  op.GetOutputTypeCount = [](const OrtCustomOp* op) {
    return static_cast<size_t>(self(op).outputs);
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Node*>(kernel); };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return kRequired; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return kRequired; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return kDefault; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = compute;
  return op;
}

// Once for the process: a session keeps pointers to both.
OrtStatus* domain(OrtCustomOpDomain** out) {
  static const Op ops[] = {make_op("linear"), make_op("moe_ffn"), make_op("subsampling"),
                           make_op("attention"), make_op("convolution")};
  static OrtCustomOpDomain* made = nullptr;
  if (!made) {
    OrtCustomOpDomain* fresh = nullptr;
    EDGE_RETURN_IF_ERROR(create_domain("edge_asr", &fresh));
    for (const Op& op : ops) EDGE_RETURN_IF_ERROR(add_op(fresh, &op));
    made = fresh;
  }
  *out = made;
  return nullptr;
}

}  // namespace

extern "C" EDGE_ASR_API OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                     const OrtApiBase* base) {
  static std::mutex registering;  // sessions may open on several threads at once
  const std::lock_guard<std::mutex> lock(registering);
  if (!api) api = base->GetApi(kApiVersion);
  // Without the table not even an error can be made; the session will not know the operators.
  if (!api) return nullptr;
  if (edge_asr_abi() != EDGE_ASR_ABI) return create_status(kFail, EDGE_ASR_OTHER_BUILD);
  OrtCustomOpDomain* made = nullptr;
  EDGE_RETURN_IF_ERROR(domain(&made));
  return add_domain(options, made);
}
