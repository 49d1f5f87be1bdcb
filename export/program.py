"""The encoder program that every backend gets: the same inputs, outputs and state."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from edge_asr.manifest import EncoderSpec, TensorSpec
from model.encoder import EncoderState
from model.network import Network

STATE_NAMES = EncoderState._fields
INPUTS = ("feats", "offset", *STATE_NAMES)
OUTPUTS = ("encoder_out", "log_probs", *(f"next_{name}" for name in STATE_NAMES))


class EncoderProgram(nn.Module):
    """``(feats (1, T, F), offset (1,), *state) -> (encoder_out, log_probs, *next_state)``."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.ctc = network.ctc

    def forward(
        self, feats: Tensor, offset: Tensor, key: Tensor, value: Tensor, score: Tensor, conv: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        state = EncoderState(key, value, score, conv)
        encoder_out, state = self.encoder.step(feats, offset, state)
        return encoder_out, self.ctc(encoder_out), state.key, state.value, state.score, state.conv


def encoder_spec(
    network: Network, left_context: int, default_chunk: int, max_chunk: int
) -> EncoderSpec:
    """The interface of the program, for the manifest."""
    conf = network.conf
    state = network.encoder.zero_state(left_context)
    return EncoderSpec(
        subsampling_rate=conf.subsampling_rate,
        right_context=conf.right_context,
        left_context=left_context,
        default_chunk=default_chunk,
        min_chunk=1,
        max_chunk=max_chunk,
        encoder_dim=conf.dim,
        vocab_size=conf.vocab_size,
        state=tuple(
            TensorSpec(name=name, shape=tuple(tensor.shape))
            for name, tensor in zip(STATE_NAMES, state, strict=True)
        ),
    )


def example_inputs(network: Network, left_context: int, chunk: int) -> tuple[Tensor, ...]:
    """Inputs of a chunk in the middle of a stream, to trace with."""
    conf = network.conf
    frames = (chunk - 1) * conf.subsampling_rate + conf.right_context + 1
    generator = torch.Generator().manual_seed(0)
    feats = torch.randn(1, frames, conf.input_dim, generator=generator) + 10
    state = network.encoder.zero_state(left_context)
    return (feats, torch.tensor([left_context]), *state)


def with_replaced(
    program: EncoderProgram, table: dict[type, Callable[..., nn.Module]]
) -> EncoderProgram:
    """A copy of the program with every module of the table's types lowered.

    ``table`` maps a module type to a function from such a module to its lowering.
    """
    program = deepcopy(program)
    replacements = [
        (name, table[type(module)](module))
        for name, module in program.named_modules()
        if type(module) in table
    ]
    # Outer modules first: a lowered expert layer takes its linear layers along.
    done: list[str] = []
    for name, module in replacements:
        if not any(name.startswith(outer + ".") for outer in done):
            parent, _, leaf = name.rpartition(".")
            setattr(program.get_submodule(parent), leaf, module)
            done.append(name)
    return program
