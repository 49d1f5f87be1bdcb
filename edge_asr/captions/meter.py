"""What the live view shows besides captions: level, lag and speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_FLOOR_DB = -90.0
_FALL_DB_PER_S = 40.0
_CLIPPING = 0.999


@dataclass
class Meter:
    """What the live view shows besides captions. It is looked at less often than blocks come."""

    level_db: float = _FLOOR_DB  # RMS relative to full scale; rises at once, falls slowly
    lag_ms: int = 0  # from the microphone to the end of decoding
    rtf: float = 0.0  # seconds of work per second of audio, over the last seconds
    _clipped_ago_s: float = math.inf

    def push(self, samples: npt.NDArray[np.float32], audio_s: float, work_s: float) -> None:
        """Take account of samples (N, C) of ``audio_s`` seconds, decoded in ``work_s`` seconds."""
        if len(samples) == 0:
            return
        power = float((samples.astype("f8") ** 2).mean())
        level_db = 10 * math.log10(power) if power > 0 else _FLOOR_DB
        self.level_db = max(_FLOOR_DB, level_db, self.level_db - _FALL_DB_PER_S * audio_s)
        clips = abs(samples).max() >= _CLIPPING
        self._clipped_ago_s = 0.0 if clips else self._clipped_ago_s + audio_s
        weight = min(1.0, audio_s / 3.0)  # an average over about three seconds
        self.rtf += weight * (work_s / audio_s - self.rtf)

    @property
    def clipping(self) -> bool:
        """Whether the microphone was too loud within the last second."""
        return self._clipped_ago_s < 1.0
