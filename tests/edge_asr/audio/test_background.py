"""Blocks that another thread reads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edge_asr.audio.background import Background
from edge_asr.audio.features import Samples
from edge_asr.errors import UsageError
from tests.child import in_child

BLOCK = np.zeros((1, 1), np.float32)


def test_all_in_order_and_then_the_end() -> None:
    background = Background(lambda: iter([(BLOCK, rate) for rate in range(20)]))
    assert [rate for _, rate in background] == list(range(20))
    assert list(background) == []


def test_an_error_comes_after_the_blocks() -> None:
    def blocks() -> Iterator[tuple[Samples, int]]:
        yield BLOCK, 1
        raise ValueError("no")

    background = Background(blocks)
    assert background.wait(10)
    assert next(background)[1] == 1
    assert background.wait(10), "the error is there too"
    with pytest.raises(ValueError, match="no"):
        next(background)
    assert list(background) == []


def test_a_wait_ends_without_a_block() -> None:
    go = threading.Event()

    def blocks() -> Iterator[tuple[Samples, int]]:
        go.wait()
        yield BLOCK, 1

    background = Background(blocks)
    assert not background.wait(0.01)
    go.set()
    assert background.wait(10)
    assert [rate for _, rate in background] == [1]


def test_who_stops_reading_stops_the_thread() -> None:
    ended = threading.Event()

    def blocks() -> Iterator[tuple[Samples, int]]:
        try:
            while True:
                yield BLOCK, 1
        finally:
            ended.set()

    background = Background(blocks)
    next(background)
    del background
    gc.collect()
    assert ended.wait(10)


def test_a_forked_process_is_refused_and_takes_nothing() -> None:
    background = Background(lambda: iter([(BLOCK, rate) for rate in range(9)]))
    assert next(background)[1] == 0

    def refusals() -> list[str]:
        found = []
        for read in (lambda: next(background), lambda: background.wait(0)):
            with pytest.raises(UsageError) as refused:
                read()
            found.append(str(refused.value))
        return found

    first, second = in_child(refusals)
    assert first == second and first.endswith("open the input after the fork")
    assert [rate for _, rate in background] == list(range(1, 9))
