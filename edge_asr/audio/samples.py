"""What samples may be: shapes, types, rates and levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_asr.audio.features import Samples
from edge_asr.errors import AudioError, UsageError

MIN_RATE, MAX_RATE = 4_000, 384_000
MAX_CHANNELS = 32
# 36 dB over full scale: not loud, but integers that were cast to float instead of scaled.
MAX_AMPLITUDE = 64.0


def as_block(samples: npt.ArrayLike) -> Samples:
    """(N,) or (N, C), float or int16, as (N, C) float32.

    Raises:
        UsageError: another shape or type.
    """
    try:
        array = np.asarray(samples)
    except ValueError as error:
        raise UsageError("samples are no array; allowed are (N,) and (N, C)") from error
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not 1 <= array.shape[1] <= MAX_CHANNELS:
        raise UsageError(
            f"samples of shape {np.shape(samples)}; allowed are (N,) and (N, C) with C up to "
            f"{MAX_CHANNELS}"
        )
    if array.dtype == np.int16:
        return array.astype(np.float32) / np.float32(32768.0)
    if array.dtype == np.float32:
        return array.copy()
    if array.dtype.kind != "f":
        raise UsageError(f"samples of type {array.dtype}; allowed are float32 and int16")
    with np.errstate(over="ignore"):  # refused afterwards as infinite
        return array.astype(np.float32)


def check_rate(sample_rate: int, where: str) -> None:
    """Raise AudioError unless ``sample_rate`` is one that speech can have."""
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AudioError(
            f"{where}: sample rate {sample_rate} Hz; allowed are {MIN_RATE} to {MAX_RATE} Hz"
        )


def finite_length(samples: Samples) -> int:
    """How many rows of ``samples`` (N, C) come before the first with NaN or an infinity."""
    if np.isfinite(np.vdot(samples, samples)):  # the quick way for the common case
        return len(samples)
    finite = np.isfinite(samples).all(axis=1)
    return len(samples) if finite.all() else int(finite.argmin())


def check_samples(samples: Samples, where: str) -> None:
    """Raise AudioError if ``samples`` (N, C) hold NaN, infinities or unscaled integers."""
    # The quick way for the common case: no sample is above the root of their energy. NaN fails
    # the comparisons too.
    if np.vdot(samples, samples) <= MAX_AMPLITUDE**2:
        return
    if max(samples.max(), -samples.min()) <= MAX_AMPLITUDE:
        return
    if not np.isfinite(samples).all():
        raise AudioError(f"{where}: samples hold NaN or infinite values; record or convert again")
    raise AudioError(
        f"{where}: samples reach {np.abs(samples).max():.0f}; full scale is 1.0, so divide "
        "integer samples by their full scale"
    )
