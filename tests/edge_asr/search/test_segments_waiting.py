"""Segments that wait for a second pass that fails, cannot begin, or is late."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from edge_asr.events import Event, Status
from edge_asr.search import segments_waiting
from edge_asr.search.readers import Readers
from edge_asr.search.segments_waiting import DEADLINE_S, MAX_HELD, MAX_WAITING
from tests.edge_asr.search.test_segments import SILENCE, A, B, audio, finals, stream_of
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import FakeDecoder


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("inline", MemoryError("42 MiB")),
        ("background", MemoryError("42 MiB")),
        ("background", ValueError("no\nnumbers")),
        ("background", SystemExit(3)),  # of its thread
    ],
)
def test_no_failure_of_a_decoder_holds_up_later_segments(
    mode: str, error: BaseException, first: int
) -> None:
    class Bad(FakeDecoder):
        def score(self, *arguments: object) -> object:  # type: ignore[override]
            if len(self.read) == first:
                self.read.append(([], np.zeros(0, np.float32)))
                raise error
            return super().score(*arguments)  # type: ignore[arg-type]

    script = [A, 0, *SILENCE] * 3
    with stream_of(script, Bad(), mode=mode) as stream:
        events = stream.push(audio(len(script))) + stream.flush()
        assert stream.flush() == []
    check_guarantees(events, in_background=mode == "background")
    assert [final.text for final in finals(events)] == ["a"] * 3
    (status,) = (event for event in events if isinstance(event, Status))
    said = f"no second pass: {type(error).__name__}: {error}".replace("\n", " ")
    assert status.message == said


def messages(events: Sequence[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Status)]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_thread_that_cannot_start_starts_with_a_later_push(
    monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    starve(monkeypatch, failing)
    script, decoder = [A, 0, *SILENCE] * 4, FakeDecoder()
    with stream_of(script, decoder) as stream:
        events = [event for _ in range(64) for event in stream.push(audio(2))] + stream.flush()
    check_guarantees(events, in_background=True)
    expected = stream_of(script, FakeDecoder(), mode="inline")
    whole = [event for _ in range(64) for event in expected.push(audio(2))] + expected.flush()
    assert finals(events) == finals(whole)
    assert len(decoder.read) == 4
    assert not messages(events)


def test_where_no_thread_ever_starts_the_first_pass_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starve(monkeypatch, 10_000)
    script = [A, 0, *SILENCE] * 2
    with stream_of(script, FakeDecoder()) as stream:
        events = stream.push(audio(len(script)))
        assert not finals(events)
        events += stream.flush()
    assert [(final.text, final.second_pass) for final in finals(events)] == [("a", False)] * 2
    assert messages(events) == ["no second pass: RuntimeError: can't start new thread"] * 2


def starve(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Let so many threads not start."""
    left, start = [failing], threading.Thread.start

    def starved(thread: threading.Thread) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starved)


def test_a_second_pass_that_cannot_keep_up_is_not_waited_for() -> None:
    count, gate = MAX_WAITING + 3, threading.Event()
    decoder = FakeDecoder(gate=gate)
    script = [A, 0, *SILENCE] * count
    with stream_of(script, decoder) as stream:
        events = stream.push(audio(len(script)))
        waiting = stream.state.text.waiting
        assert len(waiting) == count
        assert sum(cut.encoder_out.size for cut in waiting[MAX_WAITING:]) == 0
        gate.set()
        events += stream.flush()
    assert [final.text for final in finals(events)] == ["a"] * count
    assert [final.second_pass for final in finals(events)] == [True] * MAX_WAITING + [False] * 3
    assert messages(events) == [f"no second pass: {MAX_WAITING} earlier segments wait"] * 3
    assert len(decoder.read) == MAX_WAITING
    check_guarantees(events, in_background=True)


