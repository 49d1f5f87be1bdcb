"""Has a change any effect? What no judge refuses is compared with the right program on speech that
none of them has heard, step by step from the right program's state.

* Equal to the last bit in every step: the change is none, as that of padding.
* No farther away than another right program is, in the median step and in nine of ten: the change
  is smaller than rounding, and who refused it would refuse right programs.
* All else is a bug that was missed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_asr.audio.features import Frames, fbank
from edge_asr.audio.windows import Step
from edge_asr.backends import Decoder, DecoderScores, Encoder, EncoderStep, FloatArray, IntArray
from edge_asr.backends.state import State
from edge_asr.package.manifest import EncoderSpec, FeatureSpec
from edge_asr.programs.golden_steps import deviation, sketch
from edge_asr.programs.streaming import cut, stream
from export.verify_decoder import padded

QUANTILES = (0.5, 0.9)


class Effect(NamedTuple):
    """What a change does, and how many times as far it goes as another right program."""

    name: Literal["none", "rounding", "missed"]
    times: float = 0.0


def unheard(clips: Sequence[npt.NDArray[np.float32]], spec: FeatureSpec, seed: int) -> Frames:
    """Features (T, F) of clips (N,) that were played at other speeds, louder or softer, with
    noise."""
    rng = np.random.default_rng(seed)
    played = []
    for index in rng.permutation(len(clips)):
        clip, speed = clips[int(index)], rng.uniform(0.8, 1.25)
        places = np.arange(0, len(clip) - 1, speed)
        slower = np.interp(places, np.arange(len(clip)), clip) * rng.uniform(0.3, 2.0)
        noise = rng.standard_normal(len(slower)) * 10 ** rng.uniform(-4, -2)
        played.append(np.clip(slower + noise, -1, 1))
    return fbank(np.concatenate(played).astype(np.float32), spec)


@dataclass(frozen=True)
class HeardStep:
    """A step of the right encoder."""

    step: Step
    offset: int
    state: State
    result: EncoderStep


class EncoderEffect:
    """Of changes of an encoder."""

    def __init__(
        self, right: Encoder, other: Encoder, frames: Frames, spec: EncoderSpec, count: int
    ) -> None:
        """``other`` is right too; ``count`` single frames of speech are heard, and all of it in
        the usual chunks."""
        steps = cut(frames, spec, 1)[:count]
        self.single = list(_heard(right, steps, spec))
        self.chunks = list(_heard(right, cut(frames, spec), spec))
        self.others = self._deviations(other, self.single)

    def of(self, encoder: Encoder) -> Effect:
        """What a changed encoder does."""
        found = self._deviations(encoder, self.single)
        chunks = self._deviations(encoder, self.chunks)
        if not found.any() and not chunks.any():
            return Effect("none")
        return judged(found, self.others) if found.any() else Effect("missed")

    def _deviations(self, encoder: Encoder, steps: Sequence[HeardStep]) -> FloatArray:
        """The largest deviation of each step (N,); 0 where it is equal to the last bit."""
        found = np.zeros(len(steps), np.float32)
        for index, heard in enumerate(steps):
            result = encoder.step(heard.step.feats, heard.offset, heard.state)
            pairs = zip(_tensors(result), _tensors(heard.result), strict=True)
            if not all(np.array_equal(*pair) for pair in pairs):
                ours, theirs = (
                    sketch(r.encoder_out, r.log_probs, r.state) for r in (result, heard.result)
                )
                found[index] = max(float(deviation(ours, theirs).max()), 1e-9)
        return found


class DecoderEffect:
    """Of changes of a decoder: the same, of hypotheses in place of steps."""

    def __init__(
        self, right: Decoder, other: Decoder, memory: FloatArray, vocab_size: int, most_units: int
    ) -> None:
        """``memory`` (1, T', D) is what an encoder says of speech."""
        rng = np.random.default_rng(0)
        self.lists: list[tuple[IntArray, IntArray, FloatArray]] = []
        for _ in range(30):
            begin = int(rng.integers(max(1, memory.shape[1] - 80)))
            heard = memory[:, begin : begin + int(rng.integers(4, 80))]
            lengths = rng.integers(0, min(40, most_units), 10)
            hypotheses = [[int(u) for u in rng.integers(0, vocab_size, n)] for n in lengths]
            hyps, hyp_lengths = padded(hypotheses, vocab_size, rng)
            self.lists.append((hyps, hyp_lengths, np.ascontiguousarray(heard)))
        self.right = [right.score(*one) for one in self.lists]
        self.others = self._deviations(other)

    def of(self, decoder: Decoder) -> Effect:
        """What a changed decoder does."""
        found = self._deviations(decoder)
        return judged(found, self.others) if found.any() else Effect("none")

    def _deviations(self, decoder: Decoder) -> FloatArray:
        found = [
            _moved(decoder.score(*one), right)
            for one, right in zip(self.lists, self.right, strict=True)
        ]
        return np.concatenate(found)


def judged(found: FloatArray, others: FloatArray) -> Effect:
    """Of deviations of a changed program (N,) and of another right one."""
    able = found[found != 0]  # NaN is among them
    if not np.isfinite(able).all():
        return Effect("missed", float("inf"))
    farther = np.quantile(able, QUANTILES) / np.maximum(np.quantile(others, QUANTILES), 1e-9)
    return Effect("rounding" if farther.max() <= 1 else "missed", float(farther.max()))


def _heard(right: Encoder, steps: Sequence[Step], spec: EncoderSpec) -> Iterator[HeardStep]:
    offset = 0
    for step, (state, result) in zip(steps, stream(right, steps, spec), strict=True):
        yield HeardStep(step, offset, state, result)
        offset += step.keep


def _tensors(result: EncoderStep) -> tuple[npt.NDArray[np.generic], ...]:
    return (result.encoder_out, result.log_probs, *result.state)


def _moved(found: DecoderScores, right: DecoderScores) -> FloatArray:
    """The largest change of each hypothesis (N,)."""
    sides = [
        np.abs(a - b).max(1) for a, b in ((found.left, right.left), (found.right, right.right))
    ]
    moved: FloatArray = np.max(sides, axis=0)
    return moved
