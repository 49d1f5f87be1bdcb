"""The least time that a call can take on this machine, computed from the network's sizes.

A call is cut into parts that follow one another: a feed-forward layer, an attention layer, ... No
part can be faster than reading its weights once from memory, nor than its multiply-adds at the
int8 peak. The floor is the sum over parts of the larger of the two. (Were the next part's weights
read while one part multiplies, only the totals would count: ``overlapped_floor_s``.)

    linear layer of I inputs and O outputs on n rows
        multiply-adds  n I O
        bytes          I O at int8, I O / 2 + 2 I O / group at int4 (bfloat16 scales),
                       4 O for float32 scales (int8) and 4 O for biases
    mixture of E experts, top k, on n rows, touching m of them
        multiply-adds  n E D (router) + k n 2 D H        bytes  4 E D + m experts
    attention of n frames over S keys, D wide
        four linear layers, one more for the positions of the n new keys, a scalar of each
        (2 n D), and 2 n S D
    convolution module of kernel K
        linear D -> 2D, n K D, linear D -> D
    subsampling by conv2d of T features with F bins to n frames: two convolutions and a linear layer

Everything is counted at the int8 peak, also what programs compute in float32 (routers, scores,
the depthwise convolution): a floor may be too low. It is of the plain product: a convolution by
Winograd's algorithm could do with fewer. The weights are taken to be
cold, so a model that fits into the caches can be faster than its floor. Activations, states and
norms are not counted; at the sizes of the paper they are under 2 % of the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.limits import Limits
from model.config import FeedForwardConfig, NetworkConfig

ROUTING = "routing.json"  # next to a checkpoint; see benchmark.paper.routing
FACTS = "model.json"  # how many parameters
_FLOAT = 4
_BFLOAT16 = 2


@dataclass(frozen=True)
class Part:
    """One step of a call: what it multiplies, and what it must read for that."""

    name: str
    macs: float
    weight_bytes: float

    def floor_s(self, limits: Limits) -> float:
        """The larger of the time to read and the time to multiply."""
        return max(self.weight_bytes / limits.read_bytes_per_s, self.macs / limits.int8_macs_per_s)


@dataclass(frozen=True)
class Weights:
    """How weights are stored. ``group`` is of int4: inputs that share a scale."""

    expert_bits: int = 8  # or 4
    group: int = 32

    def __post_init__(self) -> None:
        if self.expert_bits not in (4, 8) or self.group not in (32, 64, 128):
            raise ValueError(f"no such weights: {self.expert_bits} bits in groups of {self.group}")

    def linear_bytes(self, inputs: int, outputs: int, bits: int = 8, bias: bool = True) -> float:
        """Bytes of a linear layer's weight, scales and bias."""
        size = inputs * outputs * bits / 8
        scales = outputs * _FLOAT if bits == 8 else inputs * outputs / self.group * _BFLOAT16
        return size + scales + (outputs * _FLOAT if bias else 0)


@dataclass(frozen=True)
class Routing:
    """Experts per frame and experts touched per call.

    ``touched`` names layers as the network does and may leave some out: for those, and where it
    is empty, every frame is taken to choose independently and evenly.
    """

    per_frame: float | None = None  # None: as trained
    touched: Mapping[str, float] = field(default_factory=dict)
    at_most: int | None = None  # in one call
    everywhere: float | None = None  # touched in each layer, where only their mean is known

    def experts(self, conf: FeedForwardConfig) -> float:
        """Experts of one frame."""
        return conf.n_expert_activated if self.per_frame is None else self.per_frame

    def touched_in(self, name: str, conf: FeedForwardConfig, rows: int) -> float:
        """Experts that a call of ``rows`` frames touches in a layer."""
        if self.everywhere is not None:
            return self.everywhere
        even = evenly_touched(conf.n_expert, self.experts(conf), rows)
        touched = self.touched.get(name, even)
        return touched if self.at_most is None else min(touched, self.at_most)


def read_routing(folder: Path) -> dict[str, dict[str, list[int]]]:
    """What ``benchmark.paper.routing`` measured for a checkpoint; empty for a dense model."""
    path = folder / ROUTING
    if not path.is_file():
        return {}
    measured: dict[str, dict[str, list[int]]] = json.loads(path.read_text(encoding="utf-8"))
    return measured


def evenly_touched(experts: int, per_frame: float, rows: int) -> float:
    """Distinct experts of ``rows`` frames that choose independently and evenly."""
    return experts * (1 - (1 - per_frame / experts) ** rows)


def encoder_parts(
    conf: NetworkConfig, frames: int, left: int, weights: Weights, routing: Routing
) -> list[Part]:
    """A call of ``frames`` encoder frames after ``left`` cached ones, CTC head included.

    Raises:
        ValueError: subsampling other than conv2d.
    """
    dim, keys = conf.dim, frames + left
    parts = _subsampling(conf, frames, weights)
    for index in range(conf.blocks):
        block = f"encoder.encoders.{index}"
        half = _feed_forward(f"{block}.feed_forward_macaron", conf.feed_forward, dim, frames,
                             weights, routing)  # fmt: skip
        square = weights.linear_bytes(dim, dim)
        attention = Part(
            f"{block}.self_attn",
            frames * dim * (5 * dim + 2 * keys + 2),
            4 * square + weights.linear_bytes(dim, dim, bias=False) + 2 * dim * _FLOAT,
        )
        convolution = Part(
            f"{block}.conv_module",
            frames * dim * (3 * dim + conf.kernel),
            weights.linear_bytes(dim, 2 * dim) + square + dim * (conf.kernel + 1) * _FLOAT,
        )
        other = _feed_forward(f"{block}.feed_forward", conf.feed_forward, dim, frames,
                              weights, routing)  # fmt: skip
        parts += [half, attention, convolution, other]
    vocabulary = weights.linear_bytes(dim, conf.vocab_size)
    return [*parts, Part("ctc", frames * dim * conf.vocab_size, vocabulary)]


