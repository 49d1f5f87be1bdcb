"""Recordings made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    """A file of samples (N,) or (N, channels) between -1 and 1, and its path again."""
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path
