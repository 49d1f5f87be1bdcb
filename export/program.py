"""The programs that every backend gets: the same inputs, outputs and state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from edge_asr.manifest import EncoderSpec, Role, TensorSpec
from model.encoder import EncoderState
from model.network import Network

STATE_NAMES = EncoderState._fields

AnyProgram = TypeVar("AnyProgram", bound=nn.Module)


@dataclass(frozen=True)
class Interface:
    """What a lowering must know of a program beside the module itself.

    ``varying`` names the axes whose size is open, tensor by tensor; axes of one letter have one
    size. ``largest`` bounds the letters of the inputs, for a backend that reserves memory.
    """

    role: Role
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    varying: Mapping[str, Mapping[int, str]]
    largest: Mapping[str, int]
    example: tuple[Tensor, ...]  # inputs to trace with


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


def encoder_interface(network: Network, spec: EncoderSpec) -> Interface:
    """Names, open sizes and an example: a chunk in the middle of a stream."""
    generator = torch.Generator().manual_seed(0)
    frames = spec.input_frames(spec.default_chunk)
    feats = torch.randn(1, frames, network.conf.input_dim, generator=generator) + 10
    state = network.encoder.zero_state(spec.left_context)
    return Interface(
        role="encoder",
        inputs=("feats", "offset", *STATE_NAMES),
        outputs=("encoder_out", "log_probs", *(f"next_{name}" for name in STATE_NAMES)),
        varying={"feats": {1: "T"}, "encoder_out": {1: "T_out"}, "log_probs": {1: "T_out"}},
        largest={"T": spec.input_frames(spec.max_chunk)},
        example=(feats, torch.tensor([spec.left_context]), *state),
    )


def with_replaced(program: AnyProgram, table: dict[type, Callable[..., nn.Module]]) -> AnyProgram:
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
