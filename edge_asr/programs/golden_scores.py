"""Golden scores: short hypotheses that visit every expert of the decoders, compared score by score.

What ``edge_asr.programs.golden_steps`` is for encoders. Over a few frames of encoder_out and for a
few units hardly any integer of a quantized decoder moves, so that right programs give each score to
a few last bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_asr.backends import Decoder, DecoderScores, FloatArray, IntArray
from edge_asr.errors import PackageError
from edge_asr.package.manifest import DecoderSpec
from edge_asr.programs.golden_steps import SHARE, differing_expert

PREFIXES = (4, 24, 48)  # cases: of ``load`` for portable and native programs, and of ``verify``
SHARED = ("memory", "hyps")  # by all precisions
ARRAYS = ("expected", "bound", "cap", "experts", "sides")
SIDES = ("left to right", "right to left")


@dataclass(frozen=True)
class GoldenScores:
    """G cases of N hypotheses of U units, all as long as each other.

    Attributes:
        memory: encoder_out (G, T', D) float32.
        hyps: (G, N, U) int64.
        expected: (G, N, U+1, S) float32, what eager torch gives, in the order in which each side
            reads; S is 1 where there is no decoder from right to left.
        bound: the same shape, how far a score that no integer moved may be from that.
        cap: how far any score may be.
        experts: (G, N, U+1, M, k) int64, which each expert layer chooses.
        sides: (M,) int64, the side that each expert layer is of.
    """

    memory: FloatArray
    hyps: IntArray
    expected: FloatArray
    bound: FloatArray
    cap: float
    experts: IntArray
    sides: IntArray

    def some(self, cases: slice) -> GoldenScores:
        """Only those cases."""
        return replace(
            self,
            memory=self.memory[cases],
            hyps=self.hyps[cases],
            expected=self.expected[cases],
            bound=self.bound[cases],
            experts=self.experts[cases],
        )


def run_cases(decoder: Decoder, golden: GoldenScores) -> FloatArray:
    """Scores (G, N, U+1, S) that a decoder gives, in the order in which each side reads."""
    count, units = golden.hyps.shape[1:]
    lengths = np.full(count, units, np.int64)
    scores = [
        decoder.score(np.ascontiguousarray(hyps), lengths, np.ascontiguousarray(memory[None]))
        for hyps, memory in zip(golden.hyps, golden.memory, strict=True)
    ]
    return np.stack([_as_read(one, golden.expected.shape[3]) for one in scores])


def _as_read(scores: DecoderScores, sides: int) -> FloatArray:
    """(N, U+1, S) of scores (N, U+1), whose right ones are in the order of the text."""
    backwards = np.concatenate([scores.right[:, -2::-1], scores.right[:, -1:]], axis=1)
    return np.stack([scores.left, backwards][:sides], axis=-1)


def complaint(found: FloatArray, golden: GoldenScores) -> str | None:
    """What is wrong with a program that gives these scores (G, N, U+1, S), or None.

    The first cases are judged by themselves too; see ``golden_steps.complaint``.
    """
    if found.shape != golden.expected.shape:
        return f"its scores are {found.shape[1:]}, not {golden.expected.shape[1:]}"
    ends = [*(end for end in PREFIXES if end < len(found)), len(found)]
    judged = (_complaint(found[:end], golden.some(slice(end))) for end in ends)
    return next(filter(None, judged), None)


def _complaint(found: FloatArray, golden: GoldenScores) -> str | None:
    """Single scores may differ by integers that moved, but none by more than such can, not in many
    hypotheses, and not those whose places visit one expert."""
    with np.errstate(invalid="ignore"):  # infinities give NaN, and that is refused
        errors = np.abs(found - golden.expected)
    if not bool((errors <= golden.cap).all()):
        return f"a score is {errors.max():.2g} off, allowed {golden.cap:.2g}"
    fits = errors <= golden.bound
    # A score is judged where all that the same side read before was right.
    before = np.logical_and.accumulate(fits, axis=2)[:, :, :-1]
    clean = np.concatenate([np.ones_like(fits[:, :, :1]), before], axis=2)
    wrong = (clean & ~fits).any(2)
    for side in range(wrong.shape[2]):
        if wrong[..., side].mean() > SHARE:
            count = f"{wrong[..., side].sum()} of {wrong[..., side].size} hypotheses"
            return f"scores of {count} {SIDES[side]} differ; {SHARE:.0%} may"
    for layer, side in enumerate(golden.sides):
        chosen = golden.experts[..., layer, :]
        if found_one := differing_expert(fits[..., side], clean[..., side], chosen):
            return found_one.named(f"expert layer {layer} of the decoders")
    return None


def read_scores(
    arrays: dict[str, npt.NDArray[Any]],
    precision: str,
    spec: DecoderSpec,
    dim: int,
    vocab_size: int,
    where: str,
) -> GoldenScores:
    """The golden scores of a precision, checked against the manifest.

    Args:
        dim: of encoder_out.

    Raises:
        PackageError: there are none, or they do not fit.
    """
    names = [f"short_{name}" for name in SHARED]
    names += [f"short_{name}_{precision}" for name in ARRAYS]
    for name in names:
        if name not in arrays:
            raise PackageError(f"{where}: holds no {name!r}; export the package again")
    memory, hyps, expected, bound, cap, experts, sides = (arrays[name] for name in names)
    golden = GoldenScores(memory, hyps, expected, bound, cap, experts, sides)  # type: ignore[arg-type]
    if not _fits(golden, spec, dim, vocab_size):
        raise PackageError(
            f"{where}: its golden scores do not fit one another or the manifest; export the "
            "package again"
        )
    return replace(
        golden,
        memory=memory.astype(np.float32),
        cap=float(cap),
        experts=experts.astype(np.int64),
        sides=sides.astype(np.int64),
    )


def _fits(golden: GoldenScores, spec: DecoderSpec, dim: int, vocab_size: int) -> bool:
    memory, hyps, expected, bound = golden.memory, golden.hyps, golden.expected, golden.bound
    cap, experts, sides = np.asarray(golden.cap), golden.experts, golden.sides
    cases, count, units = hyps.shape if hyps.ndim == 3 else (0, 0, 0)
    width = 2 if spec.bidirectional else 1
    return (
        memory.ndim == 3
        and memory.dtype == np.float16
        and min(hyps.shape) > 0
        and count <= spec.max_hyps
        and units <= spec.max_units
        and 0 < memory.shape[1] <= spec.max_frames
        and (memory.shape[0], memory.shape[2]) == (cases, dim)
        and hyps.dtype == np.int64
        and bool(((hyps >= 0) & (hyps < vocab_size)).all())
        and expected.dtype == bound.dtype == cap.dtype == np.float32
        and expected.shape == bound.shape == (cases, count, units + 1, width)
        and cap.shape == ()
        and sides.ndim == 1
        and bool(((sides >= 0) & (sides < width)).all())
        and experts.ndim == 5
        and experts.shape[:4] == (cases, count, units + 1, len(sides))
        and all(bool(np.isfinite(a).all()) for a in (memory, expected, bound, cap))
    )


def check_scores(decoder: Decoder, golden: GoldenScores, where: str) -> None:
    """Score the cases and compare.

    Raises:
        PackageError: the program gives something else.
    """
    if wrong := complaint(run_cases(decoder, golden), golden):
        raise PackageError(
            f"{where}: differs from its golden scores: {wrong}; this library or processor computes "
            "something else: try another backend, or export the package again"
        )
