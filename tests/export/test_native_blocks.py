"""The encoder's blocks: kernels compute what torch does, from the file that the exporter writes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from edge_asr.native.library import built
from export.native_weights import Residual
from model.attention import KeyCache, PositionAttention
from model.convolution import CausalConvolution
from model.subsampling import Subsampling
from quant.convolution import quantize_conv2d
from quant.linear import quantize_linear
from quant.plan import quantizable, replace_module
from tests.export.layers import load_layer

pytestmark = pytest.mark.skipif(not built(), reason="not built; run: make native")

# Norms, gates and softmax round in their own way, by a last bit, which moves a quantized number by
# one here and there: most outputs must not have met that, and no output anything worse.
CLOSE = 1e-5
STEP = 0.02  # of the largest output, where one has


def quantized(module: nn.Module) -> nn.Module:
    """With random numbers where training would have left some, and all it can in integers."""
    for parameter in module.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 2.0)
    for name, layer in list(quantizable(module)):
        made = (
            quantize_conv2d(layer)
            if isinstance(layer, nn.Conv2d)
            else quantize_linear(layer.weight.reshape(len(layer.weight), -1), layer.bias)
        )
        replace_module(module, name, made)
    return module.eval().requires_grad_(False)


def is_close(found: npt.NDArray[np.float32], expected: Tensor) -> None:
    error = np.abs(found - expected.numpy())
    assert np.median(error) < CLOSE
    assert error.max() < STEP * float(expected.abs().max())


def norm(dim: int) -> nn.LayerNorm:
    layer = nn.LayerNorm(dim).requires_grad_(False)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize(
    ("heads", "width", "frames", "left", "hidden"),
    [(4, 16, 16, 64, 0), (3, 7, 5, 9, 4), (2, 20, 40, 8, 8), (1, 33, 1, 0, 0), (2, 64, 17, 33, 1)],
)
def test_attention(heads: int, width: int, frames: int, left: int, hidden: int) -> None:
    torch.manual_seed(heads * width + frames)
    dim, slot = heads * width, 1
    layer = quantized(PositionAttention(dim, heads))
    assert isinstance(layer, PositionAttention)
    before = norm(dim)
    weights = load_layer(layer, Residual(before, 1.0, slot))
    key, value = torch.randn(2, 3, 1, heads, left, width).unbind()
    score = torch.randn(3, 1, heads, left)
    for state in (key, value, score):
        state[:, :, :, :hidden] = 0.0
    x, positions = torch.randn(1, frames, dim), torch.randn(1, frames, dim)
    mask = (torch.arange(left + frames) >= hidden).reshape(1, 1, 1, -1)
    cache = KeyCache(key[slot], value[slot], score[slot])
    y, after = layer.step(before(x), positions, mask, cache)
    unseen = torch.tensor([float(hidden)])
    inputs = [part.numpy() for part in (x, positions, unseen, key, value, score)]
    found = weights.run(0, *inputs, outputs=4)
    for one, other in zip(found, (x + y, *after), strict=True):
        if other.numel():
            is_close(one.reshape(other.shape), other)


@pytest.mark.parametrize("kind", ["batch_norm", "layer_norm"])
@pytest.mark.parametrize("activation", ["swish", "relu"])
@pytest.mark.parametrize(
    ("dim", "kernel", "frames"), [(64, 15, 16), (33, 8, 3), (20, 1, 9), (5, 3, 40)]
)
def test_convolution(kind: str, activation: str, dim: int, kernel: int, frames: int) -> None:
    torch.manual_seed(dim)
    layer = quantized(CausalConvolution(dim, kernel, kind, activation))
    assert isinstance(layer, CausalConvolution)
    before = norm(dim)
    weights = load_layer(layer, Residual(before, 1.0, 1))
    past, x = torch.randn(2, 1, kernel - 1, dim), torch.randn(1, frames, dim)
    y, after = layer.step(before(x), past[1])
    found, found_after = weights.run(0, x.numpy(), past.numpy(), outputs=2)
    is_close(found, x + y)
    if after.numel():
        is_close(found_after[0], after)


@pytest.mark.parametrize(("bins", "dim", "frames"), [(80, 16, 67), (13, 33, 7), (7, 4, 30)])
def test_subsampling(bins: int, dim: int, frames: int) -> None:
    torch.manual_seed(bins)
    layer = quantized(Subsampling("conv2d", bins, dim))
    feats = torch.randn(1, frames, bins)
    is_close(load_layer(layer).run(0, feats.numpy())[0], layer(feats))


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 1), (33, 65), (256, 96), (1000, 40)])
def test_linear_layers_are_equal_bit_for_bit(inputs: int, outputs: int) -> None:
    torch.manual_seed(inputs)
    layer = quantize_linear(torch.randn(outputs, inputs), torch.randn(outputs))
    weights = load_layer(layer)
    for rows in (1, 3, 16, 40):
        x = torch.randn(rows, inputs) * 3 + 1
        np.testing.assert_array_equal(weights.run(0, x.numpy())[0], layer(x).numpy())
