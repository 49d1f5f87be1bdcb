"""int4 weights: the documented order of operations, the best scales, no row that sees another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import ConfigError
from quant.linear import SMALLEST_SCALE, quantize_rows
from quant.linear4 import GROUPS, QuantLinear4, quantize_linear4, quantize_weight4

F32 = np.float32


def layer(inputs: int, outputs: int, group: int, seed: int = 0) -> QuantLinear4:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    return quantize_linear4(weight, torch.randn(outputs, generator=generator), group).eval()


def by_hand(quant: QuantLinear4, x: torch.Tensor) -> np.ndarray:
    """The documented formula, one float32 operation after the other."""
    integers, scale, zero = (part.numpy() for part in quantize_rows(x))
    bytes_, zero = integers.astype(np.int64) + 128, zero + F32(128)
    weight, scales = quant.weight.numpy().astype(np.int64), quant.weight_scale.float().numpy()
    total = np.zeros((len(x), len(weight)), F32)
    scaled_sum = np.zeros(len(weight), F32)
    for number, begin in enumerate(range(0, weight.shape[1], quant.group)):
        part = slice(begin, begin + quant.group)
        product = (bytes_[:, part] @ weight[:, part].T).astype(F32)
        total = total + product * scales[:, number]
        scaled_sum = scaled_sum + weight[:, part].sum(axis=1).astype(F32) * scales[:, number]
    return (total - zero * scaled_sum) * scale + quant.bias.numpy()


@settings(deadline=None, max_examples=40)
@given(
    inputs=st.integers(1, 300),
    outputs=st.integers(1, 40),
    rows=st.integers(0, 9),
    group=st.sampled_from(GROUPS),
    exponent=st.integers(-6, 6),
    seed=st.integers(0, 999),
)
def test_every_bit_is_as_documented(
    inputs: int, outputs: int, rows: int, group: int, exponent: int, seed: int
) -> None:
    quant = layer(inputs, outputs, group, seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, inputs, generator=generator) * 10.0**exponent
    found = quant(x)
    assert found.shape == (rows, outputs) and found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), by_hand(quant, x))
    torch.testing.assert_close(quant(x[None])[0], found, atol=0, rtol=0)


@settings(deadline=None, max_examples=25)
@given(rows=st.integers(1, 12), seed=st.integers(0, 999))
def test_a_row_does_not_depend_on_its_neighbours(rows: int, seed: int) -> None:
    quant = layer(70, 16, 32)
    generator = torch.Generator().manual_seed(seed)
    sizes = 10.0 ** torch.randint(-4, 5, (rows, 1), generator=generator)
    x = torch.randn(rows, 70, generator=generator) * sizes
    together = quant(x)
    for index in range(rows):
        torch.testing.assert_close(quant(x[index]), together[index], atol=0, rtol=0)


def test_close_to_the_weight_it_stands_for() -> None:
    """Rounding of activations moves a result by what their step allows, and no more."""
    quant = layer(200, 30, 64)
    weight = quant.dequantized()
    x = torch.randn(10, 200)
    step = (x.amax(dim=1, keepdim=True) - x.amin(dim=1, keepdim=True)) / 255
    bound = 0.5 * step * weight.abs().sum(dim=1) + 1e-3
    difference = (quant(x) - (x @ weight.t() + quant.bias)).abs()
    assert (difference <= bound).all() and difference.max() > 0


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 140),
    group=st.sampled_from(GROUPS),
    exponent=st.integers(-6, 6),
    seed=st.integers(0, 999),
)
def test_four_bits_and_better_than_the_plain_scale(
    rows: int, columns: int, group: int, exponent: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * 10.0**exponent
    integers, scale = quantize_weight4(weight, group)
    groups = -(-columns // group)
    assert integers.shape == weight.shape and integers.dtype == torch.int8
    assert scale.shape == (rows, groups) and scale.dtype == torch.bfloat16
    assert int(integers.min()) >= -8 and int(integers.max()) <= 7
    for number in range(groups):
        part = weight[:, number * group : (number + 1) * group]
        ours = integers[:, number * group : (number + 1) * group].float()
        step = scale[:, number : number + 1].float()
        # Each weight is as near as its group's scale lets it be ...
        torch.testing.assert_close(ours, torch.round(part / step).clamp(-8, 7), atol=0, rtol=0)
        # ... and the scale is at least as good as the one that maps the largest to 7, where that
        # is no smaller than scales may be.
        largest = part.abs().amax(dim=1, keepdim=True)
        plain = (largest / 7).clamp(min=SMALLEST_SCALE).to(torch.bfloat16).float()
        there = torch.round(part / plain).clamp(-8, 7) * plain
        error, reference = ((one - part).square().sum(1) for one in (ours * step, there))
        assert (error <= reference * (1 + 1e-5)).all()


def test_the_search_pays() -> None:
    weight = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    quant = quantize_linear4(weight, None, 32)
    largest = weight.reshape(256, 16, 32).abs().amax(2, keepdim=True) / 7
    plain = (torch.round(weight.reshape(256, 16, 32) / largest) * largest).reshape(256, 512)
    ours, theirs = ((w - weight).norm() / weight.norm() for w in (quant.dequantized(), plain))
    assert ours < 0.9 * theirs


@pytest.mark.parametrize("group", GROUPS)
def test_zeros_and_outliers(group: int) -> None:
    weight = torch.zeros(3, 130)
    weight[1, 5], weight[2, 129] = 1e15, -1e-30
    quant = quantize_linear4(weight, torch.ones(3), group)
    assert torch.isfinite(quant.dequantized()).all()
    torch.testing.assert_close(quant.dequantized()[1], weight[1], rtol=0.01, atol=0)
    y = quant(torch.randn(2, 130))
    torch.testing.assert_close(y[:, [0, 2]], torch.ones(2, 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("group", [0, 16, 256, -32])
def test_other_groups_are_refused(group: int) -> None:
    with pytest.raises(ConfigError, match="32, 64 and 128"):
        quantize_linear4(torch.ones(2, 8), None, group)
