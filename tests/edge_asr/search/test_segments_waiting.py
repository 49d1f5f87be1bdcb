"""Segments that wait for a second pass that fails, cannot begin, or is late."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge_asr.events import Status
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


@pytest.mark.parametrize("failing", [1, 2, 99])
def test_where_no_thread_can_start_the_stream_reads_its_segments_itself(
    monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    left, start = [failing], threading.Thread.start

    def starved(thread: threading.Thread) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    script, decoder = [A, 0, *SILENCE] * 4, FakeDecoder()
    monkeypatch.setattr(threading.Thread, "start", starved)
    with stream_of(script, decoder) as stream:
        events = [event for _ in range(64) for event in stream.push(audio(2))] + stream.flush()
    check_guarantees(events, in_background=True)
    expected = stream_of(script, FakeDecoder(), mode="inline")
    whole = [event for _ in range(64) for event in expected.push(audio(2))] + expected.flush()
    assert finals(events) == finals(whole)
    assert len(decoder.read) == 4
    assert not [event for event in events if isinstance(event, Status)]


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
