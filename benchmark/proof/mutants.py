"""Files of native weights, changed as a bug would change them.

The format is that of edge_asr/native/src/weights.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from edge_asr.package.stripped import DEPTH_MULTIPLE, PANEL
from export.native_weights import (
    ALIGNMENT,
    ATTENTION,
    CONVOLUTION,
    FEED_FORWARD,
    LINEAR,
    RESIDUAL,
    SUBSAMPLING,
)

_FIRST, _HEADER, _FORMAT = 64, 128, "<12IfIQQ"


class Header(NamedTuple):
    """Of a layer, in the order of the file."""

    kind: int
    activation: int
    dim: int
    hidden: int
    out: int
    experts: int
    top_k: int
    bits: int
    group: int
    heads: int
    kernel: int
    flags: int
    residual: float
    slot: int
    offset: int
    size: int


class Matrix(NamedTuple):
    """Where the parts of an int8 matrix begin, and how many numbers they have."""

    scale: int
    total: int
    bias: int
    panels: int
    end: int
    out: int


@dataclass(frozen=True)
class Layer:
    """A layer of the file, with its matrices; an expert has two of them."""

    index: int
    header: Header
    matrices: tuple[Matrix, ...]


@dataclass(frozen=True)
class Mutant:
    """A changed file, and how it was changed."""

    kind: str
    where: str
    data: bytes


def read_layers(data: bytes) -> list[Layer]:
    """The layers of an int8 file of weights."""
    (count,) = struct.unpack_from("<I", data, 12)
    layers = []
    for index in range(count):
        header = Header(*struct.unpack_from(_FORMAT, data, _FIRST + _HEADER * index))
        at = header.offset + sum(map(_aligned, _vector_bytes(header)))
        matrices = []
        for columns, rows in _matrix_sizes(header):
            padded = rows + -rows % PANEL
            parts = [4 * padded] * 3 + [padded * (columns + -columns % DEPTH_MULTIPLE)]
            ends = at + np.cumsum([_aligned(part) for part in parts])
            total, bias, panels, end = map(int, ends)
            matrices.append(Matrix(at, total, bias, panels, end, rows))
            at = end
        assert at == header.offset + header.size, "the format has changed"
        layers.append(Layer(index, header, tuple(matrices)))
    return layers


def _vector_bytes(header: Header) -> Iterator[int]:
    """Of the vectors before the matrices."""
    dim = 4 * header.dim
    if header.flags & RESIDUAL:
        yield from (dim, dim)
    if header.experts:
        yield header.experts * dim
    if header.kind == SUBSAMPLING:
        yield from (9 * 4 * header.hidden, 4 * header.hidden)
    if header.kind == ATTENTION:
        yield from (dim, dim)
    if header.kind == CONVOLUTION:
        yield from (header.kernel * dim, *[dim] * 4)


def _matrix_sizes(header: Header) -> list[tuple[int, int]]:
    """Columns and rows of the matrices."""
    dim, hidden, out = header.dim, header.hidden, header.out
    bins = ((dim - 1) // 2 - 1) // 2
    return {
        LINEAR: [(dim, out)],
        FEED_FORWARD: [(dim, hidden), (hidden, out)] * max(1, header.experts),
        SUBSAMPLING: [(9 * hidden, hidden), (hidden * bins, out)],
        ATTENTION: [(dim, 3 * dim), (dim, dim), (dim, dim)],
        CONVOLUTION: [(dim, 2 * dim), (dim, dim)],
    }[header.kind]


def _aligned(size: int) -> int:
    return size + -size % ALIGNMENT


Change = Callable[[bytearray, Layer, np.random.Generator], str]


def _put(data: bytearray, layer: Layer, **changes: Any) -> None:
    header = layer.header._replace(**changes)
    struct.pack_into(_FORMAT, data, _FIRST + _HEADER * layer.index, *header)


def _residual_of_one(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    _put(data, layer, residual=1.0)
    return "the half step is a whole one"


def _left_out(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    _put(data, layer, residual=0.0)
    return "the block is left out"


def _other_slot(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    slot = int(layer.header.slot == 0) or int(rng.integers(layer.header.slot))
    _put(data, layer, slot=slot)
    return f"reads the state of layer {slot}"


def _relu(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    _put(data, layer, activation=1)
    return "ReLU for SiLU"


def _expert(layer: Layer, expert: int) -> slice:
    return slice(layer.matrices[2 * expert].scale, layer.matrices[2 * expert + 1].end)


def _zeroed(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    expert = int(rng.integers(layer.header.experts))
    place = _expert(layer, expert)
    data[place] = bytes(place.stop - place.start)
    return f"expert {expert}"


def _swapped(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    pair = rng.choice(layer.header.experts, 2, replace=False)
    one, other = (_expert(layer, int(expert)) for expert in pair)
    data[one], data[other] = data[other], data[one]
    return f"experts {pair[0]} and {pair[1]}"


def _matrix(layer: Layer, rng: np.random.Generator) -> tuple[int, Matrix]:
    index = int(rng.integers(len(layer.matrices)))
    return index, layer.matrices[index]


def _scaled(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    index, matrix = _matrix(layer, rng)
    scale = np.frombuffer(data, np.float32, matrix.out, matrix.scale)
    scale *= np.float32(1.04)
    return f"scales of matrix {index} by 1.04"


def _one_scale(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    index, matrix = _matrix(layer, rng)
    channel = int(rng.integers(matrix.out))
    scale = np.frombuffer(data, np.float32, matrix.out, matrix.scale)
    scale[channel] *= np.float32(1.04)
    return f"scale {channel} of matrix {index} by 1.04"


def _without_bias(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    index, matrix = _matrix(layer, rng)
    data[matrix.bias : matrix.panels] = bytes(matrix.panels - matrix.bias)
    return f"of matrix {index}"


def _bit(data: bytearray, layer: Layer, rng: np.random.Generator) -> str:
    index, matrix = _matrix(layer, rng)
    place, bit = int(rng.integers(matrix.panels, matrix.end)), int(rng.integers(5, 8))
    data[place] ^= 1 << bit
    return f"bit {bit} of byte {place} of matrix {index}"


_EXPERTS = (FEED_FORWARD,)
_STATE = (ATTENTION, CONVOLUTION)
_ANY = (LINEAR, FEED_FORWARD, SUBSAMPLING, ATTENTION, CONVOLUTION)
# Kind of bug, the kinds of layers that can have it, and what it does.
CHANGES: dict[str, tuple[tuple[int, ...], Change]] = {
    "an expert is zero": (_EXPERTS, _zeroed),
    "two experts are swapped": (_EXPERTS, _swapped),
    "a residual of 1.0 for 0.5": (_EXPERTS, _residual_of_one),
    "a block is left out": ((FEED_FORWARD, ATTENTION, CONVOLUTION), _left_out),
    "another layer's cache": (_STATE, _other_slot),
    "ReLU for SiLU": ((FEED_FORWARD, CONVOLUTION), _relu),
    "all scales of a matrix off by 4 %": (_ANY, _scaled),
    "one channel's scale off by 4 %": (_ANY, _one_scale),
    "a matrix without its bias": (_ANY, _without_bias),
    "a high bit of a weight": (_ANY, _bit),
}


def mutants(data: bytes, seeds: Iterable[int]) -> Iterator[Mutant]:
    """One for each seed, which is always the same; of all kinds in turn."""
    layers = read_layers(data)
    kinds = list(CHANGES.items())
    for seed in seeds:
        rng = np.random.default_rng(seed)
        kind, (fitting, change) = kinds[seed % len(kinds)]
        able = [layer for layer in layers if layer.header.kind in fitting]
        layer = able[int(rng.integers(len(able)))]
        changed = bytearray(data)
        what = change(changed, layer, rng)
        yield Mutant(kind, f"layer {layer.index}: {what}", bytes(changed))
