"""Random streams with random faults: no hole, nothing twice, and the clock is exact."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edge_asr.errors import BackendError
from edge_asr.search.decoding import SecondPassMode
from tests.edge_asr.streams.timeline import (
    CALLS,
    MAX_CHUNK,
    RATE,
    Faults,
    Interrupted,
    Timeline,
    Timelines,
    timelines,
)

ERRORS = (BackendError("the device is gone"), MemoryError(), RuntimeError("two\nlines"))


@pytest.fixture
def made() -> Iterator[Timelines]:
    with timelines() as found:
        yield found


class Speaker:
    """Random words of one frame and pauses, a frame with each call."""

    def __init__(self, draw: np.random.Generator) -> None:
        self._draw, self._pause = draw, 0

    def __call__(self) -> int:
        if self._pause:
            self._pause -= 1
            return 0
        self._pause = int(self._draw.choice([1, 2, 4, 8, 16, 30]))
        return int(self._draw.integers(1, 4))


def play(line: Timeline, draw: np.random.Generator, operations: int) -> None:
    """Random pushes, gaps and flushes, with chunks that change."""
    speaker = Speaker(draw)
    kinds = draw.choice(["push"] * 12 + ["flush", "gap", "chunk"], operations)
    for kind in kinds:
        if kind == "push":
            rate = int(draw.choice([RATE] * 5 + [RATE // 2]))
            line.push(int(draw.choice([0, 1, 333, 1600, 5000, 16_000])), speaker, rate)
        elif kind == "flush":
            line.flush()
        elif kind == "gap":
            line.declare_gap(int(draw.choice([0, 1, 333, 5000])))
        else:
            line.stream.set_chunk_ms(int(draw.integers(1, MAX_CHUNK + 1)) * 40)
    line.end()


def random_stream(made: Timelines, seed: int, faults: Faults) -> Timeline:
    draw = np.random.default_rng(seed)
    modes: list[SecondPassMode] = ["inline"] * 6 + ["background", "off"]
    mode, chunk = modes[draw.integers(len(modes))], int(draw.integers(1, MAX_CHUNK + 1))
    line = made.open(faults, chunk, mode)
    play(line, draw, 10)
    return line


def random_faults(seed: int) -> Faults:
    draw = np.random.default_rng([seed, 1])
    at: dict[tuple[str, int], BaseException] = {}
    for _ in range(draw.integers(0, 4)):
        name = str(draw.choice(CALLS))
        errors = [*ERRORS, Interrupted()]
        first, count = int(1.5 ** draw.uniform(0, 12)), int(draw.choice([1, 1, 1, 5]))
        for call in range(first, first + count):
            at[name, call] = errors[draw.integers(len(errors))]
    return Faults(at)


def check_random_streams(made: Timelines, seeds: range) -> int:
    raised = 0
    for seed in seeds:
        try:
            raised += random_stream(made, seed, random_faults(seed)).raised
        except BaseException as error:
            error.add_note(f"in the stream of seed {seed}")
            raise
    return raised


def test_random_streams_with_random_faults(made: Timelines) -> None:
    assert check_random_streams(made, range(400)) > 100
