"""Reads a file of native weights back, by its format alone (edge_asr/native/src/weights.h), to
compare it with the network that it was written from. It shares no code with what writes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_FIRST, HEADER = struct.Struct("<8sIIQ40x"), struct.Struct("<12IfIQQ56x")
_LINEAR, _FEED_FORWARD, _SUBSAMPLING, _ATTENTION, _CONVOLUTION = range(1, 6)
_RESIDUAL = 1
Array = npt.NDArray[Any]


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


@dataclass(frozen=True)
class StoredMatrix:
    """Scales, sums and biases (N,) and integers (N, K), padding and all; at int4 ``groups`` (N, G)
    are the bits of the scales."""

    scale: Array
    total: Array
    bias: Array
    weight: Array
    groups: Array | None = None


@dataclass(frozen=True)
class StoredLayer:
    """A layer with its vectors, as long as they are, and its matrices."""

    header: Header
    vectors: tuple[Array, ...]
    matrices: tuple[StoredMatrix, ...]


class _Cursor:
    """Takes one part after the other; each begins at a multiple of 64 bytes."""

    def __init__(self, data: bytes, begin: int) -> None:
        self.data, self.at = data, begin

    def take(self, dtype: Any, count: int) -> Array:
        array = np.frombuffer(self.data, dtype, count, self.at)
        self.at = -(-(self.at + array.nbytes) // 64) * 64
        return array


def read_layers(data: bytes) -> list[StoredLayer]:
    """The layers of a file.

    Raises:
        ValueError, struct.error: it is no such file.
    """
    magic, version, count, size = _FIRST.unpack_from(data)
    if (magic, version, size) != (b"EDGEASRW", 1, len(data)):
        raise ValueError("not a file of weights of this version and size")
    layers = []
    for index in range(count):
        header = Header(*HEADER.unpack_from(data, header_begin(index)))
        cursor = _Cursor(data, header.offset)
        vectors = tuple(cursor.take(np.float32, length) for length in _vector_lengths(header))
        matrices = tuple(_read_matrix(cursor, header, *shape) for shape in matrix_shapes(header))
        if cursor.at != header.offset + header.size:
            raise ValueError(f"layer {index} is not as long as its parts")
        layers.append(StoredLayer(header, vectors, matrices))
    return layers


def header_begin(index: int) -> int:
    """Where the header of a layer is."""
    return _FIRST.size + HEADER.size * index


def _vector_lengths(header: Header) -> list[int]:
    dim, norm = header.dim, 2 if header.flags & _RESIDUAL else 0
    own = {
        _FEED_FORWARD: [header.experts * dim] if header.experts else [],
        _SUBSAMPLING: [9 * header.hidden, header.hidden],
        _ATTENTION: [dim] * 2,
        _CONVOLUTION: [header.kernel * dim, *[dim] * 4],
    }
    return [dim] * norm + own.get(header.kind, [])


def matrix_shapes(header: Header) -> Sequence[tuple[int, int]]:
    """Output and input channels of each matrix."""
    dim, hidden, out = header.dim, header.hidden, header.out
    bins = ((dim - 1) // 2 - 1) // 2
    return {
        _LINEAR: [(out, dim)],
        _FEED_FORWARD: [(hidden, dim), (out, hidden)] * max(1, header.experts),
        _SUBSAMPLING: [(hidden, 9 * hidden), (out, hidden * bins)],
        _ATTENTION: [(3 * dim, dim), (dim, dim), (dim, dim)],
        _CONVOLUTION: [(2 * dim, dim), (dim, dim)],
    }[header.kind]


def _read_matrix(cursor: _Cursor, header: Header, out: int, dim: int) -> StoredMatrix:
    panels, four = -(-out // 32), header.bits == 4
    total = np.float32 if four else np.int32
    scale, sums, bias = (
        cursor.take(dtype, panels * 32) for dtype in (np.float32, total, np.float32)
    )
    if not four:
        depth = -(-dim // 8) * 8
        packed = cursor.take(np.int8, panels * 32 * depth).reshape(panels, depth // 4, 32, 4)
        return StoredMatrix(scale, sums, bias, packed.transpose(0, 2, 1, 3).reshape(-1, depth))
    group = header.group
    count, size = -(-dim // group), 64 + 16 * group
    both = cursor.take(np.uint8, panels * count * size).reshape(panels, count, size)
    bits = np.ascontiguousarray(both[:, :, :64]).view(np.int16).reshape(panels, count, 32)
    nibbles = both[:, :, 64:].reshape(panels, count, group // 4, 16, 4)
    halves = np.stack([nibbles & 15, nibbles >> 4], axis=1).astype(np.int8) - 8
    weight = halves.transpose(0, 1, 4, 2, 3, 5).reshape(panels * 32, count * group)
    groups = bits.transpose(0, 2, 1).reshape(panels * 32, count)
    return StoredMatrix(scale, sums, bias, weight, groups)
