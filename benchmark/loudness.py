"""How loud a recording is, every 10 ms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_asr.bench.play import Clip

FRAME_MS = 10
_FLOOR = 1e-9  # -90 dB


def levels_db(clip: Clip) -> npt.NDArray[np.float64]:
    """(F,) dB of full scale of the first channel, smoothed over three frames of ``FRAME_MS``.

    What is left of the samples after the last whole frame does not count.
    """
    size = clip.rate * FRAME_MS // 1000
    count = len(clip.samples) // size
    if count == 0:
        return np.zeros(0)
    frames = clip.samples[: count * size, 0].astype(np.float64).reshape(count, size)
    levels = 10 * np.log10(np.square(frames).mean(axis=1) + _FLOOR)
    return np.convolve(np.pad(levels, 1, "edge"), np.full(3, 1 / 3), "valid")
