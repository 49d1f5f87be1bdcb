"""The recognizer that tests and users' tests are given."""

from __future__ import annotations

import copy
import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr import testing
from edge_asr.errors import UsageError
from edge_asr.events import Event, Final, Gap
from edge_asr.fusion.grammar import Grammar
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer
from edge_asr.testing import scripted
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import play

RATE = 16000
SCRIPT = [("turn", 400), ("left", 800), ("left", 880), ("now", 3000), ("stop", 6040)]


def noise(duration_ms: int, rate: int = RATE) -> np.ndarray:
    generator = np.random.default_rng(duration_ms)
    return (0.1 * generator.standard_normal(duration_ms * rate // 1000)).astype(np.float32)


def said(events: list[Event]) -> list[tuple[str, int]]:
    finals = [event for event in events if isinstance(event, Final)]
    return [(word.text, word.start_ms) for final in finals for word in final.words]


def test_the_example_of_the_module() -> None:
    result = doctest.testmod(testing)
    assert result.attempted > 3 and result.failed == 0


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 7 * RATE), max_size=9),
    chunk_ms=st.sampled_from([40, 640, 2560, "whole"]),
    search=st.sampled_from(["prefix", "greedy"]),
    fresh_context=st.booleans(),
)
def test_words_come_at_their_times(
    cuts: list[int], chunk_ms: int, search: str, fresh_context: bool
) -> None:
    decoding = Decoding(search=search, fresh_context=fresh_context)  # type: ignore[arg-type]
    with scripted(SCRIPT).stream(chunk_ms, decoding=decoding) as stream:
        events = play(stream, noise(7000), RATE, cuts)
    check_guarantees(events)
    assert said(events) == SCRIPT
    texts = [event.text for event in events if isinstance(event, Final)]
    assert texts == ["turn left left", "now", "stop"]


def test_the_clock_is_that_of_the_stream() -> None:
    """Flushes, gaps and rates do not move a word; a gap swallows it."""
    stream = scripted(SCRIPT).stream(40)
    events = stream.push(noise(420), RATE)
    assert not said(events)
    # The next run begins in the middle of a frame.
    events = events + stream.flush() + stream.push(noise(2000, 8000), 8000)
    events += stream.declare_gap(2000, "overload")
    events += stream.push(noise(2500), RATE) + stream.flush()
    (gap,) = [event for event in events if isinstance(event, Gap)]
    assert (gap.start_ms, gap.end_ms) == (2420, 4420)
    words = said(events)
    assert [word for word, _ in words] == ["turn", "left", "left", "stop"]
    assert all(at_ms - 40 < found_ms <= at_ms for (_, found_ms), (_, at_ms) in zip(
        words, [SCRIPT[0], SCRIPT[1], SCRIPT[2], SCRIPT[4]], strict=True
    ))  # fmt: skip


@pytest.mark.parametrize("end_ms", range(985, 1045, 5))
def test_a_word_on_the_edge_of_a_run_is_said_once(end_ms: int) -> None:
    stream = scripted([("edge", 1015)]).stream()
    events = stream.push(noise(end_ms), RATE) + stream.flush()
    assert said(events) == ([("edge", 1000)] if end_ms > 1015 else [])
    events += stream.push(noise(500), RATE) + stream.flush()
    assert [word for word, _ in said(events)] == ["edge"]


def test_streams_and_snapshots_are_apart() -> None:
    recognizer = scripted(SCRIPT)
    assert isinstance(recognizer, Recognizer)
    first, second = recognizer.stream(), recognizer.stream()
    first.push(noise(2000), RATE)
    assert said(second.push(noise(2000), RATE) + second.flush())[0] == ("turn", 400)
    snapshot = copy.deepcopy(first.state)
    expected = first.push(noise(3000), RATE) + first.flush()
    first.state = snapshot
    assert first.push(noise(3000), RATE) + first.flush() == expected


def test_options_are_real() -> None:
    recognizer = scripted(SCRIPT)
    grammar = Grammar.phrases(["turn left left"], recognizer.package.units)
    decoding = Decoding(grammar=grammar, nbest=2)
    with recognizer.stream(hotwords=["left", "zebra"], decoding=decoding) as stream:
        assert len(stream.hotword_warnings) == 1
        stream.set_left_context_ms(400)
        stream.set_chunk_ms(80)
        assert said(stream.push(noise(2500), RATE))[:3] == SCRIPT[:3]
    with pytest.raises(UsageError, match="chunk_ms"):
        recognizer.stream(30)
    with pytest.raises(UsageError, match="no decoder"):
        recognizer.stream(decoding=Decoding(second_pass="inline"))


def test_a_file_is_transcribed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "any.wav", noise(5000), RATE)
    transcript = scripted(SCRIPT).transcribe(tmp_path / "any.wav")
    assert (transcript.text, transcript.duration_ms) == ("turn left left now", 5000)


@pytest.mark.parametrize(
    "words",
    [
        [("", 0)],
        [("turn left", 0)],
        [("▁turn", 0)],
        [("turn", -1)],
        [("turn", 0), ("left", 79)],
        [("turn", 800), ("left", 0)],
    ],
)
def test_a_script_that_cannot_be(words: list[tuple[str, int]]) -> None:
    with pytest.raises(UsageError) as caught:
        scripted(words)
    assert caught.value.field == "words"


def test_no_library_of_a_backend_is_loaded() -> None:
    program = (
        "import sys; from edge_asr.testing import scripted\n"
        "scripted([('a', 0)]).stream().flush()\n"
        "sys.exit(str({'torch', 'onnxruntime', 'executorch'} & set(sys.modules) or ''))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() in ("", "\n"), result.stderr
