"""The file of weights that native programs share; its format is in edge_asr/native/src/weights.h.

A layer is a part of the network that one operator computes: a linear layer, or a whole block of the
encoder with its norm and residual.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_asr.package.stripped import DEPTH_MULTIPLE, PANEL, Insert, Matrix
from model.attention import PlainAttention, PositionAttention
from model.convolution import CausalConvolution
from model.feed_forward import FeedForward, MoeFeedForward
from model.subsampling import Subsampling
from quant.convolution import QuantConv2d
from quant.linear import QuantLinear
from quant.linear4 import QuantLinear4

MAGIC = b"EDGEASRW"
VERSION = 1
ALIGNMENT = 64
LINEAR, FEED_FORWARD, SUBSAMPLING, ATTENTION, CONVOLUTION = range(1, 6)
RESIDUAL, INNER_LAYER_NORM = 1, 2  # flags
ACTIVATIONS: dict[type[nn.Module], int] = {nn.Identity: 0, nn.ReLU: 1, nn.SiLU: 2}


@dataclass(frozen=True)
class LayerSizes:
    """The numbers of a layer's header."""

    kind: int
    dim_in: int
    dim_out: int
    activation: int = 0
    hidden: int = 0
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
        """The header of a layer whose data lies there."""
        return struct.pack(
            "<12IfIQQ56x",
            self.kind, self.activation, self.dim_in, self.hidden, self.dim_out, self.experts,
            self.top_k, self.bits, self.group, self.heads, self.kernel, self.flags, self.residual,
            self.slot, offset, size,
        )  # fmt: skip


@dataclass(frozen=True)
class Channels:
    """A number for each output channel of linear layers that are one matrix, padded to panels."""

    layers: tuple[npt.NDArray[np.generic], ...]

    def data(self) -> bytes:
        """As the file has it."""
        return _channels(np.concatenate(self.layers))

    def places(self, offset: int) -> Iterator[Insert]:
        """Where the numbers of each layer are, if they begin at ``offset``."""
        for values in self.layers:
            yield Insert(0, values.nbytes, offset)
            offset += values.nbytes


@dataclass(frozen=True)
class Panels:
    """The int8 matrices of linear layers over the same rows as one; ``bins``: see ``Matrix``."""

    layers: tuple[npt.NDArray[np.int8], ...]
    bins: int = 1

    def data(self) -> bytes:
        """As the file has it."""
        return panels8(np.concatenate(self.layers)).tobytes()

    def places(self, offset: int) -> Iterator[Insert]:
        """Where the matrix of each layer is, if the panels begin at ``offset``."""
        first = 0
        for weight in self.layers:
            rows, columns = weight.shape
            yield Insert(0, weight.nbytes, offset, Matrix(columns, first, rows, self.bins))
            first += rows


@dataclass(frozen=True)
class Plain:
    """Numbers of any kind."""

    numbers: bytes

    def data(self) -> bytes:
        """As the file has it."""
        return self.numbers

    def places(self, offset: int) -> Iterator[Insert]:
        """Where they are."""
        yield Insert(0, len(self.numbers), offset)


Part = Channels | Panels | Plain


@dataclass(frozen=True)
class Residual:
    """A block reads the norm of x and gives x + factor * its result. ``slot`` says which of the
    states is its own."""

    norm: nn.LayerNorm
    factor: float
    slot: int = 0


@dataclass(frozen=True)
class WrittenLayer:
    """What a layer of the file was written from: a block, or linear layers over the same rows."""

    modules: tuple[nn.Module, ...]
    residual: Residual | None = None


