"""Samples of every kind that is allowed; what is refused is in streams/test_stream_input.py."""

from __future__ import annotations

import numpy as np
import pytest

from edge_asr.audio.samples import (
    MAX_AMPLITUDE,
    MAX_CHANNELS,
    MAX_RATE,
    MIN_RATE,
    as_block,
    check_rate,
    check_samples,
)
from edge_asr.errors import AudioError


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6,), (3, 2), (0,), (0, MAX_CHANNELS)])
def test_fractions_are_taken_as_they_are(dtype: type, shape: tuple[int, ...]) -> None:
    samples = np.linspace(-1, 0.75, int(np.prod(shape))).astype(dtype).reshape(shape)
    block = as_block(samples)
    assert (block.dtype, block.shape) == (np.float32, shape if len(shape) == 2 else (*shape, 1))
    np.testing.assert_array_equal(block.reshape(shape), samples.astype(np.float32))
    assert not np.shares_memory(block, samples), "the caller may fill its buffer again"


def test_integers_are_scaled() -> None:
    block = as_block(np.array([-32768, 0, 16384], np.int16))
    np.testing.assert_array_equal(block, np.array([[-1.0], [0.0], [0.5]], np.float32))


def test_a_list_is_samples() -> None:
    np.testing.assert_array_equal(as_block([[0.5, -0.5]]), np.array([[0.5, -0.5]], np.float32))


@pytest.mark.parametrize("rate", [MIN_RATE - 1, MAX_RATE + 1])
def test_rates_end_where_they_should(rate: int) -> None:
    check_rate(MIN_RATE, "here")
    check_rate(MAX_RATE, "here")
    with pytest.raises(AudioError, match=f"^here: sample rate {rate} Hz; allowed are"):
        check_rate(rate, "here")


@pytest.mark.parametrize("count", [1, 10_000])
def test_levels_end_where_they_should(count: int) -> None:
    """However many samples there are: their energy is only the quick way."""
    loud = np.full((count, 2), MAX_AMPLITUDE, np.float32)
    check_samples(loud, "here")
    loud[-1, -1] = -MAX_AMPLITUDE * 1.01
    with pytest.raises(AudioError, match=r"^here: samples reach 65; full scale"):
        check_samples(loud, "here")
