"""The capture process: what it loads, and the queue between the audio callback and the pipe."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_asr.microphone.child import QUEUE_KEPT_MS, QUEUE_MS, BlockQueue, waited_ns

RATE = 8000
BLOCK = bytes(RATE // 20 * 4 * 2)  # 50 ms of two channels
BLOCK_MS = 50


def test_the_process_loads_no_numpy() -> None:
    # It is started again after each loss of a microphone, and stays small for weeks.
    program = (
        "import runpy, sys\n"
        "sys.argv = ['child', '--help']\n"
        "try: runpy.run_module('edge_asr.microphone.child', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'edge_asr.microphone.devices' in sys.modules\n"
        "heavy = {'numpy', 'msgspec', 'soxr', 'soundfile', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "--parent" in result.stdout


def drained(queue: BlockQueue) -> list[int]:
    """The places of the blocks, counted in blocks."""
    places = []
    while block := queue.get(0):
        place, part = divmod(block.sequence, RATE * BLOCK_MS // 1000)
        assert part == 0
        places.append(place)
    return places


def test_blocks_come_in_order_with_what_is_known_of_them() -> None:
    queue = BlockQueue(RATE, 2)
    before_ns = time.monotonic_ns()
    queue.put(BLOCK, False)
    queue.put(BLOCK[:80], True, 70)
    first, second = queue.get(0), queue.get(0)
    assert first is not None and second is not None
    assert (first.sequence, first.overflow, first.channels) == (0, False, 2)
    assert (second.sequence, second.overflow, len(second.payload)) == (400, True, 80)
    assert (first.waited_ns, second.waited_ns) == (0, 70)
    assert before_ns <= first.at_ns <= second.at_ns <= time.monotonic_ns()
    assert queue.get(0) is None


@pytest.mark.parametrize(
    ("captured_s", "now_s", "expected_ms"),
    [
        (1e9, 1e9 + 0.05, 0),
        (1e9, 1e9 + 0.24, 190),
        (5.0, 5.01, 0),  # the driver knows its last sample only roughly
        (0.0, 7.0, 0),  # a driver that has no times
        (0.0, 0.0, 0),
        (7.0, 6.9, 0),
        (1e9, 7.0, 0),  # of two clocks
        (7.0, 1e9, 0),
        (float("nan"), 7.0, 0),
    ],
)
def test_how_long_a_block_waited_by_its_driver(
    captured_s: float, now_s: float, expected_ms: int
) -> None:
    assert waited_ns(captured_s, now_s, 0.05) == pytest.approx(expected_ms * 1e6, abs=1e3)


def test_a_pause_within_the_queue_loses_nothing() -> None:
    queue = BlockQueue(RATE, 2)
    count = QUEUE_MS // BLOCK_MS
    for _ in range(count):
        queue.put(BLOCK, False)
    assert drained(queue) == list(range(count))


def test_a_longer_pause_makes_one_hole_and_keeps_the_newest() -> None:
    queue = BlockQueue(RATE, 2)
    count = QUEUE_MS // BLOCK_MS + 10
    for _ in range(count):
        queue.put(BLOCK, False)
    kept = drained(queue)
    assert kept == list(range(kept[0], count))
    assert QUEUE_KEPT_MS <= len(kept) * BLOCK_MS <= QUEUE_KEPT_MS + 10 * BLOCK_MS


def test_years_of_audio_do_not_fill_the_queue() -> None:
    queue = BlockQueue(RATE, 2)
    for _ in range(3 * QUEUE_MS // BLOCK_MS):
        queue.put(BLOCK, False)
        assert queue.get(0) is not None
    assert queue.get(0) is None


@pytest.mark.parametrize("wakes", ["put", "wake"])
def test_a_waiting_reader_is_woken(wakes: str) -> None:
    queue = BlockQueue(RATE, 2)
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(queue.get(30)))
    reader.start()
    deadline = time.monotonic() + 10
    while reader.is_alive() and time.monotonic() < deadline:
        queue.put(BLOCK, False) if wakes == "put" else queue.wake()
        reader.join(0.01)
    assert not reader.is_alive()
    assert (got[0] is not None) == (wakes == "put")
