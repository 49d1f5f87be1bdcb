"""Single layers in ONNX: the integers of eager torch, so only float rounding may differ."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edge_asr.backends.onnx_runtime import open_session
from export.to_onnx import OPSET, OnnxLinear, OnnxMoe
from model.config import FeedForwardConfig
from model.feed_forward import FeedForward, MoeFeedForward
from quant.linear import QuantLinear, quantize_linear

DIM, HIDDEN, EXPERTS = 24, 40, 4


def session(layer: nn.Module) -> onnxruntime.InferenceSession:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter, on its own future
        torch.onnx.export(
            layer,
            (torch.randn(1, 5, DIM),),
            file,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "B", 1: "T"}, "y": {0: "B", 1: "T"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return open_session(file.getvalue(), threads=1)  # as the runtime does, exact without VNNI


def quantized(layer: nn.Linear) -> QuantLinear:
    return quantize_linear(layer.weight, layer.bias)


@pytest.fixture(scope="module")
def linear() -> tuple[QuantLinear, onnxruntime.InferenceSession]:
    torch.manual_seed(0)
    layer = quantized(nn.Linear(DIM, HIDDEN)).requires_grad_(False)
    return layer, session(OnnxLinear(layer))


@pytest.fixture(scope="module")
def experts() -> tuple[MoeFeedForward, onnxruntime.InferenceSession]:
    torch.manual_seed(1)
    layer = MoeFeedForward(DIM, FeedForwardConfig(HIDDEN, "swish", EXPERTS, 2)).eval()
    for expert in layer.experts:
        assert isinstance(expert, FeedForward)
        expert.w_1, expert.w_2 = quantized(expert.w_1), quantized(expert.w_2)  # type: ignore[assignment]
    layer.requires_grad_(False)
    return layer, session(OnnxMoe(layer))


def rows(frames: int, seed: int, batch: int = 1) -> torch.Tensor:
    """(B, T, D): rows of many sizes, one-sided ones among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, frames, DIM, generator=generator)
    x *= 10.0 ** torch.randint(-3, 4, (batch, frames, 1), generator=generator)
    x[:, 1::4] = x[:, 1::4].abs()
    x[:, 2::4] = -x[:, 2::4].abs()
    return x


@settings(deadline=None, max_examples=30)
@given(frames=st.integers(1, 60), seed=st.integers(0, 9999), batch=st.integers(1, 3))
def test_linear_layer(
    linear: tuple[QuantLinear, onnxruntime.InferenceSession], frames: int, seed: int, batch: int
) -> None:
    layer, program = linear
    x = rows(frames, seed, batch)
    x[:, 3::8] = 0.0
    expected = layer(x).numpy()
    (found,) = program.run(None, {"x": x.numpy()})
    size = np.abs(expected).max(axis=2, keepdims=True) + 1e-9
    assert (np.abs(found - expected) / size).max() <= 1e-6


@settings(deadline=None, max_examples=30)
@given(frames=st.integers(1, 60), seed=st.integers(0, 9999), batch=st.integers(1, 3))
def test_expert_layer(
    experts: tuple[MoeFeedForward, onnxruntime.InferenceSession], frames: int, seed: int, batch: int
) -> None:
    """Between its two products a rounding edge may move an integer; elsewhere nothing moves."""
    layer, program = experts
    x = rows(frames, seed, batch)
    expected = layer(x).numpy()
    (found,) = program.run(None, {"x": x.numpy()})
    size = np.abs(expected).max(axis=2, keepdims=True) + 1e-9
    assert found.shape == (batch, frames, DIM)
    errors = (np.abs(found - expected) / size).max(axis=2)
    assert np.count_nonzero(errors > 1e-5) <= 1 + errors.size // 20
    assert errors.max() <= 0.02
