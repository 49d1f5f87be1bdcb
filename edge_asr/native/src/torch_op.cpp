// The operators in TorchScript.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "edge_asr_native.h"

namespace {

// (..., in) float32 to (..., out) float32.
at::Tensor run(const at::Tensor& x, int64_t weights, int64_t layer) {
  TORCH_CHECK(x.dim() >= 1 && x.scalar_type() == at::kFloat,
              "edge_asr operator: a float32 tensor expected");
  const at::Tensor rows = x.contiguous();
  const int64_t width = rows.size(-1);
  const int64_t out_width = edge_asr_output_width(weights, layer, width);
  TORCH_CHECK(out_width >= 0, edge_asr_error());
  std::vector<int64_t> sizes = rows.sizes().vec();
  sizes.back() = out_width;
  at::Tensor y = at::empty(sizes, rows.options());
  const int failed = edge_asr_run(weights, layer, rows.const_data_ptr<float>(),
                                  width ? rows.numel() / width : 0, width,
                                  y.mutable_data_ptr<float>());
  TORCH_CHECK(failed == 0, edge_asr_error());
  return y;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(edge_asr, library) {
  library.def("moe_ffn(Tensor x, int weights, int layer) -> Tensor");
  library.def("linear(Tensor x, int weights, int layer) -> Tensor");
}

TORCH_LIBRARY_IMPL(edge_asr, CPU, library) {
  library.impl("moe_ffn", run);
  library.impl("linear", run);
}