def decoder_parts(
    conf: NetworkConfig,
    hypotheses: int,
    units: int,
    memory: int,
    weights: Weights,
    routing: Routing,
) -> list[Part]:
    """The second pass: ``hypotheses`` of ``units`` units, each after a sos, over ``memory``
    encoder frames whose keys and values are computed once; both directions."""
    dim, length = conf.dim, units + 1
    rows = hypotheses * length
    stacks = [
        ("left_decoder.", conf.decoder_blocks),
        ("right_decoder.", conf.reverse_decoder_blocks),
    ]
    if not conf.bidirectional:
        stacks = [("", conf.decoder_blocks)]
    parts = []
    for stack, blocks in stacks:
        for index in range(blocks):
            block = f"decoder.{stack}decoders.{index}"
            square = 4 * weights.linear_bytes(dim, dim)
            causal = hypotheses * length * (length + 1) / 2  # pairs of a token and what it sees
            parts += [
                Part(f"{block}.self_attn", 4 * rows * dim * dim + 2 * causal * dim, square),
                Part(
                    f"{block}.src_attn",
                    2 * rows * dim * dim + 2 * memory * dim * dim + 2 * rows * memory * dim,
                    square,
                ),
                _feed_forward(f"{block}.feed_forward", conf.decoder_feed_forward, dim, rows,
                              weights, routing),
            ]  # fmt: skip
        head = weights.linear_bytes(dim, conf.vocab_size)
        parts.append(Part(f"decoder.{stack}output_layer", rows * dim * conf.vocab_size, head))
    return parts


def stored_bytes(conf: NetworkConfig, weights: Weights, decoders: bool) -> float:
    """Bytes of all weights, each expert included."""
    many = 1000  # frames, of which every expert gets some
    parts = encoder_parts(conf, many, 0, weights, Routing())
    if decoders:
        parts += decoder_parts(conf, many, 1, 1, weights, Routing())
    return total(parts).weight_bytes


def floor_s(parts: Sequence[Part], limits: Limits) -> float:
    """The sum of the parts' floors."""
    return sum(part.floor_s(limits) for part in parts)


def overlapped_floor_s(parts: Sequence[Part], limits: Limits) -> float:
    """The floor of all parts as one."""
    return total(parts).floor_s(limits)


def total(parts: Sequence[Part]) -> Part:
    """All multiply-adds and bytes of a call."""
    return Part("total", sum(p.macs for p in parts), sum(p.weight_bytes for p in parts))


def by_kind(parts: Sequence[Part]) -> dict[str, Part]:
    """The parts of all blocks together: "feed_forward", "self_attn", ..."""
    kinds: dict[str, list[Part]] = {}
    for part in parts:
        kind = part.name.rpartition(".")[2].removesuffix("_macaron")
        kinds.setdefault(kind, []).append(part)
    return {kind: Part(kind, total(same).macs, total(same).weight_bytes)
            for kind, same in kinds.items()}  # fmt: skip


def _feed_forward(
    name: str, conf: FeedForwardConfig, dim: int, rows: int, weights: Weights, routing: Routing
) -> Part:
    macs_of_one = 2 * dim * conf.hidden
    if not conf.n_expert:
        size = weights.linear_bytes(dim, conf.hidden) + weights.linear_bytes(conf.hidden, dim)
        return Part(name, rows * macs_of_one, size)
    bits = weights.expert_bits
    one = weights.linear_bytes(dim, conf.hidden, bits) + weights.linear_bytes(
        conf.hidden, dim, bits
    )
    router = conf.n_expert * dim
    return Part(
        name,
        rows * (router + routing.experts(conf) * macs_of_one),
        router * _FLOAT + routing.touched_in(name, conf, rows) * one,
    )


def _subsampling(conf: NetworkConfig, frames: int, weights: Weights) -> list[Part]:
    if conf.input_layer != "conv2d":
        raise ValueError(f"floors are known for conv2d, not for {conf.input_layer}")
    dim = conf.dim
    features = (frames - 1) * conf.subsampling_rate + conf.right_context + 1
    times, bins = (features - 3) // 2 + 1, (conf.input_dim - 3) // 2 + 1
    last_bins = (bins - 3) // 2 + 1
    return [
        Part("subsampling.conv", times * bins * 9 * dim, 10 * dim * _FLOAT),
        Part("subsampling.conv", frames * last_bins * 9 * dim * dim,
             weights.linear_bytes(9 * dim, dim)),
        Part("subsampling.out", frames * last_bins * dim * dim,
             weights.linear_bytes(last_bins * dim, dim)),
    ]  # fmt: skip
