"""A delegate with other weights is byte by byte what XNNPACK makes of a layer with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from executorch.exir.lowered_backend_module import LoweredBackendModule, get_lowered_submodules
from torch import Tensor, nn

from export.executorch_delegate import NO_PASSES, Delegate
from export.executorch_layers import RowFeedForward
from export.to_executorch import to_edge
from model.feed_forward import FeedForward
from quant.linear import quantize_linear
from quant.plan import quantizable, replace_module

DIM = 8

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Alone(nn.Module):
    """A layer under a name."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)


def quantized() -> nn.Module:
    layer = FeedForward(DIM, 12, "swish").eval().requires_grad_(False)
    for name, linear in list(quantizable(layer)):
        replace_module(layer, name, quantize_linear(linear.weight, linear.bias))
    return RowFeedForward(layer)


def normed() -> nn.Module:
    """XNNPACK's passes compute one weight from the convolution's and the norm's."""
    norm = nn.BatchNorm1d(DIM)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2.0)
    return nn.Sequential(nn.Conv1d(DIM, DIM, 3, groups=DIM), norm)


def lowered(module: Alone, example: Tensor) -> LoweredBackendModule:
    sizes = {example.dim() - 1 if example.dim() == 3 else 0: torch.export.Dim("T", min=4, max=64)}
    edge = to_edge(module.eval(), (example,), (sizes,))
    ((_, delegate, _),) = get_lowered_submodules(edge.exported_program().graph_module)
    return delegate


@pytest.mark.parametrize(
    ("layer", "shape", "kept"),
    [(quantized, (7, DIM), True), (normed, (1, DIM, 7), False)],
)
def test_delegate_with_other_weights(layer: Any, shape: tuple[int, ...], kept: bool) -> None:
    torch.manual_seed(0)
    first, second = Alone(layer()), Alone(layer())
    wanted = lowered(second, torch.randn(shape))
    template = Delegate(lowered(first, torch.randn(shape)))
    assert (template.specs is NO_PASSES) == kept
    every = [*second.layer.named_parameters(), *second.layer.named_buffers()]
    tensors = {f"other.{name}": one for name, one in every}
    found = template.with_tensors(("layer.", "other."), tensors)
    assert found.processed_bytes == wanted.processed_bytes
    assert found.named_data_store_output == wanted.named_data_store_output
    assert found.named_data_store_output != template.lowered.named_data_store_output
    for name, tensor in found.original_module.state_dict.items():
        assert tensor is tensors[name.replace("layer.", "other.")]
