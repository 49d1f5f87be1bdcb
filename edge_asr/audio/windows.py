"""Cut a stream of feature frames into encoder steps, so that each real frame is encoded once.

Encoder frame k reads the feature frames from ``k * subsampling_rate`` to ``right_context`` more.
A step of c encoder frames therefore reads ``(c - 1) * subsampling_rate + right_context + 1``
frames and the next one begins ``c * subsampling_rate`` later. A stream of T frames has
``ceil(T / subsampling_rate)`` encoder frames: the last of them begins at or before the last real
frame, so nothing is lost; what its window misses behind the end is padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import Literal, NamedTuple

import numpy as np

from edge_asr.audio.features import Frames
from edge_asr.errors import UsageError
from edge_asr.package.manifest import EncoderSpec, Manifest

# Audio per encoder step; None is the default of the package.
ChunkMs = int | Literal["whole"] | None


class Step(NamedTuple):
    """Input of one encoder step, (1, T, F), and how many of its encoder frames count."""

    feats: Frames
    keep: int


def tail_padding(last: Frames, count: int) -> Frames:
    """``count`` frames (count, F) to follow the last real frame (F,): that frame again.

    Digital silence instead would be a value of log(0), far from all that the encoder was
    trained on.
    """
    return np.repeat(last[None], count, axis=0)


@dataclass
class Windows:
    """Steps of ``chunk_frames`` encoder frames. Plain values that are replaced, not changed: a copy
    is a snapshot."""

    spec: EncoderSpec
    chunk_frames: int
    _pending: list[Frames] = field(default_factory=list)
    _pending_frames: int = 0

    @property
    def missing_frames(self) -> int:
        """Feature frames until the next step is complete, at least 1."""
        return self.spec.input_frames(self.chunk_frames) - self._pending_frames

    def push(self, frames: Frames) -> list[Step]:
        """The steps that ``frames`` (T, F) complete."""
        self._pending = [*self._pending, frames]
        self._pending_frames += len(frames)
        if self.missing_frames > 0:
            return []
        feats = np.concatenate(self._pending)
        steps = []
        start, shift = 0, self.chunk_frames * self.spec.subsampling_rate
        size = self.spec.input_frames(self.chunk_frames)
        while start + size <= len(feats):
            steps.append(Step(feats[None, start : start + size], self.chunk_frames))
            start += shift
        self._keep(feats[start:])
        return steps

    def flush(self) -> list[Step]:
        """The steps of what remains, padded; the next push begins a new stream."""
        if self._pending_frames == 0:
            return []
        feats = np.concatenate(self._pending)
        self._keep(feats[:0])
        steps = []
        while len(feats):
            # Usually one round; the frames that two steps share may begin another encoder frame.
            count = min(self.chunk_frames, -(-len(feats) // self.spec.subsampling_rate))
            # A program takes no fewer frames than min_chunk; the surplus is dropped again.
            size = self.spec.input_frames(max(count, self.spec.min_chunk))
            real = feats[:size]
            padded = np.concatenate([real, tail_padding(real[-1], size - len(real))])
            steps.append(Step(padded[None], count))
            feats = feats[count * self.spec.subsampling_rate :]
        return steps

    def _keep(self, frames: Frames) -> None:
        self._pending = [frames.copy()] if len(frames) else []
        self._pending_frames = len(frames)


def chunk_frames(manifest: Manifest, chunk_ms: ChunkMs) -> int:
    """``chunk_ms`` in encoder frames.

    Raises:
        UsageError: not a multiple of the encoder frame, or outside the program's bounds.
    """
    spec, frame_ms = manifest.encoder, manifest.frame_ms
    if chunk_ms is None:
        return spec.default_chunk
    if isinstance(chunk_ms, str) and chunk_ms == "whole":
        return spec.max_chunk
    frames = _whole_frames(chunk_ms, frame_ms)
    if frames is None or not spec.min_chunk <= frames <= spec.max_chunk:
        raise UsageError.of_setting(
            "chunk_ms",
            chunk_ms,
            f"multiples of {frame_ms:g} from {spec.min_chunk * frame_ms:g} to "
            f"{spec.max_chunk * frame_ms:g}, and 'whole' for whole utterances",
        )
    return frames


def left_context_frames(manifest: Manifest, left_context_ms: int) -> int:
    """``left_context_ms`` in encoder frames.

    Raises:
        UsageError: not a multiple of the encoder frame, below 0, or more than the program has.
    """
    spec, frame_ms = manifest.encoder, manifest.frame_ms
    frames = _whole_frames(left_context_ms, frame_ms)
    if frames is None or not 0 <= frames <= spec.left_context:
        raise UsageError.of_setting(
            "left_context_ms",
            left_context_ms,
            f"multiples of {frame_ms:g} from 0 to {spec.left_context * frame_ms:g}",
        )
    return frames


def _whole_frames(duration_ms: object, frame_ms: float) -> int | None:
    """A duration in encoder frames; None where it is no number or between two of them."""
    if not isinstance(duration_ms, Real) or isinstance(duration_ms, bool):
        return None
    duration = float(duration_ms)
    frames = round(duration / frame_ms) if 0 <= duration < 1 << 31 else -1
    return frames if frames * frame_ms == duration else None
