"""From a scripted source through a stream to captions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_asr.backends import Encoder, EncoderStep, FloatArray, open_encoder
from edge_asr.backends.state import State
from edge_asr.captions import captioner as captioners
from edge_asr.captions.captioner import Captioner
from edge_asr.errors import BackendError, DeviceError, OutputError
from edge_asr.events import Event, Final, Gap, Status
from edge_asr.fusion.hotword_file import HotwordList
from edge_asr.fusion.hotword_text import Phrase
from edge_asr.microphone.capture import Notice
from edge_asr.microphone.clock import Block, Heard, Lost
from edge_asr.search.decoding import Decoding
from edge_asr.search.second_pass import SecondPass
from edge_asr.streams.stream import Stream
from edge_asr.testing import scripted
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import DECODER, ENCODER, MANIFEST, UNITS, FakeDecoder, tiny_onnx, tones

RATE = 16000


class Shown:
    """Captions that remember."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.lags: list[int] = []
        self.warnings: list[str] = []

    def show(self, event: Event) -> None:
        self.events.append(event)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def refresh(self, meter: object) -> None:
        self.lags.append(meter.lag_ms)  # type: ignore[attr-defined]

    def close(self) -> None:
        pass


class Script:
    """A source that gives what a test says, and does what it says on the way."""

    lag_ms = 70

    def __init__(self, *steps: object, rest: tuple[Heard, ...] = ()) -> None:
        self.steps = list(steps)
        self.rest = rest
        self.closed = 0

    @property
    def ended(self) -> bool:
        return not self.steps

    def read(self, timeout_s: float) -> list[Heard | Notice]:
        step = self.steps.pop(0)
        if callable(step):
            step()
            return []
        assert isinstance(step, list)
        return step

    def close(self) -> list[Heard | Notice]:
        self.closed += 1
        return list(self.rest)


