"""The quantized linear layer: exact integers, bounded rounding, no row that sees another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import ConfigError
from quant.linear import LARGEST, SMALLEST_SCALE, QuantLinear, quantize_linear, quantize_weight


def layer(inputs: int, outputs: int, seed: int = 0) -> QuantLinear:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    return quantize_linear(weight, torch.randn(outputs, generator=generator)).eval()


def exact(quant: QuantLinear, x: torch.Tensor) -> np.ndarray:
    """The layer's documented formula in numpy float64, rounding included."""
    rows = x.reshape(-1, x.size(-1)).numpy()
    low = np.minimum(rows.min(axis=1, keepdims=True), 0)
    high = np.maximum(rows.max(axis=1, keepdims=True), 0)
    scale = np.maximum((high - low) / np.float32(255), 1e-8).astype(np.float32)
    zero = np.rint(-low / scale).astype(np.int64) - 128
    integers = np.minimum(np.rint(rows / scale).astype(np.int64) + zero, 127)
    assert -128 <= integers.min(initial=0)
    product = (integers - zero) @ quant.weight.numpy().astype(np.int64).T
    y = product * scale.astype(np.float64) * quant.weight_scale.numpy().astype(np.float64)
    return (y + quant.bias.numpy()).reshape(*x.shape[:-1], len(quant.bias))


@settings(deadline=None, max_examples=40)
@given(
    inputs=st.integers(2, 70),
    outputs=st.integers(1, 40),
    rows=st.integers(0, 20),
    exponent=st.integers(-6, 6),
    seed=st.integers(0, 999),
)
def test_product_is_exact(inputs: int, outputs: int, rows: int, exponent: int, seed: int) -> None:
    quant = layer(inputs, outputs, seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, rows, inputs, generator=generator) * 10.0**exponent
    found, expected = quant(x).numpy(), exact(quant, x)
    assert found.shape == (1, rows, outputs)
    largest = np.abs(expected).max(initial=0) + 1e-30
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * largest)


def test_one_input_is_refused() -> None:
    """torch._int_mm gives anything there; whatever has two inputs is tested above."""
    with pytest.raises(ConfigError, match="one input"):
        quantize_linear(torch.ones(2, 1), None)


def test_largest_integers_do_not_overflow() -> None:
    """Where 16-bit sums of products would saturate."""
    quant = quantize_linear(torch.full((3, 4096), 5.0), None)
    assert (quant.weight == LARGEST).all() and (quant.bias == 0).all()
    x = torch.full((2, 4096), 7.0)
    x[1] = -7.0
    expected = torch.tensor([[35.0 * 4096], [-35.0 * 4096]]).expand(2, 3)
    torch.testing.assert_close(quant(x), expected, rtol=1e-5, atol=0)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 8),
    columns=st.integers(1, 30),
    exponent=st.integers(-6, 6),
    seed=st.integers(0, 999),
)
def test_weight_error_is_half_a_step(rows: int, columns: int, exponent: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * 10.0**exponent
    integers, scale = quantize_weight(weight)
    assert integers.dtype == torch.int8 and int(integers.min()) >= -LARGEST
    error = (integers.double() * scale.double().unsqueeze(1) - weight.double()).abs()
    step = torch.clamp(weight.abs().amax(dim=1) / LARGEST, min=SMALLEST_SCALE).double()
    assert (error <= step.unsqueeze(1) * (0.5 + 1e-4)).all()
    # The largest of a row uses the whole range.
    large = weight.abs().amax(dim=1) > LARGEST * SMALLEST_SCALE
    assert (integers.abs().amax(dim=1)[large] == LARGEST).all()


def test_output_error_bound() -> None:
    """Rounding of weights and activations moves a result by what their steps allow."""
    quant = layer(64, 32)
    weight = quant.dequantized()
    x = torch.randn(10, 64)
    step = (x.amax(dim=1, keepdim=True) - x.amin(dim=1, keepdim=True)) / 255
    bound = 0.5 * step * weight.abs().sum(dim=1) + 1e-4
    difference = (quant(x) - (x @ weight.t() + quant.bias)).abs()
    assert (difference <= bound).all() and difference.max() > 0


@settings(deadline=None, max_examples=25)
@given(rows=st.integers(1, 12), seed=st.integers(0, 999))
def test_a_row_does_not_depend_on_its_neighbours(rows: int, seed: int) -> None:
    quant = layer(24, 16)
    generator = torch.Generator().manual_seed(seed)
    sizes = 10.0 ** torch.randint(-4, 5, (rows, 1), generator=generator)
    x = torch.randn(rows, 24, generator=generator) * sizes
    together = quant(x)
    for index in range(rows):
        torch.testing.assert_close(quant(x[index]), together[index], atol=0, rtol=0)
    torch.testing.assert_close(quant(x.flip(0)).flip(0), together, atol=0, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1e-30, -1e-12])
def test_silent_rows_give_the_bias(value: float) -> None:
    quant = layer(8, 5)
    torch.testing.assert_close(quant(torch.full((2, 8), value)), quant.bias.expand(2, 5))


def test_weight_rows_of_zeros() -> None:
    quant = quantize_linear(torch.zeros(3, 4), torch.ones(3))
    torch.testing.assert_close(quant(torch.randn(2, 4)), torch.ones(2, 3))
