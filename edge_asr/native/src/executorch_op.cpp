// The operators in ExecuTorch.
#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <executorch/runtime/core/exec_aten/util/tensor_util.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>

#include "edge_asr_native.h"

EDGE_ASR_OPERATORS

namespace {

using executorch::aten::ScalarType;
using executorch::aten::SizesType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::Kernel;
using executorch::runtime::KernelRuntimeContext;
using executorch::runtime::Span;

bool describe(const Tensor& tensor, EdgeAsrTensor& described) {
  if (tensor.scalar_type() != ScalarType::Float || tensor.dim() > EDGE_ASR_MAX_RANK) return false;
  described.data = const_cast<float*>(tensor.const_data_ptr<float>());
  described.rank = tensor.dim();
  for (ssize_t i = 0; i < tensor.dim(); i++) described.shape[i] = tensor.size(i);
  return true;
}

// A call's values are its inputs, the two numbers, and the outputs, in this order.
template <int Inputs, int Outputs>
void run(KernelRuntimeContext& context, Span<EValue*> values) {
  EdgeAsrTensor in[Inputs] = {}, out[Outputs] = {};
  ET_KERNEL_CHECK_MSG(context, edge_asr_abi() == EDGE_ASR_ABI, InvalidState, , "%s",
                      EDGE_ASR_OTHER_BUILD);
  for (int i = 0; i < Inputs; i++)
    ET_KERNEL_CHECK_MSG(context, describe(values[i]->toTensor(), in[i]), InvalidArgument, ,
                        "edge_asr operator: float32 tensors of at most 8 dimensions expected");
  const int64_t weights = values[Inputs]->toInt(), layer = values[Inputs + 1]->toInt();
  ET_KERNEL_CHECK_MSG(context, edge_asr_shapes(weights, layer, in, Inputs, out, Outputs) == 0,
                      InvalidArgument, , "%s", edge_asr_error());
  for (int i = 0; i < Outputs; i++) {
    Tensor& tensor = values[Inputs + 2 + i]->toTensor();
    SizesType sizes[EDGE_ASR_MAX_RANK];
    for (int64_t axis = 0; axis < out[i].rank; axis++)
      sizes[axis] = static_cast<SizesType>(out[i].shape[axis]);
    const Error resized =
        executorch::runtime::resize_tensor(tensor, {sizes, static_cast<size_t>(out[i].rank)});
    ET_KERNEL_CHECK_MSG(context, resized == Error::Ok, InvalidArgument, ,
                        "edge_asr operator: an output has no room; use smaller chunks");
    out[i].data = tensor.mutable_data_ptr<float>();
  }
  ET_KERNEL_CHECK_MSG(context, edge_asr_run(weights, layer, in, Inputs, out, Outputs) == 0,
                      Internal, , "%s", edge_asr_error());
}

// Once, as the library is opened.
const Error registered = [] {
  static const Kernel kernels[] = {
      Kernel("edge_asr::linear.out", run<1, 1>),      Kernel("edge_asr::moe_ffn.out", run<1, 1>),
      Kernel("edge_asr::subsampling.out", run<1, 1>), Kernel("edge_asr::attention.out", run<6, 4>),
      Kernel("edge_asr::convolution.out", run<2, 2>),
  };
  return executorch::runtime::register_kernels({kernels, sizeof kernels / sizeof *kernels});
}();

}  // namespace
