"""The file of weights that native programs share; its format is in edge_asr/native/src/weights.h.

Only what the kernels compute with is in it: linear layers and feed-forward layers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from model.feed_forward import FeedForward, MoeFeedForward
from quant.linear import QuantLinear

MAGIC = b"EDGEASRW"
VERSION = 1
ALIGNMENT = 64
PANEL = 32  # output channels
DEPTH_MULTIPLE = 8  # input channels are padded to it
LINEAR, FEED_FORWARD = 1, 2
ACTIVATIONS: dict[type[nn.Module], int] = {nn.Identity: 0, nn.ReLU: 1, nn.SiLU: 2}


@dataclass(frozen=True)
class LayerSizes:
    """The numbers of a layer's header."""

    kind: int
    activation: int
    dim_in: int
    hidden: int
    dim_out: int
    experts: int
    top_k: int
    bits: int
    group: int


class WeightsWriter:
    """Collects layers; each gets the number that its operator names."""

    def __init__(self) -> None:
        self._headers: list[LayerSizes] = []
        self._data: list[bytes] = []

    def add(self, layer: nn.Module) -> int:
        """The number of the layer: a QuantLinear, FeedForward or MoeFeedForward of them."""
        header, parts = layer_parts(layer)
        self._headers.append(header)
        self._data.append(b"".join(map(_aligned, parts)))
        return len(self._headers) - 1

    def finish(self) -> bytes:
        """The file."""
        table = 64 + 128 * len(self._headers)
        offset = table + -table % ALIGNMENT
        total = offset + sum(map(len, self._data))
        parts = [struct.pack("<8sIIQ40x", MAGIC, VERSION, len(self._headers), total)]
        for sizes, data in zip(self._headers, self._data, strict=True):
            parts.append(
                struct.pack(
                    "<10IQQ72x",
                    sizes.kind, sizes.activation, sizes.dim_in, sizes.hidden, sizes.dim_out,
                    sizes.experts, sizes.top_k, sizes.bits, sizes.group, 0, offset, len(data),
                )  # fmt: skip
            )
            offset += len(data)
        return _aligned(b"".join(parts)) + b"".join(self._data)


def layer_parts(layer: nn.Module) -> tuple[LayerSizes, list[bytes]]:
    """The header of a layer, and its data in the order of the file."""
    if isinstance(layer, QuantLinear):
        out, dim = layer.weight.shape
        return LayerSizes(LINEAR, 0, dim, 0, out, 0, 0, 8, 0), matrix_parts(layer)
    parts: list[bytes] = []
    if isinstance(layer, MoeFeedForward):
        experts = [expert for expert in layer.experts if isinstance(expert, FeedForward)]
        top_k = layer.n_expert_activated
        parts.append(layer.gate.weight.detach().float().numpy().tobytes())
        count = len(experts)
    else:
        assert isinstance(layer, FeedForward)
        experts, top_k, count = [layer], 0, 0
    for expert in experts:
        assert isinstance(expert.w_1, QuantLinear) and isinstance(expert.w_2, QuantLinear)
        parts += matrix_parts(expert.w_1) + matrix_parts(expert.w_2)
    hidden, dim = experts[0].w_1.weight.shape
    out = experts[0].w_2.weight.shape[0]
    activation = ACTIVATIONS[type(experts[0].activation)]
    sizes = LayerSizes(
        FEED_FORWARD, activation, int(dim), int(hidden), int(out), count, top_k, 8, 0
    )
    return sizes, parts


def matrix_parts(layer: QuantLinear) -> list[bytes]:
    """Scales, sums, biases and panels of one matrix."""
    weight = layer.weight.numpy()
    return [
        _channels(layer.weight_scale.numpy()),
        _channels(layer.weight_sum.numpy()),
        _channels(layer.bias.numpy()),
        panels8(weight).tobytes(),
    ]


def panels8(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """int8 (O, I) to panels (O / 32, I / 4, 32, 4), padded with zeros."""
    rows, columns = weight.shape
    padded = np.pad(weight, ((0, -rows % PANEL), (0, -columns % DEPTH_MULTIPLE)))
    return np.ascontiguousarray(
        padded.reshape(len(padded) // PANEL, PANEL, -1, 4).transpose(0, 2, 1, 3)
    )


def _channels(values: npt.NDArray[np.generic]) -> bytes:
    """One number for each output channel, padded to whole panels."""
    return np.pad(values, (0, -len(values) % PANEL)).tobytes()


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
