"""Prove a decoder program equal to the eager decoders, or refuse it.

Every program scores the same hypotheses over the same speech as the eager network of the same
precision, which scores them one by one, unpadded: what the encoder's best path says in each clip,
nothing, a single unit, and what a search might have found instead, alone and ten at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from edge_asr.backends import Decoder, DecoderScores, FloatArray, IntArray
from edge_asr.package.manifest import BackendName, DecoderSpec, EncoderSpec, Precision
from edge_asr.search.greedy import greedy
from export.eager import EagerDecoder
from export.parity import GOLDEN_SAFETY, ROUNDING_SHARE, Bounds, Parity, ParityError, refuse
from export.speech import Speech
from model.network import Network

N_BEST = 10


# What a program may differ by, on the log-probability of a unit, and on the hypothesis that scores
# best among ten. float32 programs differ by rounding only (5e-6 at most in the packages made so
# far). A quantized program computes with the eager network's integers, and differs where a last bit
# moves one (0.01 at most so far, as eager torch does if its input moves by 1e-6) or a router to its
# next choice.
DECODER_BOUNDS: dict[Precision, Bounds] = {
    "fp32": Bounds(max_abs=1e-3, mean_abs=1e-4, agreement=1.0),
    "int8": Bounds(max_abs=1.0, mean_abs=0.01, agreement=0.9),
    "int4": Bounds(max_abs=1.0, mean_abs=0.01, agreement=0.9),
}


class Segment(NamedTuple):
    """Hypotheses (N, U) over encoder_out (1, T', D), and what the eager network says of them."""

    hyps: IntArray
    hyp_lengths: IntArray
    encoder_out: FloatArray
    scores: DecoderScores


@dataclass(frozen=True)
class DecoderReference:
    """What every decoder program of one precision is compared with."""

    segments: list[Segment]
    rounding_mean_abs: float  # what rounding activations changes; 0 for fp32
    rounding_max_abs: float

    @property
    def golden(self) -> Segment:
        """The segment that travels with the package: ten hypotheses of the first clip."""
        return next(segment for segment in self.segments if len(segment.hyps) == N_BEST)

    def allowed_mean_abs(self, precision: Precision) -> float:
        """The bound on a program's mean error: ``DECODER_BOUNDS``, and what noise explains."""
        noise = max(ROUNDING_SHARE * self.rounding_mean_abs, DECODER_BOUNDS["fp32"].mean_abs)
        return min(DECODER_BOUNDS[precision].mean_abs, noise)


def decoder_reference(
    network: Network, speech: Speech, encoder: EncoderSpec, spec: DecoderSpec
) -> DecoderReference:
    """Score hypotheses of every clip with the eager network."""
    eager, smooth = EagerDecoder(network), EagerDecoder(network, float_activations=True)
    rng = np.random.default_rng(0)
    segments, moved = [], []
    for feats in speech.features:
        memory, said = _read(network, feats, encoder)
        memory, said = memory[:, : spec.max_frames], said[: spec.max_units // 2]
        lists = [[said], alternatives(said, encoder.vocab_size, rng)]
        lists += [[[]], [said[:1]]]
        for hypotheses in lists:
            hyps, lengths = padded(hypotheses, encoder.vocab_size, rng)
            scores = eager.score(hyps, lengths, memory)
            segments.append(Segment(hyps, lengths, memory, scores))
            moved.append(errors(smooth.score(hyps, lengths, memory), segments[-1]))
    joined = np.concatenate(moved)
    return DecoderReference(segments, float(joined.mean()), float(joined.max()))


def alternatives(said: list[int], vocab_size: int, rng: np.random.Generator) -> list[list[int]]:
    """Ten different hypotheses around what was said, an empty one and one of one unit among them.

    Vocabularies of two units and more have enough.
    """

    def random(length: int) -> list[int]:
        return [int(unit) for unit in rng.integers(0, vocab_size, length)]

    found = [said, [], said[:1] or random(1), said[:-1], said + random(1), said + said]
    if said:
        where = int(rng.integers(len(said)))
        found += [said[:where] + random(1) + said[where + 1 :], said[:where] + said[where + 1 :]]
    different = list(dict.fromkeys(map(tuple, found)))
    while len(different) < N_BEST:
        different = list(dict.fromkeys([*different, tuple(random(int(rng.integers(1, 40))))]))
    return [list(hypothesis) for hypothesis in different[:N_BEST]]


def padded(
    hypotheses: list[list[int]], vocab_size: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Hypotheses as (N, U) with anything behind their ends, and their lengths (N,)."""
    lengths = np.array([len(hypothesis) for hypothesis in hypotheses], np.int64)
    hyps = rng.integers(0, vocab_size, (len(hypotheses), max(1, int(lengths.max()))))
    for row, hypothesis in zip(hyps, hypotheses, strict=True):
        row[: len(hypothesis)] = hypothesis
    return hyps, lengths


def errors(found: DecoderScores, segment: Segment) -> FloatArray:
    """Errors of all log-probabilities of a segment, both directions.

    Raises:
        ParityError: another shape, or a place behind eos that is not zero.
    """
    places = np.arange(segment.hyps.shape[1] + 1)
    scored = places <= segment.hyp_lengths[:, None]
    parts = []
    for side in ("left", "right"):
        ours, theirs = getattr(found, side), getattr(segment.scores, side)
        if ours.shape != theirs.shape or np.any(ours[~scored]):
            raise ParityError(f"{side}_scores are not {theirs.shape} with zeros behind eos")
        parts.append(np.abs(ours - theirs)[scored])
    return np.concatenate(parts)


def verify_decoder(
    decoder: Decoder,
    expected: DecoderReference,
    spec: DecoderSpec,
    label: tuple[BackendName, Precision],
) -> Parity:
    """Compare a loaded program with the eager network of the same precision.

    Raises:
        ParityError: a difference outside ``DECODER_BOUNDS``, or more than noise explains.
    """
    backend, precision = label
    program = f"{backend} {precision} decoder"
    scored = [(decoder.score(s.hyps, s.hyp_lengths, s.encoder_out), s) for s in expected.segments]
    try:
        moved = np.concatenate([errors(scores, segment) for scores, segment in scored])
    except ParityError as error:
        raise ParityError(f"{program}: {error}") from error
    choices = [
        (_best(scores, spec), _best(segment.scores, spec))
        for scores, segment in scored
        if len(segment.hyps) > 1
    ]
    max_abs, floor = float(moved.max()), DECODER_BOUNDS["fp32"]
    parity = Parity(
        backend=backend,
        precision=precision,
        amounts={
            "segments": len(expected.segments),
            "hypotheses": sum(len(segment.hyps) for segment in expected.segments),
        },
        max_abs=max_abs,
        mean_abs=float(moved.mean()),
        allowed_mean_abs=expected.allowed_mean_abs(precision),
        results="choices",
        compared=len(choices),
        equal=sum(ours == theirs for ours, theirs in choices),
        # Another processor may round as differently as not rounding at all would be.
        golden_max_abs=max(floor.max_abs, GOLDEN_SAFETY * max(max_abs, expected.rounding_max_abs)),
        golden_mean_abs=max(floor.mean_abs, GOLDEN_SAFETY * expected.rounding_mean_abs),
    )
    refuse(parity, DECODER_BOUNDS[precision], program)
    return parity


def decoder_bounds() -> dict[str, Any]:
    """What parity.json says of decoders beyond the programs."""
    rows = {precision: bounds.row("choice") for precision, bounds in DECODER_BOUNDS.items()}
    return {"decoder_bounds": rows}


def _best(scores: DecoderScores, spec: DecoderSpec) -> int:
    """Index of the hypothesis that the two decoders find most probable."""
    reverse = spec.reverse_weight
    return int(((1 - reverse) * scores.left.sum(1) + reverse * scores.right.sum(1)).argmax())


@torch.inference_mode()
def _read(network: Network, feats: FloatArray, spec: EncoderSpec) -> tuple[FloatArray, list[int]]:
    """encoder_out (1, T', D) of a clip's features (T, F), as in a stream, and its best path."""
    tensor = torch.from_numpy(np.ascontiguousarray(feats[None]))
    lengths = torch.tensor([tensor.size(1)])
    encoder_out, _ = network.whole(tensor, lengths, spec.default_chunk, spec.left_context)
    log_probs = network.ctc(encoder_out)[0].numpy()
    said = [token.id for token in greedy(log_probs, network.conf.blank)]
    memory: FloatArray = encoder_out.numpy()
    return memory, said
