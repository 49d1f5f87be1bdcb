"""Tiny programs to put bugs into."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from export.lowerings import lowering
from export.program import (
    DecoderProgram,
    EncoderProgram,
    Interface,
    decoder_interface,
    decoder_spec,
    encoder_interface,
    encoder_spec,
)
from model.checkpoint import save_checkpoint
from model.network import Network
from quant.checkpoint import load_at
from tests.edge_asr.native.weights_file import SILU, Maker, pack_file
from tests.model.networks import SYMBOLS, network, tree

KINDS = (2, 4, 5, 1, 3, 5)


@cache
def tiny_weights(bits: int = 8) -> bytes:
    """A layer of each kind, and a second convolution."""
    group = 0 if bits == 8 else 32
    maker = Maker(np.random.default_rng(0), bits, group)
    experts, _, _ = maker.feed_forward(32, 64, 32, SILU, 4, 2)
    maker = Maker(np.random.default_rng(1), 8, 0)
    convolutions = [maker.convolution(32, 5, True, slot) for slot in (1, 0)]
    blocks = [experts, maker.attention(32, 4, 1), *convolutions]
    blocks = [block.with_residual(0.5, maker.vector(32), maker.vector(32)) for block in blocks]
    linear, subsampling = maker.linear(32, 32)[0], maker.subsampling(16, 8, 32)
    return pack_file([*blocks[:3], linear, subsampling, blocks[3]])


@cache
def tiny_encoder() -> bytes:
    """A portable encoder."""
    made = _network()
    interface = encoder_interface(made, encoder_spec(made, 16, 8, 32))
    return _onnx(EncoderProgram(made), interface)


@cache
def tiny_decoder() -> bytes:
    """A portable decoder of two directions."""
    made = _network()
    return _onnx(DecoderProgram(made), decoder_interface(made, decoder_spec(made)))


@cache
def _network() -> Network:
    """Random, so that no norm and no bias is neutral."""
    with TemporaryDirectory() as folder:
        save_checkpoint(network(), SYMBOLS, tree(), Path(folder), torch.float32)
        (quantized,) = load_at(Path(folder), ["int8"])
    return quantized.network


def _onnx(program: nn.Module, interface: Interface) -> bytes:
    lower, _ = lowering("onnx")
    return lower(program.eval(), interface)
