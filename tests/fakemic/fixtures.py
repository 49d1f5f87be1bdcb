"""Fixtures of the tests that need the fake microphone; a test module names this file in
``pytest_plugins``. Where ALSA or PortAudio is missing its tests skip and say what to install."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakemic.device import FakeMicrophone, Plug, build_plugin, why_impossible
from tests.tiny import RATE, Samples


@pytest.fixture(scope="session")
def fakemic_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled ALSA plugin."""
    if reason := why_impossible():
        pytest.skip(reason)
    return build_plugin(tmp_path_factory.mktemp("fakemic"))


@pytest.fixture
def plug(fakemic_plugin: Path, tmp_path: Path) -> Plug:
    """Makes a fake microphone that speaks ``samples`` (N,) at 16 kHz in a loop."""

    def make(samples: Samples, rate: int = RATE, channels: int = 1) -> FakeMicrophone:
        import soxr

        home = tmp_path / "home"
        home.mkdir()
        resampled = soxr.resample(samples, RATE, rate) if rate != RATE else samples
        # Only the last channel speaks: a dead left channel must not matter.
        audio = np.zeros((len(resampled), channels), np.int16)
        audio[:, -1] = np.clip(resampled * 32767, -32767, 32767)
        return FakeMicrophone(home, fakemic_plugin, audio, rate)

    return make
