"""Layers for hypothesis, with inputs that fit them, and how to run them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from edge_asr.native.library import NativeWeights, library
from tests.edge_asr.native.weights_file import RELU, SILU, Floats, Layer, Maker

INTEGERS = [(8, 0), (4, 32), (4, 64), (4, 128)]  # bits and group
SPECIALS = (0.0, -0.0, 1e-40, -1e-45, 1e30, -1e30, 3.4e38, np.inf, -np.inf, np.nan)


@dataclass(frozen=True)
class Case:
    """A layer, inputs for it, and how many outputs it has."""

    layer: Layer
    inputs: list[Floats]
    outputs: int = 1


@st.composite
def makers(draw: st.DrawFn) -> Maker:
    """Of any size of integers."""
    bits, group = draw(st.sampled_from(INTEGERS))
    return Maker(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), bits, group)


@st.composite
def linear(draw: st.DrawFn) -> Case:
    maker = draw(makers())
    inputs, outputs = draw(st.integers(1, 300)), draw(st.integers(1, 100))
    layer, _ = maker.linear(inputs, outputs, draw(st.integers(0, 2)))
    return Case(layer, [maker.vector(draw(st.integers(0, 40)), inputs)])


@st.composite
def feed_forward(draw: st.DrawFn) -> Case:
    maker = draw(makers())
    experts = draw(st.integers(0, 8))
    top_k = draw(st.integers(1, min(3, experts))) if experts else 0
    residual = draw(st.booleans())
    dim, hidden = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    outputs = dim if residual else draw(st.integers(1, 70))
    activation = draw(st.sampled_from([RELU, SILU]))
    layer, _, _ = maker.feed_forward(dim, hidden, outputs, activation, experts, top_k)
    if residual:
        layer = with_residual(maker, layer, dim)
    return Case(layer, [maker.vector(draw(st.integers(0, 40)), dim)])


@st.composite
def subsampling(draw: st.DrawFn) -> Case:
    maker = draw(makers())
    bins = draw(st.integers(7, 24))
    layer = maker.subsampling(bins, draw(st.integers(1, 20)), draw(st.integers(1, 40)))
    return Case(layer, [maker.vector(1, draw(st.integers(7, 40)), bins)])


@st.composite
def attention(draw: st.DrawFn) -> Case:
    maker = draw(makers())
    heads, width = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    frames, left, layers = (
        draw(st.integers(low, high)) for low, high in ((1, 20), (0, 40), (1, 3))
    )
    dim, slot = heads * width, draw(st.integers(0, layers - 1))
    layer = with_residual(maker, maker.attention(dim, heads, slot), dim)
    hidden = np.array([draw(st.integers(0, left))], np.float32)
    cache = (layers, 1, heads, left, width)
    state = [maker.vector(*cache), maker.vector(*cache), maker.vector(*cache[:-1])]
    x = [maker.vector(1, frames, dim), maker.vector(1, frames, dim)]
    return Case(layer, [*x, hidden, *state], 4)


@st.composite
def convolution(draw: st.DrawFn) -> Case:
    maker = draw(makers())
    dim, kernel, layers = (
        draw(st.integers(1, 100)),
        draw(st.integers(1, 15)),
        draw(st.integers(1, 3)),
    )
    layer = maker.convolution(dim, kernel, draw(st.booleans()), draw(st.integers(0, layers - 1)))
    layer = with_residual(maker, layer, dim)
    x = maker.vector(1, draw(st.integers(0, 40)), dim)
    return Case(layer, [x, maker.vector(layers, 1, kernel - 1, dim)], 2)


def with_residual(maker: Maker, layer: Layer, dim: int) -> Layer:
    """Reading a norm, and added to the layer's input."""
    return layer.with_residual(0.5, maker.vector(dim), maker.vector(dim))


def run_on(
    kernel: str, weights: NativeWeights, inputs: Sequence[Floats], outputs: int, threads: int = 1
) -> list[Floats]:
    """The outputs of the first layer, computed by that kernel."""
    assert library().edge_asr_set_kernel(kernel.encode()) == 0
    library().edge_asr_set_threads(threads)
    return weights.run(0, *inputs, outputs=outputs)


def same(one: Sequence[npt.NDArray[Any]], other: Sequence[npt.NDArray[Any]]) -> bool:
    """The same bits, but for those of what is no number."""
    return all(
        a.shape == b.shape
        and bool(((a.view(np.int32) == b.view(np.int32)) | (np.isnan(a) & np.isnan(b))).all())
        for a, b in zip(one, other, strict=True)
    )
