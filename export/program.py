"""The programs that every backend gets: the same inputs, outputs and state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_asr.package.manifest import DecoderSpec, EncoderSpec, HideSpec, Role, TensorSpec
from model.attention import Attention, merge_heads, split_heads
from model.decoder import BiDecoder, Decoder
from model.encoder import EncoderState
from model.network import Network

STATE_NAMES = EncoderState._fields
# Finite, so that zero times it is zero, and XNNPACK's exponential is defined.
MASKED = -1e9
# A frame is seen as much as its score (L, B, H, C) lets it.
HIDE = {"score": HideSpec(axis=3, value=MASKED)}

# The n-best list that WeNet rescores, and 40 s of speech at 40 ms: twice what endpoint rules let a
# segment become. ExecuTorch reserves memory for programs of this size.
MAX_HYPS, MAX_UNITS, MAX_MEMORY_FRAMES = 10, 256, 1024

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


class Scorer(nn.Module):
    """One decoder over one segment: how probable it finds given units, each after those before.

    Keys and values of the cross-attention are computed once for all hypotheses, whose rows attend
    as one batch. Of the log-probabilities only those of the given units leave the module.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, targets: Tensor, memory: Tensor) -> Tensor:
        """tokens (N, U) beginning with sos, the units that follow them (N, U), memory (1, T', D)
        to log-probabilities (N, U)."""
        decoder, dim = self.decoder, memory.size(2)
        places = torch.arange(tokens.size(1))
        x = decoder.embed(tokens)
        # A unit sees only what is before it, so that padding behind the last one needs no mask.
        causal = (places.unsqueeze(1) >= places).reshape(1, 1, tokens.size(1), tokens.size(1))
        for layer in decoder.decoders:
            query = layer.norm1(x)
            x = x + layer.self_attn(query, query, causal)
            rows = layer.norm2(x).reshape(1, -1, dim)
            x = x + _attend_all(layer.src_attn, rows, memory).reshape(x.shape)
            x = x + layer.feed_forward(layer.norm3(x))
        log_probs = F.log_softmax(decoder.output_layer(decoder.after_norm(x)), dim=-1)
        return log_probs.gather(2, targets.unsqueeze(2)).squeeze(2)


def _attend_all(attention: Attention, rows: Tensor, memory: Tensor) -> Tensor:
    """``attention`` of rows (1, R, D) over every frame of memory (1, T', D)."""
    q = split_heads(attention.linear_q(rows), attention.heads)
    k = split_heads(attention.linear_k(memory), attention.heads)
    v = split_heads(attention.linear_v(memory), attention.heads)
    weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)), dim=-1)
    return attention.linear_out(merge_heads(weights @ v))


class DecoderProgram(nn.Module):
    """``(hyps i64 (N, U), hyp_lengths i64 (N,), encoder_out (1, T', D)) -> (left_scores (N, U+1),
    right_scores (N, U+1))``.

    At place i below the length of its hypothesis, ``left_scores`` holds the log-probability of
    unit i after the units before it, ``right_scores`` that of the same unit i after the units
    behind it (both in the order of the text); at the place of the length, both hold that of eos.
    All places beyond are 0, so that the sum of a row is the score of a hypothesis. What ``hyps``
    holds beyond a length does not matter. Without a right decoder ``right_scores`` is 0.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        decoder = network.decoder
        self.left: nn.Module
        self.right: nn.Module | None = None
        if isinstance(decoder, BiDecoder):
            self.left = Scorer(decoder.left_decoder)
            if reads_both_ways(network):
                self.right = Scorer(decoder.right_decoder)
        else:
            assert isinstance(decoder, Decoder)
            self.left = Scorer(decoder)
        self.sos, self.eos = network.conf.sos, network.conf.eos

    def forward(
        self, hyps: Tensor, hyp_lengths: Tensor, encoder_out: Tensor
    ) -> tuple[Tensor, Tensor]:
        units = F.pad(hyps, (0, 1))
        places = torch.arange(units.size(1)).unsqueeze(0)
        lengths = hyp_lengths.unsqueeze(1)
        inside, scored = places < lengths, places <= lengths
        left = self._scores(self.left, units, inside, encoder_out)
        left = left.masked_fill(~scored, 0.0)
        if self.right is None:
            return left, torch.zeros_like(left)
        # Reversing a row and reversing it back are the same; eos stays behind it.
        mirrored = torch.where(inside, lengths - 1 - places, places)
        right = self._scores(self.right, units.gather(1, mirrored), inside, encoder_out)
        return left, right.gather(1, mirrored).masked_fill(~scored, 0.0)

    def _scores(self, scorer: nn.Module, units: Tensor, inside: Tensor, memory: Tensor) -> Tensor:
        """Log-probabilities (N, U+1) of units (N, U+1) with eos in every place not ``inside``."""
        targets = units.masked_fill(~inside, self.eos)
        tokens = F.pad(targets[:, :-1], (1, 0), value=self.sos)
        scores: Tensor = scorer(tokens, targets, memory)
        return scores


def reads_both_ways(network: Network) -> bool:
    """Whether there is a right decoder that was trained."""
    return network.conf.bidirectional and network.conf.reverse_weight > 0


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
            TensorSpec(name=name, shape=tuple(tensor.shape), hide=HIDE.get(name))
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


def decoder_spec(network: Network) -> DecoderSpec:
    """The interface of the program, for the manifest."""
    conf, both = network.conf, reads_both_ways(network)
    return DecoderSpec(
        bidirectional=both,
        ctc_weight=conf.ctc_weight,
        reverse_weight=conf.reverse_weight if both else 0.0,
        max_hyps=MAX_HYPS,
        max_units=MAX_UNITS,
        max_frames=MAX_MEMORY_FRAMES,
    )


def decoder_interface(network: Network, spec: DecoderSpec) -> Interface:
    """Names, open sizes and an example: a few hypotheses of different lengths."""
    generator = torch.Generator().manual_seed(0)
    hyps = torch.randint(network.conf.vocab_size, (3, 5), generator=generator)
    memory = torch.randn(1, 7, network.conf.dim, generator=generator)
    scores = {0: "N", 1: "U_and_eos"}
    return Interface(
        role="decoder",
        inputs=("hyps", "hyp_lengths", "encoder_out"),
        outputs=("left_scores", "right_scores"),
        varying={
            "hyps": {0: "N", 1: "U"},
            "hyp_lengths": {0: "N"},
            "encoder_out": {1: "T_out"},
            "left_scores": scores,
            "right_scores": scores,
        },
        largest={"N": spec.max_hyps, "U": spec.max_units, "T_out": spec.max_frames},
        example=(hyps, torch.tensor([5, 2, 0]), memory),
    )


def with_replaced(program: AnyProgram, table: dict[type, Callable[..., nn.Module]]) -> AnyProgram:
    """A copy of the program with every module of the table's types lowered.

    ``table`` maps a module type to a function from such a module to its lowering.
    """
    program = deepcopy(program)
    # Outer modules first: a lowered expert layer takes its linear layers along.
    done: list[str] = []
    for name, module in list(program.named_modules()):
        if type(module) in table and not any(name.startswith(outer + ".") for outer in done):
            parent, _, leaf = name.rpartition(".")
            setattr(program.get_submodule(parent), leaf, table[type(module)](module))
            done.append(name)
    return program
