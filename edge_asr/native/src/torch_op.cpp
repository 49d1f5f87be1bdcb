// The operators in TorchScript.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "edge_asr_native.h"

EDGE_ASR_OPERATORS

namespace {

using at::Tensor;

void check(int result) { TORCH_CHECK(result == 0, edge_asr_error()); }

EdgeAsrTensor describe(const Tensor& tensor) {
  TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.dim() <= EDGE_ASR_MAX_RANK,
              "edge_asr operator: float32 tensors of at most 8 dimensions expected");
  EdgeAsrTensor described{};
  described.data = const_cast<float*>(tensor.const_data_ptr<float>());
  described.rank = tensor.dim();
  for (int64_t i = 0; i < tensor.dim(); i++) described.shape[i] = tensor.size(i);
  return described;
}

template <size_t Outputs>
std::array<Tensor, Outputs> run(std::initializer_list<Tensor> given, int64_t weights,
                                int64_t layer) {
  TORCH_CHECK(edge_asr_abi() == EDGE_ASR_ABI, EDGE_ASR_OTHER_BUILD);
  std::vector<Tensor> inputs;
  EdgeAsrTensor in[EDGE_ASR_MAX_TENSORS], out[Outputs] = {};
  for (const Tensor& tensor : given) {
    inputs.push_back(tensor.contiguous());
    in[inputs.size() - 1] = describe(inputs.back());
  }
  const int count = static_cast<int>(inputs.size());
  check(edge_asr_shapes(weights, layer, in, count, out, Outputs));
  std::array<Tensor, Outputs> results;
  for (size_t i = 0; i < Outputs; i++) {
    results[i] = at::empty({out[i].shape, static_cast<size_t>(out[i].rank)}, inputs[0].options());
    out[i].data = results[i].template mutable_data_ptr<float>();
  }
  check(edge_asr_run(weights, layer, in, count, out, Outputs));
  return results;
}

Tensor one(const Tensor& x, int64_t weights, int64_t layer) {
  return run<1>({x}, weights, layer)[0];
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attention(const Tensor& x, const Tensor& positions,
                                                     const Tensor& hidden, const Tensor& key,
                                                     const Tensor& value, const Tensor& score,
                                                     int64_t weights, int64_t layer) {
  auto y = run<4>({x, positions, hidden, key, value, score}, weights, layer);
  return {y[0], y[1], y[2], y[3]};
}

std::tuple<Tensor, Tensor> convolution(const Tensor& x, const Tensor& past, int64_t weights,
                                       int64_t layer) {
  auto y = run<2>({x, past}, weights, layer);
  return {y[0], y[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(edge_asr, library) {
  library.def("linear(Tensor x, int weights, int layer) -> Tensor");
  library.def("moe_ffn(Tensor x, int weights, int layer) -> Tensor");
  library.def("subsampling(Tensor x, int weights, int layer) -> Tensor");
  library.def(
      "attention(Tensor x, Tensor positions, Tensor hidden, Tensor key, Tensor value, "
      "Tensor score, int weights, int layer) -> (Tensor, Tensor, Tensor, Tensor)");
  library.def("convolution(Tensor x, Tensor past, int weights, int layer) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(edge_asr, CPU, library) {
  library.impl("linear", one);
  library.impl("moe_ffn", one);
  library.impl("subsampling", one);
  library.impl("attention", attention);
  library.impl("convolution", convolution);
}