def audio(duration_ms: int) -> list[Block]:
    return [Block(np.zeros((800, 1), np.float32), RATE, 0)] * (duration_ms // 50)


def caption(
    words: Sequence[tuple[str, int]], source: Script, stopped: Callable[[], bool] = lambda: False
) -> tuple[Captioner, Shown]:
    shown = Shown()
    with scripted(words).stream() as stream:
        captioner = Captioner(stream, shown)
        captioner.run(source, stopped)
    assert source.closed == 1
    return captioner, shown


def texts_of(events: Sequence[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def texts(shown: Shown) -> list[str]:
    return texts_of(shown.events)


def test_words_before_a_loss_are_finished_at_once() -> None:
    source = Script(audio(500), [Notice("lost", "gone")], [Lost(1500, "unplugged"), *audio(500)])
    captioner, shown = caption([("one", 120), ("two", 2120)], source)
    kinds = [event for event in shown.events if isinstance(event, Final | Gap | Status)]
    first, status, gap, second = kinds
    assert isinstance(first, Final) and isinstance(second, Final)
    assert (first.text, second.text) == ("one", "two")
    assert isinstance(status, Status) and status.kind == "lost"
    assert isinstance(gap, Gap) and gap.end_ms - gap.start_ms == 1500
    assert captioner.summary() == "heard 1.0 s; lost 1.5 s unplugged"


def test_what_was_captured_before_a_stop_is_captioned() -> None:
    stops: list[bool] = []
    source = Script(
        audio(500), lambda: stops.append(True), audio(500), [], rest=(Lost(40, "overload"),)
    )
    captioner, shown = caption([("one", 120), ("two", 620)], source, lambda: bool(stops))
    assert " ".join(texts(shown)) == "one two"
    assert captioner.summary().endswith("lost 0.0 s overload")


def test_after_a_stop_a_slow_second_pass_costs_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioners, "LAST_WORDS_S", 0.01)
    gate, shown = threading.Event(), Shown()
    second_pass = SecondPass(FakeDecoder(gate=gate), DECODER, 1.0, 0.5)
    encoder = open_encoder("onnx", tiny_onnx(), ENCODER)
    stream = Stream(encoder, MANIFEST, UNITS, 16, second_pass=second_pass)
    stops: list[bool] = []
    speech = [Block(tones("▁one 1500 ▁two 1500")[:, None], RATE, 0)]
    with stream:
        source = Script(speech, lambda: stops.append(True), [])
        Captioner(stream, shown).run(source, lambda: bool(stops))
        gate.set()
    assert texts(shown) == ["one", "two"]


class FaultyShown(Shown):
    """Fails in one call, or in all, after what it shows has been remembered."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.at = at

    def show(self, event: Event) -> None:
        super().show(event)
        if self.at in (None, len(self.events)):
            raise OutputError("the disk is full")


_NOTICES = ("hush", "gone", "back")


def whole_script() -> Script:
    return Script(
        [*audio(600), Notice("silent", "hush"), Lost(1500, "unplugged"), *audio(500)],
        *([Notice("lost", "gone"), *audio(300)], [Notice("recovered", "back"), *audio(700)]),
        rest=(*audio(200), Lost(40, "overload"), *audio(200)),
    )


WHOLE_WORDS = [("one", 120), ("two", 2120), ("three", 3200), ("four", 3640)]


def test_where_captions_fail_once_all_others_are_shown_once_and_in_order() -> None:
    whole = caption(WHOLE_WORDS, whole_script())[1].events
    assert len(texts_of(whole)) > 2
    for call in range(1, len(whole) + 1):
        shown, source = FaultyShown(call), whole_script()
        with scripted(WHOLE_WORDS).stream() as stream, pytest.raises(OutputError):
            Captioner(stream, shown).run(source)
        # What the source still had when the error ended it is not read any more.
        left = len(source.steps)
        assert shown.events[:call] == whole[:call]
        assert left or shown.events == whole


def test_captions_that_fail_for_ever_end_it() -> None:
    source = whole_script()
    with scripted(WHOLE_WORDS).stream() as stream, pytest.raises(OutputError):
        Captioner(stream, FaultyShown(None)).run(source)
    assert source.closed == 1


class FaultyStep:
    """An encoder that fails in one call, or in all."""

    def __init__(self, encoder: Encoder, at: int | None) -> None:
        self.encoder, self.at, self.calls = encoder, at, 0

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        self.calls += 1
        if self.at in (None, self.calls):
            raise BackendError("the device is gone")
        return self.encoder.step(feats, offset, state)


@pytest.mark.parametrize("at", [None, *range(1, 12)])
def test_an_encoder_that_fails_leaves_the_clock_and_the_other_words(at: int | None) -> None:
    shown, recognizer = Shown(), scripted(WHOLE_WORDS)
    # All of it comes at once: what is left is captioned before the error ends it.
    items = [item for step in whole_script().steps for item in step]  # type: ignore[attr-defined]
    with recognizer.stream(160) as stream:
        stream._steps._encoder = FaultyStep(stream._steps._encoder, at)
        captioner = Captioner(stream, shown)
        with pytest.raises(BackendError):
            captioner.run(Script(items, rest=whole_script().rest))
        assert stream.position_ms == 600 + 1500 + 500 + 300 + 700 + 400 + 40
    assert captioner.summary() == "heard 2.5 s; lost 0.0 s overload, 1.5 s unplugged"
    notices = [e for e in shown.events if isinstance(e, Status) and e.message in _NOTICES]
    assert [status.message for status in notices] == list(_NOTICES)
    check_guarantees([event for event in shown.events if event not in notices])
    failed = [e for e in shown.events if isinstance(e, Status) and "encoder" in e.message]
    assert at is None or len(failed) == 1
    assert len([e for e in shown.events if isinstance(e, Gap)]) == 2
    if at is not None:
        begin = failed[0].at_ms
        expected = [w for w, ms in WHOLE_WORDS if not begin <= ms < begin + 160]
        assert " ".join(texts(shown)).split() == expected


def test_words_before_an_error_are_finished() -> None:
    def fail() -> None:
        raise DeviceError("no")

    shown = Shown()
    source = Script(audio(500), fail, [])
    with scripted([("one", 120)]).stream() as stream, pytest.raises(DeviceError):
        Captioner(stream, shown).run(source)
    assert texts(shown) == ["one"]
    assert source.closed == 1


def test_the_lag_of_the_source_is_shown() -> None:
    _, shown = caption([], Script(audio(500)))
    assert set(shown.lags) == {70}


def test_hotwords_follow_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioners, "REFRESH_S", 0.0)  # so that every read looks at the file
    file = tmp_path / "words.txt"
    file.write_text("two\n")
    hotwords = HotwordList(["one"], str(file))
    shown, given = Shown(), []

    def change(text: str) -> object:
        return lambda: file.write_text(text)

    recognizer = scripted([("one", 120), ("twos", 620), ("two", 1120)])
    with recognizer.stream(hotwords=hotwords.phrases) as stream:
        set_hotwords = stream.set_hotwords

        def observe(phrases: Sequence[Phrase]) -> tuple[str, ...]:
            given.append(tuple(phrases))
            return set_hotwords(phrases)

        monkeypatch.setattr(stream, "set_hotwords", observe)
        source = Script(
            *(audio(500), change("two\ntwos\n"), audio(500), [], []),
            *(change("two\tmany\n"), audio(500), [], change("zebra"), [], file.unlink, []),
        )
        Captioner(stream, shown, hotwords).run(source)
    assert given == [("one", "two", "twos"), ("one", "zebra")]
    assert len(shown.warnings) == 3, "each once"
    assert "words.txt' line 1: the bonus is 'many'" in shown.warnings[0]
    assert shown.warnings[0].endswith("; the old hotwords stay")
    assert shown.warnings[1].startswith("hotword 'zebra' is left out")
    assert "no such file" in shown.warnings[2]
    assert texts(shown) == ["one twos two"]


def test_greedy_search_keeps_to_no_hotwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioners, "REFRESH_S", 0.0)
    file = tmp_path / "words.txt"
    file.write_text("# none yet\n")
    hotwords, shown = HotwordList((), str(file)), Shown()
    decoding = Decoding(search="greedy")
    with scripted([("one", 120)]).stream(decoding=decoding) as stream:
        source = Script(lambda: file.write_text("two\n"), [], audio(500), [])
        Captioner(stream, shown, hotwords).run(source)
    assert [warning.split(";")[0] for warning in shown.warnings] == [
        "greedy search takes no hotwords"
    ]
    assert texts(shown) == ["one"]
