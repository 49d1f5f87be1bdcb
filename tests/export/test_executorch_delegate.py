"""A delegate with any weights is byte by byte what ExecuTorch makes of a layer with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from executorch import exir
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir.lowered_backend_module import LoweredBackendModule, get_lowered_submodules
from torch import Tensor, nn

from export.executorch_delegate import PASSED, Delegate
from export.executorch_layers import RowFeedForward
from export.to_executorch import WholeOperators
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


def program(layer: nn.Module, example: Tensor, *, planned: bool) -> LoweredBackendModule:
    """The one delegate of a layer, as our partitioner leaves it or as ExecuTorch makes it."""
    sizes = {example.dim() - 1 if example.dim() == 3 else 0: torch.export.Dim("T", min=4, max=64)}
    exported = torch.export.export(Alone(layer).eval(), (example,), dynamic_shapes=(sizes,))
    partitioner = WholeOperators() if planned else XnnpackPartitioner()
    edge = exir.to_edge_transform_and_lower(
        exported,
        partitioner=[partitioner],
        compile_config=exir.EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
    )
    ((_, delegate, _),) = get_lowered_submodules(edge.exported_program().graph_module)
    return delegate


@pytest.mark.parametrize(
    ("layer", "shape", "kept"),
    [(quantized, (7, DIM), True), (normed, (1, DIM, 7), False)],
)
def test_delegate_of_any_weights_is_stock(
    layer: Callable[[], nn.Module], shape: tuple[int, ...], kept: bool
) -> None:
    torch.manual_seed(0)
    first, second = layer(), layer()
    example = torch.randn(shape)
    template = Delegate(program(first, example, planned=True).original_module)
    every = [*second.named_parameters(), *second.named_buffers()]
    tensors = {f"layer.{name}": one for name, one in every}
    blobs = []
    for found, weights in (
        (template.lowered({}), first),
        (template.lowered(tensors), second),
        (template.lowered({}), first),
    ):
        wanted = program(weights, example, planned=False)
        assert found.backend_id == wanted.backend_id == "XnnpackBackend"
        assert found.processed_bytes == wanted.processed_bytes
        assert found.named_data_store_output == wanted.named_data_store_output
        blobs.append(found.named_data_store_output)
    assert blobs[0] == blobs[2] != blobs[1]
    assert (template._passed[1] is PASSED) == kept
