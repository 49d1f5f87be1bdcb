"""Rooms and telephones."""

from __future__ import annotations

import numpy as np
import pytest

from model.acoustics import room, telephone

RATE = 16000
TIME_S = np.arange(RATE) / RATE


def tone(hertz: float) -> np.ndarray:
    return (0.1 * np.sin(2 * np.pi * hertz * TIME_S)).astype(np.float32)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean() + 1e-20))


@pytest.mark.parametrize("seed", range(5))
def test_a_room_echoes_behind_the_sound_and_decays(seed: int) -> None:
    click = np.zeros(RATE, np.float32)
    click[2000] = 0.5
    heard = room(click, RATE, np.random.default_rng(seed))
    assert heard.shape == click.shape and heard.dtype == np.float32
    assert np.abs(heard[:2000]).max() < 1e-6  # nothing before its cause
    assert level_db(heard) == pytest.approx(level_db(click), abs=0.01)
    early, late = heard[2001:3600], heard[12000:]
    assert level_db(early) > level_db(late) + 20


def test_a_telephone_lets_its_band_through() -> None:
    rng = np.random.default_rng(0)
    speech = tone(1000)
    assert np.corrcoef(telephone(speech, RATE, rng)[:-50], speech[:-50])[0, 1] > 0.99
    for hertz in (60, 5000):
        mixed = tone(1000) + tone(hertz)
        spectrum = np.abs(np.fft.rfft(telephone(mixed, RATE, rng)))
        assert spectrum[hertz] < 0.05 * spectrum[1000]


@pytest.mark.parametrize("change", [room, telephone])
def test_silence_stays_silence(change: object) -> None:
    heard = change(np.zeros(RATE, np.float32), RATE, np.random.default_rng(0))  # type: ignore[operator]
    assert heard.shape == (RATE,) and np.abs(heard).max() == 0.0
