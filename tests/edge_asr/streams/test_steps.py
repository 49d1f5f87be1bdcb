"""Faults in every call, and random ones in random streams: no hole, nothing twice, exact clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from edge_asr.errors import BackendError
from edge_asr.events import Event, Final, Gap, Partial
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

SEEDS_OF_ALL_CALLS = {"inline": 123, "background": 132}  # several segments, a gap, every call
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
    kinds = draw.choice(["push"] * 9 + ["flush", "gap", "chunk"], operations)
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
    play(line, draw, 7)
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


def check_random_streams(made: Timelines, seeds: range) -> Counter[str]:
    """The calls that failed."""
    raised = Counter[str]()
    for seed in seeds:
        faults = random_faults(seed)
        try:
            random_stream(made, seed, faults)
        except BaseException as error:
            error.add_note(f"in the stream of seed {seed}")
            raise
        raised += faults.raised
    return raised


def test_random_streams_with_random_faults(made: Timelines) -> None:
    check_random_streams(made, range(10_000, 10_400))


@pytest.mark.slow
def test_ten_thousand_random_streams_with_random_faults(made: Timelines) -> None:
    raised = check_random_streams(made, range(10_000))
    assert set(raised) == set(CALLS)
    assert raised.total() > 5000


@pytest.mark.parametrize("error", [*ERRORS, Interrupted()], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", [name for name in CALLS if name != "skip"])
@pytest.mark.parametrize("mode", SEEDS_OF_ALL_CALLS)
def test_each_call_in_turn(made: Timelines, name: str, error: BaseException, mode: str) -> None:
    seed = SEEDS_OF_ALL_CALLS[mode]
    whole = random_stream(made, seed, Faults())
    assert whole.heard() == whole.spoken
    calls = whole.faults.calls[name]
    assert calls, "the stream does not call it"
    assert whole.mode == mode
    for call in range(1, calls + 1):
        line = random_stream(made, seed, Faults({(name, call): error}))
        assert line.faults.raised[name] == 1
        # No error comes out twice, and of those of a decoder only what interrupts a push.
        is_interrupted = isinstance(error, Interrupted) and mode == "inline"
        assert line.raised == (name != "decoder" or is_interrupted)
        assert (line.position, gaps(line)) == (whole.position, gaps(whole))
        if not line.messages():
            assert without_partials(line) == without_partials(whole)
        elif name == "decoder":
            assert [f.text for f in finals(line)] == [f.text for f in finals(whole)]
            assert sum(not final.second_pass for final in finals(line)) == 1
        assert len(line.messages()) <= 1, "what failed once is said once"


def finals(line: Timeline) -> list[Final]:
    return [event for event in line.events if isinstance(event, Final)]


def gaps(line: Timeline) -> list[Gap]:
    return [event for event in line.events if isinstance(event, Gap)]


def without_partials(line: Timeline) -> list[Event]:
    return [event for event in line.events if not isinstance(event, Partial)]
