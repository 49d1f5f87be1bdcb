"""Layers as the native kernels hold them."""

from __future__ import annotations

import itertools

from torch import nn

from edge_asr.native.library import NativeWeights
from export.native_weights import Residual, WeightsWriter

_numbers = itertools.count(1 << 50)


def load_layer(layer: nn.Module, residual: Residual | None = None) -> NativeWeights:
    """A layer in a file of weights of its own, loaded."""
    writer = WeightsWriter()
    assert writer.add(layer, residual) == 0
    file = writer.finish().data

    def read(memory: memoryview) -> None:
        memory[:] = file

    return NativeWeights(next(_numbers), len(file), read)
