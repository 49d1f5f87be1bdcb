"""A file of native weights is read by its format: headers, vectors, and matrices without panels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.native_reader import read_layers
from export.native_weights import WeightsWriter
from model.config import FeedForwardConfig
from model.feed_forward import FeedForward, MoeFeedForward
from quant.linear import quantize_linear
from quant.linear4 import quantize_linear4


def written(layer: torch.nn.Module) -> bytes:
    writer = WeightsWriter()
    writer.add(layer)
    return writer.finish().data


def test_an_int8_matrix() -> None:
    layer = quantize_linear(torch.randn(37, 13), torch.randn(37))
    (found,) = read_layers(written(layer))
    (matrix,) = found.matrices
    assert (found.header.kind, found.header.dim, found.header.out) == (1, 13, 37)
    assert matrix.weight.shape == (64, 16) and found.vectors == ()
    np.testing.assert_array_equal(matrix.weight[:37, :13], layer.weight.numpy())
    assert not matrix.weight[37:].any() and not matrix.weight[:, 13:].any()
    np.testing.assert_array_equal(matrix.scale[:37], layer.weight_scale.numpy())
    np.testing.assert_array_equal(matrix.total[:37], layer.weight_sum.numpy())
    np.testing.assert_array_equal(matrix.bias[:37], layer.bias.numpy())


def test_int4_experts() -> None:
    conf = FeedForwardConfig(hidden=70, activation="swish", n_expert=3, n_expert_activated=2)
    layer = MoeFeedForward(40, conf).eval().requires_grad_(False)
    for expert in layer.experts:
        assert isinstance(expert, FeedForward)
        expert.w_1 = quantize_linear4(expert.w_1.weight, expert.w_1.bias, 32)
        expert.w_2 = quantize_linear4(expert.w_2.weight, expert.w_2.bias, 32)
    (found,) = read_layers(written(layer))
    assert (found.header.experts, found.header.top_k, found.header.bits) == (3, 2, 4)
    np.testing.assert_array_equal(found.vectors[0], layer.gate.weight.numpy().reshape(-1))
    for index, expert in enumerate(layer.experts):
        for linear, matrix in zip(
            (expert.w_1, expert.w_2), found.matrices[2 * index : 2 * index + 2], strict=True
        ):
            rows, columns = linear.weight.shape
            np.testing.assert_array_equal(matrix.weight[:rows, :columns], linear.weight.numpy())
            bits = linear.weight_scale.view(torch.int16).numpy()
            assert matrix.groups is not None
            np.testing.assert_array_equal(matrix.groups[:rows], bits)
            np.testing.assert_array_equal(matrix.total[:rows], linear.scaled_sum.numpy())


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: b"X" + d[1:], lambda d: d + b"0"])
def test_another_file_is_none(change: object) -> None:
    data = written(quantize_linear(torch.randn(3, 4), None))
    with pytest.raises(ValueError, match="not a file of weights"):
        read_layers(change(data))  # type: ignore[operator]
