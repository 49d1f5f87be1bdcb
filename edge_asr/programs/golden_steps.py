"""Golden steps: single encoder steps that visit every expert, compared layer by layer.

In a long stream a quantized program drifts from another right one: an integer that moves by one
changes all that follows, and hides what is wrong. In a step of one encoder frame from a state of
zeros hardly any integer moves, so that right programs agree to a few last bits in every layer. The
state that a step leaves holds keys, values and past of each layer, and says where a wrong one
begins. A chain of such steps carries the state over, as the exporter's chains all do.

Of each tensor a few random projections are compared: they see every number of it, and are small
enough to travel with the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_asr.backends import Encoder, FloatArray
from edge_asr.backends.state import State, zero_state
from edge_asr.errors import PackageError
from edge_asr.package.manifest import EncoderSpec

PROJECTIONS = 4  # of a tensor
PREFIXES = (4, 24, 96)  # chains: of ``load`` for portable and native programs, and of ``verify``
ARRAYS = ("frames", "expected", "bound", "cap", "experts", "shown")
RESOLUTION = 0.25  # of feature frames in the package, which are bytes
# Of the steps, and of those that visit one expert, how many may differ by an integer that moved.
SHARE = 0.25
# So many of an expert's steps are chance: one in a hundred differs, in any of ten stages.
CHANCE = 2
_SMALLEST = 1e-6  # of a tensor of zeros
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # splitmix64's, the same bits in any version


@dataclass(frozen=True)
class GoldenSteps:
    """N chains of S steps, in G stages: the layers, encoder_out and log_probs.

    Attributes:
        feats: (N, S, T, F) float32.
        expected: projections (N, S, G, K) of what eager torch gives.
        bound: (N, S, G) float32, how far a step that no integer moved may be from that.
        cap: (G,) float32, how far any step may be.
        experts: (N, S, M, k) int64, which each expert layer chooses.
        shown: (M,) int64, the first stage that each expert layer changes.
    """

    feats: FloatArray
    expected: FloatArray
    bound: FloatArray
    cap: FloatArray
    experts: npt.NDArray[np.int64]
    shown: npt.NDArray[np.int64]

    def some(self, chains: slice) -> GoldenSteps:
        """Only those chains."""
        return replace(
            self,
            feats=self.feats[chains],
            expected=self.expected[chains],
            bound=self.bound[chains],
            experts=self.experts[chains],
        )


def sketch(encoder_out: FloatArray, log_probs: FloatArray, state: State) -> FloatArray:
    """Projections (B, G, K) of encoder_out (B, T', D), log_probs (B, T', V) and a state of tensors
    (L, B, ...)."""
    layers = [_project(np.moveaxis(tensor, 1, 0), 2, PROJECTIONS) for tensor in state]
    width = PROJECTIONS * len(state)
    outputs = [_project(array[:, None], 2, width) for array in (encoder_out, log_probs)]
    return np.concatenate([np.concatenate(layers, axis=2), *outputs], axis=1)


def step_places(count: int, spec: EncoderSpec) -> npt.NDArray[np.int64]:
    """Which of ``count`` consecutive feature frames the steps of a chain read, (S, T), each for one
    encoder frame."""
    size, shift = spec.input_frames(1), spec.subsampling_rate
    steps = 1 + (count - size) // shift
    return np.arange(steps)[:, None] * shift + np.arange(size)


def run_chains(encoder: Encoder, feats: FloatArray, spec: EncoderSpec) -> FloatArray:
    """Sketches (N, S, G, K) of what an encoder gives for chains (N, S, T, F), each from a state of
    zeros on."""
    sketches = []
    for chain in feats:
        state: State = zero_state(spec)
        for step, frames in enumerate(chain):
            result = encoder.step(np.ascontiguousarray(frames[None]), step, state)
            state = result.state
            sketches.append(sketch(result.encoder_out, result.log_probs, state)[0])
    return np.stack(sketches).reshape(*feats.shape[:2], *sketches[0].shape)


def deviation(found: FloatArray, expected: FloatArray) -> FloatArray:
    """How far sketches (..., K) are from expected ones, (...,): of the tensor that is farthest,
    relative to its size."""
    shape = (*expected.shape[:-1], -1, PROJECTIONS)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities give NaN, and that is refused
        errors = np.square((found - expected).reshape(shape)).mean(-1)
    sizes = np.square(expected.reshape(shape)).mean(-1)
    farthest: FloatArray = np.sqrt(errors / np.maximum(sizes, _SMALLEST**2)).max(-1)
    return farthest


def complaint(found: FloatArray, golden: GoldenSteps) -> str | None:
    """What is wrong with a program whose deviations (N, S, G) are these, or None.

    The first chains are judged by themselves too, so that who runs more finds what ``load`` does,
    and who exports refuses what ``load`` would.
    """
    ends = [*(end for end in PREFIXES if end < len(found)), len(found)]
    judged = (_complaint(found[:end], golden.some(slice(end))) for end in ends)
    return next(filter(None, judged), None)


def _complaint(found: FloatArray, golden: GoldenSteps) -> str | None:
    """Single steps may differ by integers that moved, but none by more than such can, not many, and
    not those that visit one expert, from the stage on where the expert shows."""
    above = ~(found <= golden.cap)  # so that NaN is refused too
    if above.any():
        stage = int(above.any((0, 1)).argmax())
        worst, cap = float(found[..., stage].max()), golden.cap[stage]
        return f"{_name(stage, golden)} is {worst:.2g} off in a step, allowed {cap:.2g}"
    fits = found <= golden.bound
    clean = _clean_before(fits)
    judged = clean[..., 0]
    wrong = judged & ~fits.all(2)
    if wrong.sum() > SHARE * judged.sum():
        firsts = (~fits[wrong]).argmax(1)
        stage = int(np.bincount(firsts).argmax())
        count = f"{wrong.sum()} of {judged.sum()} steps differ"
        return f"{count}, most from {_name(stage, golden)} on; {SHARE:.0%} may"
    return _wrong_expert(fits, clean, golden)


def _wrong_expert(
    fits: npt.NDArray[np.bool_], clean: npt.NDArray[np.bool_], golden: GoldenSteps
) -> str | None:
    for layer, stage in enumerate(golden.shown):
        chosen = golden.experts[:, :, layer]
        if found := differing_expert(fits[..., stage], clean[..., stage], chosen):
            return found.named(f"expert layer {layer}")
    return None


class DifferingExpert(NamedTuple):
    """An expert, and how many of the rows that visit it differ."""

    expert: int
    wrong: int
    visits: int

    def named(self, layer: str) -> str:
        """In words."""
        count = f"{self.wrong} of {self.visits} steps that visit it differ"
        return f"expert {self.expert} of {layer}: {count}"


def differing_expert(
    fits: npt.NDArray[np.bool_], clean: npt.NDArray[np.bool_], chosen: npt.NDArray[np.int64]
) -> DifferingExpert | None:
    """The first expert of a layer whose visits differ more often than by chance.

    Args:
        fits, clean: (...,) whether a row is right, and whether all before it was.
        chosen: (..., k), the experts that each row visits.
    """
    for expert in np.unique(chosen):
        rows = (chosen == expert).any(-1) & clean
        wrong, count = int((~fits[rows]).sum()), int(rows.sum())
        all_wrong = 1 < wrong == count
        if all_wrong or (wrong > CHANCE and wrong > SHARE * count):
            return DifferingExpert(int(expert), wrong, count)
    return None


def _clean_before(fits: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where (N, S, G) nothing of the chain differed before that stage of the step."""
    chains, steps, stages = fits.shape
    flat = np.logical_and.accumulate(fits.reshape(chains, -1), axis=1)
    before = np.concatenate([np.ones((chains, 1), bool), flat[:, :-1]], axis=1)
    return before.reshape(chains, steps, stages)