@dataclass(frozen=True)
class WeightsFile:
    """The bytes of the file, where in it the tensors of the network's layers are, and these."""

    data: bytes
    places: tuple[Insert, ...]
    layers: tuple[WrittenLayer, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """By which programs name it."""
        return hashlib.sha256(self.data).hexdigest()


class WeightsWriter:
    """Collects layers; each gets the number that its operator names."""

    def __init__(self) -> None:
        self._sizes: list[LayerSizes] = []
        self._parts: list[list[Part]] = []
        self._written: list[WrittenLayer] = []

    def add(self, layer: nn.Module, residual: Residual | None = None) -> int:
        """The number of a layer, one of ``PARTS``, whose linear layers are quantized."""
        sizes, parts = PARTS[type(layer)](layer)
        if residual is not None:
            assert residual.norm.eps == 1e-5, "the kernels know one epsilon"
            flags = sizes.flags | RESIDUAL
            sizes = LayerSizes(
                **(
                    vars(sizes)
                    | {"flags": flags, "residual": residual.factor, "slot": residual.slot}
                )
            )
            parts = [_vector(residual.norm.weight), _vector(residual.norm.bias), *parts]
        self._sizes.append(sizes)
        self._parts.append(parts)
        self._written.append(WrittenLayer((layer,), residual))
        return len(self._sizes) - 1

    def add_linears(self, layers: Sequence[nn.Module]) -> int:
        """The number of linear layers over the same rows as one, whose outputs follow one
        another."""
        widths = [layer.weight.shape for layer in layers]
        sizes = LayerSizes(LINEAR, int(widths[0][1]), sum(int(out) for out, _ in widths))
        self._sizes.append(sizes)
        self._parts.append(matrix_parts(layers))
        self._written.append(WrittenLayer(tuple(layers)))
        return len(self._sizes) - 1

    def finish(self) -> WeightsFile:
        """The file."""
        headers: list[bytes] = []
        data: list[bytes] = []
        places: list[Insert] = []
        offset = 64 + 128 * len(self._sizes)
        for sizes, parts in zip(self._sizes, self._parts, strict=True):
            begin = offset
            for part in parts:
                places += part.places(offset)
                data.append(_aligned(part.data()))
                offset += len(data[-1])
            headers.append(sizes.pack(begin, offset - begin))
        first = struct.pack("<8sIIQ40x", MAGIC, VERSION, len(headers), offset)
        return WeightsFile(b"".join([first, *headers, *data]), tuple(places), tuple(self._written))


def linear_parts(layer: QuantLinear) -> tuple[LayerSizes, list[Part]]:
    """One matrix."""
    out, dim = layer.weight.shape
    return LayerSizes(LINEAR, dim, out), matrix_parts([layer])


def feed_forward_parts(
    layer: FeedForward | MoeFeedForward,
) -> tuple[LayerSizes, list[Part]]:
    """The router, and two matrices for each expert; or two matrices."""
    experts: list[FeedForward]
    parts: list[Part]
    if isinstance(layer, MoeFeedForward):
        experts = [expert for expert in layer.experts if isinstance(expert, FeedForward)]
        parts, count, top_k = [_vector(layer.gate.weight)], len(experts), layer.n_expert_activated
    else:
        experts, parts, count, top_k = [layer], [], 0, 0
    for expert in experts:
        for linear in (expert.w_1, expert.w_2):
            parts += (
                matrix_parts4(linear)
                if isinstance(linear, QuantLinear4)
                else matrix_parts([linear])
            )
    hidden, dim = experts[0].w_1.weight.shape
    sizes = LayerSizes(
        FEED_FORWARD,
        int(dim),
        experts[0].w_2.weight.shape[0],
        activation=ACTIVATIONS[type(experts[0].activation)],
        hidden=int(hidden),
        experts=count,
        top_k=top_k,
        bits=8 if isinstance(experts[0].w_1, QuantLinear) else 4,
        group=getattr(experts[0].w_1, "group", 0),
    )
    return sizes, parts


def subsampling_parts(layer: Subsampling) -> tuple[LayerSizes, list[Part]]:
    """Two convolutions of 3x3 by 2 and the projection; see ``is_native_subsampling``."""
    first, second, project = layer.conv[0], layer.conv[2], layer.out[0]
    assert isinstance(first, nn.Conv2d) and isinstance(second, QuantConv2d)
    channels = first.out_channels
    bins = project.weight.size(1) // channels
    # The operator's rows are bins of channels, the network's channels of bins.
    by_bin = project.weight.reshape(-1, channels, bins).transpose(1, 2)
    projection = QuantLinear(
        by_bin.reshape(project.weight.shape), project.weight_scale, project.bias
    )
    sizes = LayerSizes(SUBSAMPLING, layer.bins, project.weight.size(0), hidden=channels)
    return sizes, [
        _vector(first.weight.reshape(channels, 9).t()),
        _vector(first.bias),
        *matrix_parts([second.window]),
        *matrix_parts([projection], bins),
    ]


def attention_parts(
    layer: PositionAttention | PlainAttention,
) -> tuple[LayerSizes, list[Part]]:
    """u and v; queries, keys and values as one matrix; positions; the output. Of attention without
    positions of its own, all that has to do with them is zero."""
    dim = layer.linear_q.weight.shape[1]
    if isinstance(layer, PositionAttention):
        u, v, positions = layer.pos_bias_u, layer.pos_bias_v, layer.linear_pos
    else:
        u = v = torch.zeros(dim)
        nothing = torch.zeros(dim, dim, dtype=torch.int8)
        positions = QuantLinear(nothing, torch.ones(dim), torch.zeros(dim))
    return LayerSizes(ATTENTION, dim, dim, heads=layer.heads), [
        _vector(u),
        _vector(v),
        *matrix_parts([layer.linear_q, layer.linear_k, layer.linear_v]),
        *matrix_parts([positions]),
        *matrix_parts([layer.linear_out]),
    ]


def convolution_parts(layer: CausalConvolution) -> tuple[LayerSizes, list[Part]]:
    """The depthwise convolution, its norm, what stands for nothing, two pointwise matrices."""
    depthwise, norm = layer.depthwise_conv, layer.norm
    dim, kernel = depthwise.out_channels, depthwise.kernel_size[0]
    rest = F.glu(layer.pointwise_conv1.bias, dim=0)
    if isinstance(norm, nn.LayerNorm):
        scale, shift, flags = norm.weight, norm.bias, INNER_LAYER_NORM
    else:
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift, flags = norm.bias - norm.running_mean * scale, 0
    activation = ACTIVATIONS[type(layer.activation)]
    sizes = LayerSizes(CONVOLUTION, dim, dim, activation, kernel=kernel, flags=flags)
    return sizes, [
        _vector(depthwise.weight.reshape(dim, kernel).t()),
        *map(_vector, (depthwise.bias, scale, shift, rest if kernel > 1 else torch.zeros(dim))),
        *matrix_parts([layer.pointwise_conv1]),
        *matrix_parts([layer.pointwise_conv2]),
    ]


PARTS = {
    QuantLinear: linear_parts,
    FeedForward: feed_forward_parts,
    MoeFeedForward: feed_forward_parts,
    Subsampling: subsampling_parts,
    PositionAttention: attention_parts,
    PlainAttention: attention_parts,
    CausalConvolution: convolution_parts,
}


def is_native_subsampling(layer: nn.Module) -> bool:
    """Whether the operator computes it: two-dimensional subsampling by 4."""
    return hasattr(layer, "out")


def matrix_parts(layers: Sequence[nn.Module], bins: int = 1) -> list[Part]:
    """Scales, sums, biases and panels of linear layers over the same rows, as one matrix."""
    scale, total, bias, weight = (
        tuple(getattr(layer, name).detach().numpy() for layer in layers)
        for name in ("weight_scale", "weight_sum", "bias", "weight")
    )
    return [Channels(scale), Channels(total), Channels(bias), Panels(weight, bins)]


def panels8(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """int8 (O, I) to panels (O / 32, I / 4, 32, 4), padded with zeros."""
    rows, columns = weight.shape
    padded = np.pad(weight, ((0, -rows % PANEL), (0, -columns % DEPTH_MULTIPLE)))
    return np.ascontiguousarray(
        padded.reshape(len(padded) // PANEL, PANEL, -1, 4).transpose(0, 2, 1, 3)
    )


def matrix_parts4(layer: QuantLinear4) -> list[Part]:
    """The same of a layer with int4 weights, whose scales lie in its panels."""
    scale = layer.weight_scale.view(torch.int16).numpy()
    total, bias = layer.scaled_sum.numpy(), layer.bias.numpy()
    return [
        *(Channels((values,)) for values in (np.zeros_like(total), total, bias)),
        Plain(panels4(layer.weight.numpy(), scale, layer.group).tobytes()),
    ]


def panels4(
    weight: npt.NDArray[np.int8], scale: npt.NDArray[np.int16], group: int
) -> npt.NDArray[np.uint8]:
    """int4 (O, I) and the bits of bfloat16 scales (O, G) to panels (O / 32, G, bytes), padded
    with zeros; a group is its scales, then [group / 4][16][4] bytes."""
    rows, columns = weight.shape
    padded = np.pad(weight, ((0, -rows % PANEL), (0, -columns % group)))
    scales = np.pad(scale, ((0, -rows % PANEL), (0, 0)))
    count, groups = len(padded) // PANEL, scales.shape[1]
    half = PANEL // 2
    nibbles = (padded + 8).astype(np.uint8).reshape(count, 2, half, groups, group // 4, 4)
    both = (nibbles[:, 0] | nibbles[:, 1] << 4).transpose(0, 2, 3, 1, 4)
    first = np.ascontiguousarray(scales.reshape(count, PANEL, groups).transpose(0, 2, 1))
    return np.concatenate([first.view(np.uint8), both.reshape(count, groups, -1)], axis=2)


def _vector(values: Tensor) -> Plain:
    return Plain(values.detach().float().contiguous().numpy().tobytes())


def _channels(values: npt.NDArray[np.generic]) -> bytes:
    """One number for each output channel, padded to whole panels."""
    return np.pad(values, (0, -len(values) % PANEL)).tobytes()


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
