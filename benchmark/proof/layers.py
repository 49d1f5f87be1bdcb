"""The layers of a file of native weights: where their numbers are, so that bugs can be put there.

The format is that of edge_asr/native/src/weights.h; ``export.native_reader`` reads the numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_asr.package.stripped import DEPTH_MULTIPLE, PANEL
from export.native_reader import HEADER, Header, header_begin, matrix_shapes
from export.native_weights import ALIGNMENT, ATTENTION, CONVOLUTION, RESIDUAL, SUBSAMPLING


class Matrix(NamedTuple):
    """Where the parts of a matrix begin, its channels and the bits of its weights."""

    scale: int
    total: int
    bias: int
    panels: int
    end: int
    out: int
    columns: int
    bits: int


@dataclass(frozen=True)
class Layer:
    """A layer of the file, its float32 vectors by name, and its matrices; an expert has two."""

    index: int
    header: Header
    vectors: dict[str, slice]
    matrices: tuple[Matrix, ...]

    def expert(self, number: int) -> slice:
        """The bytes of an expert."""
        return slice(self.matrices[2 * number].scale, self.matrices[2 * number + 1].end)

    @property
    def place(self) -> slice:
        """All its bytes."""
        return slice(self.header.offset, self.header.offset + self.header.size)

    def is_like(self, other: Layer) -> bool:
        """Whether the other one's bytes can stand in its place."""
        return self.index != other.index and self._shape == other._shape

    @property
    def _shape(self) -> tuple[object, ...]:
        return tuple(self.header._replace(offset=0, slot=0, residual=0.0))


def read_layers(data: bytes) -> list[Layer]:
    """The layers of a file of weights."""
    (count,) = struct.unpack_from("<I", data, 12)
    layers = []
    for index in range(count):
        header = Header(*HEADER.unpack_from(data, header_begin(index)))
        at, vectors = header.offset, {}
        for name, size in _vector_bytes(header):
            vectors[name] = slice(at, at + size)
            at += _aligned(size)
        matrices = []
        for rows, columns in matrix_shapes(header):
            bits = 4 if header.bits == 4 else 8
            padded = rows + -rows % PANEL
            parts = [4 * padded] * 3 + [_panel_bytes(header, columns, padded)]
            ends = at + np.cumsum([_aligned(part) for part in parts])
            total, bias, panels, end = map(int, ends)
            matrices.append(Matrix(at, total, bias, panels, end, rows, columns, bits))
            at = end
        assert at == header.offset + header.size, "the format has changed"
        layers.append(Layer(index, header, vectors, tuple(matrices)))
    return layers


def put_header(data: bytearray, layer: Layer, **changes: Any) -> None:
    """Change what a layer's header says."""
    header = layer.header._replace(**changes)
    HEADER.pack_into(data, header_begin(layer.index), *header)


def floats(data: bytearray, place: slice) -> npt.NDArray[np.float32]:
    """The numbers there, to be changed in place."""
    return np.frombuffer(data, np.float32, (place.stop - place.start) // 4, place.start)


def square(data: bytearray, matrix: Matrix) -> npt.NDArray[np.int8]:
    """The panels of an int8 matrix as (rows, columns), a view that is written through."""
    depth = matrix.columns + -matrix.columns % DEPTH_MULTIPLE
    panels = (matrix.out + -matrix.out % PANEL) // PANEL
    packed = np.frombuffer(data, np.int8, panels * PANEL * depth, matrix.panels)
    # (panels, depth / 4, 32, 4)
    return packed.reshape(panels, depth // 4, PANEL, 4)


def _vector_bytes(header: Header) -> Iterator[tuple[str, int]]:
    """Names and sizes of the vectors before the matrices."""
    dim = 4 * header.dim
    if header.flags & RESIDUAL:
        yield from (("norm scale", dim), ("norm shift", dim))
    if header.experts:
        yield "router", header.experts * dim
    if header.kind == SUBSAMPLING:
        yield from (("first weights", 9 * 4 * header.hidden), ("first bias", 4 * header.hidden))
    if header.kind == ATTENTION:
        yield from (("u", dim), ("v", dim))
    if header.kind == CONVOLUTION:
        yield "taps", header.kernel * dim
        names = ("taps' bias", "inner norm scale", "inner norm shift", "rest")
        yield from ((name, dim) for name in names)


def _panel_bytes(header: Header, columns: int, padded: int) -> int:
    if header.bits == 4:
        groups = -(-columns // header.group)
        return padded // PANEL * groups * (2 * PANEL + header.group * PANEL // 2)
    return padded * (columns + -columns % DEPTH_MULTIPLE)


def _aligned(size: int) -> int:
    return size + -size % ALIGNMENT
