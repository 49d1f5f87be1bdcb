// The operators in ExecuTorch.
#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <executorch/runtime/core/exec_aten/util/tensor_util.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>

#include "edge_asr_native.h"

namespace {

using executorch::aten::SizesType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using executorch::runtime::KernelRuntimeContext;

constexpr ssize_t kMaxRank = 8;

// (..., in) float32 to (..., out) float32.
Tensor& run(KernelRuntimeContext& context, const Tensor& x, int64_t weights, int64_t layer,
            Tensor& out) {
  const ssize_t rank = x.dim();
  ET_KERNEL_CHECK_MSG(context, rank >= 1 && rank <= kMaxRank, InvalidArgument, out,
                      "edge_asr operator: 1 to 8 dimensions expected");
  ET_KERNEL_CHECK_MSG(context, x.scalar_type() == executorch::aten::ScalarType::Float,
                      InvalidArgument, out, "edge_asr operator: float32 expected");
  SizesType sizes[kMaxRank];
  int64_t rows = 1;
  for (ssize_t i = 0; i < rank; i++) sizes[i] = x.size(i);
  for (ssize_t i = 0; i + 1 < rank; i++) rows *= sizes[i];
  const int64_t width = sizes[rank - 1];
  const int64_t out_width = edge_asr_output_width(weights, layer, width);
  ET_KERNEL_CHECK_MSG(context, out_width >= 0, InvalidArgument, out, "%s", edge_asr_error());
  sizes[rank - 1] = static_cast<SizesType>(out_width);
  const Error resized =
      executorch::runtime::resize_tensor(out, {sizes, static_cast<size_t>(rank)});
  ET_KERNEL_CHECK_MSG(context, resized == Error::Ok, InvalidArgument, out,
                      "edge_asr operator: the output does not fit");
  const int failed = edge_asr_run(weights, layer, x.const_data_ptr<float>(), rows, width,
                                  out.mutable_data_ptr<float>());
  ET_KERNEL_CHECK_MSG(context, failed == 0, Internal, out, "%s", edge_asr_error());
  return out;
}

Tensor& moe_ffn_out(KernelRuntimeContext& context, const Tensor& x, int64_t weights,
                    int64_t layer, Tensor& out) {
  return run(context, x, weights, layer, out);
}

Tensor& linear_out(KernelRuntimeContext& context, const Tensor& x, int64_t weights, int64_t layer,
                   Tensor& out) {
  return run(context, x, weights, layer, out);
}

}  // namespace

EXECUTORCH_LIBRARY(edge_asr, "moe_ffn.out", moe_ffn_out);
EXECUTORCH_LIBRARY(edge_asr, "linear.out", linear_out);
