"""The file of weights: panels as the format says, and kernels that compute what torch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.native.library import built
from export.native_weights import panels4, panels8
from model.config import FeedForwardConfig
from model.feed_forward import FeedForward, MoeFeedForward
from quant.linear import quantize_linear
from quant.linear4 import GROUPS, quantize_linear4, quantize_weight4
from tests.export.layers import load_layer

needs_native = pytest.mark.skipif(not built(), reason="not built; run: make native")


@settings(deadline=None, max_examples=25)
@given(outputs=st.integers(1, 70), inputs=st.integers(1, 40), seed=st.integers(0, 999))
def test_panels_of_int8(outputs: int, inputs: int, seed: int) -> None:
    weight = np.random.default_rng(seed).integers(-127, 128, (outputs, inputs), np.int8)
    panels = panels8(weight)
    assert panels.shape == (-(-outputs // 32), -(-inputs // 8) * 2, 32, 4)
    for o in range(panels.shape[0] * 32):
        for i in range(panels.shape[1] * 4):
            inside = o < outputs and i < inputs
            assert panels[o // 32, i // 4, o % 32, i % 4] == (weight[o, i] if inside else 0)


@settings(deadline=None, max_examples=25)
@given(
    outputs=st.integers(1, 70),
    inputs=st.integers(1, 140),
    group=st.sampled_from(GROUPS),
    seed=st.integers(0, 999),
)
def test_panels_of_int4(outputs: int, inputs: int, group: int, seed: int) -> None:
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))
    integers, scale = quantize_weight4(weight, group)
    bits = scale.view(torch.int16).numpy()
    panels = panels4(integers.numpy(), bits, group)
    groups = -(-inputs // group)
    assert panels.shape == (-(-outputs // 32), groups, 64 + 16 * group)
    padded = np.zeros((panels.shape[0] * 32, groups * group), np.int64)
    padded[:outputs, :inputs] = integers.numpy()
    for number in range(groups):
        scales = np.ascontiguousarray(panels[:, number, :64]).view(np.int16).reshape(-1)
        np.testing.assert_array_equal(scales[:outputs], bits[:, number])
        assert not scales[outputs:].any()
        nibbles = panels[:, number, 64:].reshape(-1, group // 4, 16, 4)
        for o in range(len(padded)):
            byte = nibbles[o // 32, :, o % 16].reshape(-1).astype(np.int64)
            half = byte >> 4 if o % 32 >= 16 else byte & 15
            np.testing.assert_array_equal(
                half - 8, padded[o, number * group : (number + 1) * group]
            )


def experts(
    dim: int, hidden: int, n_expert: int, top_k: int, activation: str, group: int, seed: int = 0
) -> MoeFeedForward:
    """A random expert layer, quantized; int8 where ``group`` is 0."""
    torch.manual_seed(seed)
    conf = FeedForwardConfig(
        hidden=hidden, activation=activation, n_expert=n_expert, n_expert_activated=top_k
    )
    layer = MoeFeedForward(dim, conf).eval().requires_grad_(False)
    for expert in layer.experts:
        assert isinstance(expert, FeedForward)
        for name in ("w_1", "w_2"):
            linear = getattr(expert, name)
            made = (
                quantize_linear4(linear.weight, linear.bias, group)
                if group
                else quantize_linear(linear.weight, linear.bias)
            )
            setattr(expert, name, made)
    return layer


@needs_native
@pytest.mark.parametrize("group", [0, *GROUPS])
@pytest.mark.parametrize(("dim", "hidden"), [(2, 3), (40, 33), (130, 257)])
def test_one_expert_equals_eager_bit_for_bit(dim: int, hidden: int, group: int) -> None:
    """Its gate is 1 and ReLU is exact, so nothing is left that may differ."""
    layer = experts(dim, hidden, n_expert=1, top_k=1, activation="relu", group=group)
    weights = load_layer(layer)
    for rows in (1, 2, 7, 16, 33):
        x = torch.randn(rows, dim) * 3 + 1
        (found,) = weights.run(0, x.numpy())
        np.testing.assert_array_equal(found, layer(x[None])[0].numpy())


@needs_native
@pytest.mark.parametrize("group", [0, *GROUPS])
def test_many_experts_are_close_to_eager(group: int) -> None:
    """Gates and SiLU round in their own way, which moves integers by one here and there."""
    layer = experts(64, 96, n_expert=5, top_k=2, activation="swish", group=group)
    weights = load_layer(layer)
    x = torch.randn(50, 64)
    (found,) = weights.run(0, x.numpy())
    expected = layer(x[None])[0].numpy()
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert np.median(np.abs(found - expected)) < 1e-5
    other = experts(64, 96, n_expert=5, top_k=2, activation="swish", group=group, seed=1)
    assert np.abs(found - other(x[None])[0].numpy()).max() > 0.1 * np.abs(expected).max()