def _name(stage: int, golden: GoldenSteps) -> str:
    layers = len(golden.cap) - 2
    return ("encoder_out", "log_probs")[stage - layers] if stage >= layers else f"layer {stage}"


def read_steps(
    arrays: dict[str, npt.NDArray[np.generic]], precision: str, spec: EncoderSpec, where: str
) -> GoldenSteps:
    """The golden steps of a precision, checked against the manifest.

    Raises:
        PackageError: there are none, or they do not fit.
    """
    names = [f"steps_{name}_{precision}" for name in ARRAYS]
    for name in names:
        if name not in arrays:
            raise PackageError(f"{where}: holds no {name!r}; export the package again")
    frames, *others = (arrays[name] for name in names)
    golden = GoldenSteps(_steps(frames, spec), *others)  # type: ignore[arg-type]
    layers = spec.state[0].shape[0] if spec.state else 0
    stages, width = layers + 2, PROJECTIONS * len(spec.state)
    size = golden.feats.shape[:2]
    fitting = (
        min(size) > 0
        and all(a.dtype == np.float32 for a in (golden.expected, golden.bound, golden.cap))
        and golden.expected.shape == (*size, stages, width)
        and golden.bound.shape == (*size, stages)
        and golden.cap.shape == (stages,)
        and golden.experts.ndim == 4
        and golden.experts.shape[:3] == (*size, *golden.shown.shape)
        and bool(((golden.shown >= 0) & (golden.shown < stages)).all())
        and all(np.isfinite(a).all() for a in (golden.expected, golden.bound))
    )
    if not fitting:
        raise PackageError(
            f"{where}: its golden steps do not fit one another or the manifest; export the "
            "package again"
        )
    experts, shown = golden.experts.astype(np.int64), golden.shown.astype(np.int64)
    return replace(golden, experts=experts, shown=shown)


def _steps(frames: npt.NDArray[np.generic], spec: EncoderSpec) -> FloatArray:
    """(N, S, T, F) of the package's bytes (N, T', F); none where they cannot be such."""
    if frames.dtype != np.int8 or frames.ndim != 3 or frames.shape[1] < spec.input_frames(1):
        return np.zeros((0, 0, 0, 0), np.float32)
    chains = frames.astype(np.float32) * np.float32(RESOLUTION)
    return chains[:, step_places(frames.shape[1], spec)]


def check_steps(
    encoder: Encoder, golden: GoldenSteps, spec: EncoderSpec, where: str
) -> Sequence[float]:
    """The largest deviation of each stage (G,).

    Raises:
        PackageError: the program gives something else.
    """
    found = deviation(run_chains(encoder, golden.feats, spec), golden.expected)
    if wrong := complaint(found, golden):
        raise PackageError(
            f"{where}: differs from its golden steps: {wrong}; this library or processor computes "
            "something else: try another backend, or export the package again"
        )
    return [float(value) for value in found.max((0, 1))]


def _project(array: npt.NDArray[np.generic], kept: int, count: int) -> FloatArray:
    """Projections (..., count) of all axes of array (B, L, ...) but the first ``kept``."""
    flat = array.reshape(*array.shape[:kept], -1).astype(np.float32, copy=False)
    projected: FloatArray = flat @ _signs(flat.shape[-1], count)
    return projected


@lru_cache(maxsize=16)
def _signs(size: int, count: int) -> FloatArray:
    """Random signs (size, count), always the same."""
    bits = np.arange(1, size * count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(_MIX[0])
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(_MIX[1])
    signs = np.where(bits >> np.uint64(63), np.float32(1), np.float32(-1))
    return signs.reshape(size, count)