@pytest.mark.parametrize("chunk", [4, 512])
def test_inline_every_segment_is_read_whatever_the_step(chunk: int) -> None:
    count, decoder = 3 * MAX_WAITING, FakeDecoder()
    script = [A, 0, *SILENCE] * count
    with stream_of(script, decoder, chunk, mode="inline") as stream:
        events = stream.push(audio(len(script))) + stream.flush()
    assert [final.second_pass for final in finals(events)] == [True] * count
    assert len(decoder.read) == count
    assert not messages(events)


def test_of_a_decoder_that_hangs_segments_get_the_first_pass_at_their_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s, gate = [0.0], threading.Event()
    monkeypatch.setattr(segments_waiting.time, "monotonic", lambda: now_s[0])
    script = [A, 0, *SILENCE, B, 0, *SILENCE]
    with stream_of(script, FakeDecoder(gate=gate)) as stream:
        events = stream.push(audio(len(script)))
        now_s[0] = DEADLINE_S - 1
        events += stream.push([])
        assert not finals(events)
        now_s[0] = DEADLINE_S
        events += stream.push([])
        gate.set()
    assert [(final.text, final.second_pass) for final in finals(events)] == [
        ("a", False),
        ("b", False),
    ]
    assert messages(events) == ["no second pass: the decoders take too long"] * 2


def test_of_a_decoder_that_hangs_no_more_is_kept_than_a_bound() -> None:
    gate, count = threading.Event(), 3 * MAX_HELD
    decoder = FakeDecoder(gate=gate)
    script = [A, 0, *SILENCE] * count
    readers = Readers()
    with stream_of(script, decoder, readers=readers) as stream:
        events = []
        for _ in range(0, len(script), 64):
            events += stream.push(audio(64))
            assert len(stream.state.text.waiting) <= MAX_HELD
        assert len(readers._queue) <= MAX_WAITING
        events += stream.flush(timeout_s=0)
        assert not stream.state.text.waiting and not readers._queue
        gate.set()
    assert [final.segment for final in finals(events)] == list(range(count))
    assert len(messages(events)) == count
    check_guarantees(events, in_background=True)


def test_a_final_that_is_ready_comes_without_audio() -> None:
    decoder = FakeDecoder()
    with stream_of([A, 0, *SILENCE], decoder) as stream:
        events = stream.push(audio(2 + len(SILENCE)))
        for _ in range(10_000):
            if finals(events):
                break
            threading.Event().wait(0.001)
            events += stream.push([])
    assert [(final.text, final.second_pass) for final in finals(events)] == [("a", True)]


def test_a_flush_with_a_limit_has_the_first_pass_s_text_of_what_is_not_read() -> None:
    gate, script = threading.Event(), [A, 0, *SILENCE, B, 0, *SILENCE]
    decoder = FakeDecoder(gate=gate)
    with stream_of([*script, *script], decoder) as stream:
        events = stream.push(audio(len(script)))
        assert decoder.begun.wait(60)
        events += stream.flush(timeout_s=0.01)
        assert [final.text for final in finals(events)] == ["a", "b"]
        assert [(e.kind, e.message) for e in events if isinstance(e, Status)] == [
            ("recovered", "no second pass: the decoders take too long")
        ] * 2
        gate.set()  # what they find now is of no use
        events += stream.push(audio(len(script))) + stream.flush(timeout_s=60)
    check_guarantees(events, in_background=True)
    assert [final.text for final in finals(events)] == ["a", "b", "a", "b"]
    assert len([event for event in events if isinstance(event, Status)]) == 2
    assert len(decoder.read) == 3, "what had not begun is not read any more"


@pytest.mark.parametrize("call", ["flush", "declare_gap"])
def test_nothing_waits_where_no_time_is_given(call: str) -> None:
    gate = threading.Event()
    with stream_of([A, 0, *SILENCE], FakeDecoder(gate=gate)) as stream:
        events = stream.push(audio(2 + len(SILENCE)))
        if call == "flush":
            events += stream.flush(timeout_s=0)
        else:
            events += stream.declare_gap(100, "overload", timeout_s=0)
        gate.set()
    assert [(final.text, final.second_pass) for final in finals(events)] == [("a", False)]
