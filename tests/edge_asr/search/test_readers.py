"""Threads that many streams share: few, fair, and gone when there is nothing to do."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest

from edge_asr.search.readers import Readers
from tests.child import in_child
from tests.edge_asr.search.test_segments import SILENCE, A, B, audio, finals, stream_of
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import FakeDecoder


class Gated:
    """Work that waits, and knows how much of it is done at once."""

    def __init__(self) -> None:
        self.gate, self.lock = threading.Event(), threading.Lock()
        self.order: list[object] = []
        self.now, self.most = 0, 0

    def read(self, name: object) -> object:
        with self.lock:
            self.order.append(name)
            self.now += 1
            self.most = max(self.most, self.now)
        assert self.gate.wait(60)
        with self.lock:
            self.now -= 1
        return name


def join() -> None:
    for thread in threading.enumerate():
        if thread.name == "edge-asr-second-pass":
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("most", [1, 3])
def test_threads_are_as_few_as_said_and_end_when_nothing_is_left(most: int) -> None:
    readers, gated = Readers(most), Gated()
    found = [
        readers.submit(stream, lambda stream=stream: gated.read(stream))  # type: ignore[misc]
        for stream in range(8)
    ]
    gated.gate.set()
    assert [future.result(60) for future in found] == list(range(8))
    assert gated.most <= most
    join()
    assert (readers._threads, readers._queue, readers._being_read) == (0, [], set())


def test_of_one_stream_one_segment_is_read_at_a_time_and_in_order() -> None:
    readers, gated = Readers(4), Gated()
    found: list[Future[object]] = []
    for number in range(4):
        for stream in "ab":
            name = (stream, number)
            found.append(readers.submit(stream, lambda name=name: gated.read(name)))  # type: ignore[misc]
    gated.gate.set()
    for future in found:
        future.result(60)
    assert gated.most <= 2
    for stream in "ab":
        assert [n for s, n in gated.order if s == stream] == [0, 1, 2, 3]  # type: ignore[misc]
    join()


def test_what_is_cancelled_is_not_read() -> None:
    readers, gated = Readers(), Gated()
    first, second = (readers.submit(name, lambda: gated.read("")) for name in "ab")
    readers.cancel(second)
    gated.gate.set()
    assert first.result(60) == ""
    join()
    assert second.cancelled() and gated.order == [""]


def test_an_error_of_the_work_ends_no_thread() -> None:
    readers = Readers()

    def fail() -> None:
        raise SystemExit(3)

    first, second = readers.submit("a", fail), readers.submit("a", lambda: 7)
    assert isinstance(first.exception(60), SystemExit)
    assert second.result(60) == 7


def test_where_no_thread_can_start_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = Readers()

    def starved(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", starved)
        with pytest.raises(RuntimeError, match="new thread"):
            readers.submit("a", lambda: 7)
    assert (readers._threads, readers._queue) == (0, [])
    assert readers.submit("a", lambda: 8).result(60) == 8


def test_a_forked_child_has_threads_of_its_own() -> None:
    readers, gated = Readers(), Gated()
    waiting = readers.submit("a", lambda: gated.read("parent"))
    readers._lock.acquire()  # as another thread may have it in the moment of the fork
    try:
        assert in_child(lambda: readers.submit("a", lambda: 7).result(60)) == 7
    finally:
        readers._lock.release()
    gated.gate.set()
    assert waiting.result(60) == "parent"


def test_a_thread_that_hangs_does_not_keep_the_process_from_ending() -> None:
    code = (
        "import threading\n"
        "from edge_asr.search import readers\n"
        "readers._EXIT_S = 0.1\n"
        "begun = threading.Event()\n"
        "def hang():\n"
        "    begun.set()\n"
        "    threading.Event().wait()\n"
        "found = readers.Readers()\n"
        "found.submit('a', hang)\n"
        "found.submit('b', hang)\n"
        "assert begun.wait(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_streams_that_share_readers_say_what_each_says_alone() -> None:
    readers, decoder = Readers(2), FakeDecoder()
    scripts = [[A, 0, *SILENCE, B, 0, *SILENCE] * 2, [B, 0, *SILENCE] * 4, [A, 0, B, *SILENCE] * 3]
    streams = [stream_of(script, decoder, readers=readers) for script in scripts]
    for script, stream in zip(scripts, streams, strict=True):
        events = stream.push(audio(len(script))) + stream.flush()
        check_guarantees(events, in_background=True)
        alone = stream_of(script, FakeDecoder(), mode="inline")
        assert finals(events) == finals(alone.push(audio(len(script))) + alone.flush())
        stream.close()
