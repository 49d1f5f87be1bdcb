"""Files of native weights, and what their layers compute, in plain numpy.

Written from the comments in ``weights.h`` and ``quant/linear.py`` alone: a second opinion on the
exporter's writer and on the kernels.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from edge_asr.native.library import NativeWeights

Floats = npt.NDArray[np.float32]
LINEAR, FEED_FORWARD, SUBSAMPLING, ATTENTION, CONVOLUTION = range(1, 6)
NONE, RELU, SILU = range(3)
RESIDUAL, INNER_LAYER_NORM = 1, 2
PANEL = 32

_numbers = itertools.count(1 << 40)


@dataclass(frozen=True)
class Header:
    """A layer's numbers, in the order of the file."""

    kind: int
    activation: int = NONE
    dim_in: int = 0
    hidden: int = 0
    dim_out: int = 0
    experts: int = 0
    top_k: int = 0
    bits: int = 8
    group: int = 0
    heads: int = 0
    kernel: int = 0
    flags: int = 0
    residual: float = 0.0
    slot: int = 0

    def pack(self, offset: int, size: int) -> bytes:
        return struct.pack("<12IfIQQ56x", *vars(self).values(), offset, size)


@dataclass(frozen=True)
class Layer:
    """A header and the parts of the layer's data, each of which begins at a multiple of 64."""

    header: Header
    parts: list[bytes]

    def with_residual(self, factor: float, scale: Floats, shift: Floats) -> Layer:
        """x + factor * f(norm(x)) instead of f(x)."""
        header = replace(self.header, flags=self.header.flags | RESIDUAL, residual=factor)
        return Layer(header, [scale.tobytes(), shift.tobytes(), *self.parts])


def pack_file(layers: Sequence[Layer]) -> bytes:
    """The file of these layers."""
    bodies = [b"".join(part + bytes(-len(part) % 64) for part in layer.parts) for layer in layers]
    table, offset = b"", 64 + 128 * len(layers)
    for layer, body in zip(layers, bodies, strict=True):
        table += layer.header.pack(offset, len(body))
        offset += len(body)
    return struct.pack("<8sIIQ40x", b"EDGEASRW", 1, len(layers), offset) + table + b"".join(bodies)


def load(data: bytes) -> NativeWeights:
    """The file in memory, under a number that nobody else has."""

    def read(memory: memoryview) -> None:
        memory[:] = data

    return NativeWeights(next(_numbers), len(data), read)


def quantize(x: Floats) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.int64]]:
    """Rows (N, I) to bytes (N, I), scales (N, 1) and zero points (N, 1)."""
    low = np.minimum(x.min(axis=1, keepdims=True), np.float32(0))
    high = np.maximum(x.max(axis=1, keepdims=True), np.float32(0))
    scale = np.maximum((high - low) / np.float32(255), np.float32(1e-8))
    zero = -np.rint(low / scale)
    integers = np.clip(np.rint(x / scale) + zero, 0, 255)
    return integers.astype(np.int64), scale, zero.astype(np.int64)


def _padded(values: npt.NDArray[np.generic]) -> bytes:
    return np.pad(values, (0, -len(values) % PANEL)).tobytes()


@dataclass(frozen=True)
class Matrix8:
    """int8 weight (O, I), scale (O,), bias (O,)."""

    weight: npt.NDArray[np.int8]
    scale: Floats
    bias: Floats

    def parts(self) -> list[bytes]:
        sums = self.weight.sum(axis=1, dtype=np.int32)
        outputs, inputs = self.weight.shape
        panels = -(-outputs // PANEL)
        data = np.zeros((panels, -(-inputs // 8) * 2, PANEL, 4), np.int8)
        for channel, row in enumerate(self.weight):
            steps = np.pad(row, (0, -inputs % 8)).reshape(-1, 4)
            data[channel // PANEL, :, channel % PANEL] = steps
        return [_padded(self.scale), _padded(sums), _padded(self.bias), data.tobytes()]

    def apply(self, x: Floats) -> Floats:
        """(N, I) to (N, O)."""
        integers, scale, zero = quantize(x)
        weight = self.weight.astype(np.int64)
        product = integers @ weight.T - zero * weight.sum(axis=1)
        return product.astype(np.float32) * scale * self.scale + self.bias


@dataclass(frozen=True)
class Matrix4:
    """Weight (O, I) from -8 to 7, scale (O, G) that bfloat16 holds, bias (O,)."""

    weight: npt.NDArray[np.int8]
    scale: Floats
    bias: Floats
    group: int

    def _groups(self) -> npt.NDArray[np.int64]:
        padded = np.pad(self.weight, ((0, 0), (0, -self.weight.shape[1] % self.group)))
        return padded.reshape(len(padded), -1, self.group).astype(np.int64)

    def _scaled_sum(self) -> Floats:
        total = np.zeros(len(self.weight), np.float32)
        for group in range(self.scale.shape[1]):
            sums = self._groups()[:, group].sum(axis=1).astype(np.float32)
            total = total + sums * self.scale[:, group]
        return total

    def parts(self) -> list[bytes]:
        outputs, groups = self.scale.shape
        panels = -(-outputs // PANEL)
        scales = np.zeros((panels, groups, PANEL), np.uint16)
        nibbles = np.full((panels, groups, self.group // 4, PANEL, 4), 8, np.uint8)
        high_halves = self.scale.view(np.uint32) >> 16
        for channel in range(outputs):
            at = channel // PANEL, slice(None), channel % PANEL
            scales[at] = high_halves[channel]
            stored = self._groups()[channel].reshape(groups, -1, 4) + 8
            nibbles[channel // PANEL, :, :, channel % PANEL] = stored
        both = nibbles[..., :16, :] | nibbles[..., 16:, :] << 4
        panel = [
            scales[i, j].tobytes() + both[i, j].tobytes()
            for i in range(panels)
            for j in range(groups)
        ]
        unused = np.zeros(outputs, np.float32)
        return [_padded(unused), _padded(self._scaled_sum()), _padded(self.bias), b"".join(panel)]

    def apply(self, x: Floats) -> Floats:
        """(N, I) to (N, O)."""
        integers, scale, zero = quantize(x)
        integers = np.pad(integers, ((0, 0), (0, -integers.shape[1] % self.group)))
        total = np.zeros((len(x), len(self.weight)), np.float32)
        for group in range(self.scale.shape[1]):
            part = integers[:, group * self.group :][:, : self.group] @ self._groups()[:, group].T
            total = total + part.astype(np.float32) * self.scale[:, group]
        return (total - zero.astype(np.float32) * self._scaled_sum()) * scale + self.bias


Matrix = Matrix8 | Matrix4


@dataclass
class Maker:
    """Random layers of one size of integers."""

    rng: np.random.Generator
    bits: int = 8
    group: int = 0
    layers: list[Layer] = field(default_factory=list)

    def vector(self, *shape: int) -> Floats:
        return self.rng.standard_normal(shape).astype(np.float32)

    def matrix(self, inputs: int, outputs: int) -> Matrix:
        bias = self.vector(outputs)
        spread = 1 / np.sqrt(inputs)
        if self.bits == 8:
            weight = self.rng.integers(-128, 128, (outputs, inputs)).astype(np.int8)
            scale = self.rng.uniform(0.5, 1.5, outputs) * spread / 73
            return Matrix8(weight, scale.astype(np.float32), bias)
        weight = self.rng.integers(-8, 8, (outputs, inputs)).astype(np.int8)
        shape = (outputs, -(-inputs // self.group))
        scale = (self.rng.uniform(0.5, 1.5, shape) * spread / 4.6).astype(np.float32)
        scale = (scale.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        return Matrix4(weight, scale, bias, self.group)

    def header(self, kind: int, dim_in: int, dim_out: int, **rest: int) -> Header:
        return Header(
            kind, dim_in=dim_in, dim_out=dim_out, bits=self.bits, group=self.group, **rest
        )

    def linear(self, inputs: int, outputs: int, activation: int = NONE) -> tuple[Layer, Matrix]:
        matrix = self.matrix(inputs, outputs)
        header = self.header(LINEAR, inputs, outputs, activation=activation)
        return Layer(header, matrix.parts()), matrix

    def feed_forward(
        self, dim: int, hidden: int, outputs: int, activation: int, experts: int, top_k: int
    ) -> tuple[Layer, Floats, list[tuple[Matrix, Matrix]]]:
        """The layer, its router (E, D), and the matrices of its experts."""
        router = self.vector(experts, dim)
        pairs = [
            (self.matrix(dim, hidden), self.matrix(hidden, outputs)) for _ in range(max(1, experts))
        ]
        parts = [router.tobytes()] if experts else []
        for first, second in pairs:
            parts += first.parts() + second.parts()
        header = self.header(
            FEED_FORWARD, dim, outputs, activation=activation, hidden=hidden,
            experts=experts, top_k=top_k,
        )  # fmt: skip
        return Layer(header, parts), router, pairs

    def subsampling(self, bins: int, channels: int, outputs: int) -> Layer:
        rest = channels * (((bins - 1) // 2 - 1) // 2)
        parts = [self.vector(9, channels).tobytes(), self.vector(channels).tobytes()]
        parts += self.matrix(9 * channels, channels).parts() + self.matrix(rest, outputs).parts()
        return Layer(self.header(SUBSAMPLING, bins, outputs, hidden=channels), parts)

    def attention(self, dim: int, heads: int, slot: int = 0) -> Layer:
        parts = [self.vector(dim).tobytes(), self.vector(dim).tobytes()]
        for outputs in (3 * dim, dim, dim):
            parts += self.matrix(dim, outputs).parts()
        return Layer(self.header(ATTENTION, dim, dim, heads=heads, slot=slot), parts)

    def convolution(self, dim: int, kernel: int, layer_norm: bool, slot: int = 0) -> Layer:
        parts = [self.vector(kernel, dim).tobytes()]
        parts += [self.vector(dim).tobytes() for _ in range(4)]
        parts += self.matrix(dim, 2 * dim).parts() + self.matrix(dim, dim).parts()
        flags = INNER_LAYER_NORM if layer_norm else 0
        header = self.header(
            CONVOLUTION, dim, dim, activation=SILU, kernel=kernel, flags=flags, slot=slot
        )
        return Layer(header, parts)
