"""Subtitles that any player reads, whatever words a package brings."""

from __future__ import annotations

import html
import json
import re
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.captions.subtitles import open_writer
from edge_asr.console import clean
from edge_asr.events import Alternative, Final, Word, WordUnit

CUE_LINES, LINE_COLUMNS, MAX_CUE_MS = 2, 42, 7000  # what broadcasters ask for
UNIT = WordUnit("▁a\x1b", 10, 15, 0.5)
UNITS = [{"symbol": "▁a", "start_ms": 10, "end_ms": 15, "confidence": 0.5}]
HOSTILE = "a<>&{}-.\\ 1\n\r\x1b\u202e\u2028好w\u0301"


class ReadCue(NamedTuple):
    start_ms: int
    end_ms: int
    lines: list[str]


def written(style: str, *segments: Final) -> str:
    lines: list[str] = []
    writer = open_writer(style, lines.append, "speech.wav")
    for segment in segments:
        writer.push(segment)
    writer.flush()
    assert not any("\n" in line for line in lines)
    return "".join(f"{line}\n" for line in lines)


def read_cues(style: str, text: str) -> list[ReadCue]:
    """A strict reader of what we write; stricter than the formats."""
    blocks = text.removesuffix("\n\n").split("\n\n") if text else []
    if style == "vtt":
        assert text.startswith("WEBVTT\n\n")
        blocks = text.removeprefix("WEBVTT\n\n").removesuffix("\n\n").split("\n\n")
        blocks = [block for block in blocks if block]
    cues = []
    for number, block in enumerate(blocks, start=1):
        first, *lines = block.split("\n")
        if style == "srt":
            assert first == str(number)
            first, *lines = lines
        point = {"srt": ",", "vtt": "[.]"}[style]
        clock = rf"(\d\d+):([0-5]\d):([0-5]\d){point}(\d\d\d)"
        match = re.fullmatch(f"{clock} --> {clock}", first)
        assert match, first
        hours, minutes, seconds, milliseconds = (
            [int(match[i]), int(match[i + 4])] for i in (1, 2, 3, 4)
        )
        start, end = (
            ((hours[i] * 60 + minutes[i]) * 60 + seconds[i]) * 1000 + milliseconds[i]
            for i in (0, 1)
        )
        cues.append(ReadCue(start, end, lines))
    return cues


def segment(number: int, words: list[Word], space: str = " ") -> Final:
    text = space.join(word.text for word in words)
    return Final(number, text, tuple(words), words[0].start_ms, words[-1].end_ms)


def spoken(texts: list[str], start_ms: int = 0, word_ms: int = 300) -> list[Word]:
    return [
        Word(text, start_ms + i * word_ms, start_ms + (i + 1) * word_ms, 0.5)
        for i, text in enumerate(texts)
    ]


@st.composite
def segments(draw: st.DrawFn) -> list[Final]:
    time_ms = draw(st.integers(0, 400_000_000))  # past 99 hours
    space = draw(st.sampled_from([" ", ""]))
    result = []
    for number in range(draw(st.integers(0, 3))):
        words = []
        for _ in range(draw(st.integers(1, 12))):
            text = draw(st.text(HOSTILE, min_size=1, max_size=100))
            end_ms = time_ms + draw(st.integers(0, 3000))
            words.append(Word(text, time_ms, end_ms, 0.5))
            time_ms = end_ms + draw(st.integers(0, 500))
        result.append(segment(number, words, space))
    return result


@pytest.mark.parametrize("style", ["srt", "vtt"])
@given(said=segments())
@settings(max_examples=60, deadline=None)
def test_hostile_words_cannot_break_a_file(style: str, said: list[Final]) -> None:
    cues = read_cues(style, written(style, *said))
    for cue in cues:
        assert cue.start_ms < cue.end_ms
        assert 1 <= len(cue.lines) <= CUE_LINES
        for line in cue.lines:
            shown = html.unescape(line) if style == "vtt" else line
            assert 0 < len(shown) <= LINE_COLUMNS
            assert shown.strip() == shown
            assert not set(line) & set("<>"), "markup, or the start of an arrow"
            assert style == "vtt" or not set(line) & set("{}")
            assert clean(line) == line
    for before, after in pairwise(cues):
        assert before.start_ms <= after.start_ms
        # Words of no length can begin together; only then may a cue last into the next.
        assert before.end_ms <= max(after.start_ms, before.start_ms + 1)
    shown = "".join("".join(cue.lines) for cue in cues)
    wanted = "".join(clean(word.text) for final in said for word in final.words)
    if style == "vtt":
        shown = html.unescape(shown)
    else:
        wanted = wanted.translate(str.maketrans("<>{}", "\u2039\u203a()"))
    assert shown.replace(" ", "") == wanted.replace(" ", ""), "no letter is lost"


def test_long_segments_are_cut_between_words_at_their_times() -> None:
    words = spoken(["seven"] * 40)
    cues = read_cues("srt", written("srt", segment(0, words)))
    assert len(cues) > 2
    starts = {word.start_ms for word in words}
    for cue in cues:
        assert cue.start_ms in starts
        assert set(" ".join(cue.lines).split()) == {"seven"}
        assert cue.end_ms - cue.start_ms <= MAX_CUE_MS
    assert sum(len(" ".join(cue.lines).split()) for cue in cues) == 40


def test_a_word_that_no_line_holds_is_cut_and_shares_its_time() -> None:
    (cue, rest) = read_cues("srt", written("srt", segment(0, spoken(["x" * 100], word_ms=6000))))
    assert cue == ReadCue(0, 4000, ["x" * LINE_COLUMNS] * 2)
    assert rest == ReadCue(4000, 6000, ["x" * (100 - 2 * LINE_COLUMNS)])


@pytest.mark.parametrize(
    "sign",
    [
        "e\u0301\u0323",  # letters with marks
        "\u0e01\u0e34\u0e48",  # Thai
        "\u0915\u094d\u0937\u093f",  # Devanagari, joined by a virama
        "\u0645\u06cc\u200c",  # Persian, not joined
        "\u1112\u1161\u11ab",  # Hangul in parts
        "\U0001f469\U0001f3fd\u200d\U0001f680",  # an emoji with a colour, joined
    ],
)
def test_no_sign_is_cut_in_two(sign: str) -> None:
    for shift in range(6):
        text = "x" * shift + sign * 60
        cues = read_cues("vtt", written("vtt", segment(0, spoken([text]))))
        lines = [line for cue in cues for line in cue.lines]
        assert "".join(lines) == text
        assert len(lines) > 1
        whole = re.compile(
            f"x*(?:{sign})*" if "\u200c" not in sign else "x*(?:\u0645|\u06cc\u200c)*"
        )
        assert all(whole.fullmatch(line) for line in lines)


def test_a_sign_that_no_line_holds_is_cut() -> None:
    (cue,) = read_cues("srt", written("srt", segment(0, spoken(["e" + "\u0301" * 60]))))
    assert [len(line) for line in cue.lines] == [LINE_COLUMNS, 61 - LINE_COLUMNS]


def test_slow_speech_is_cut_by_time() -> None:
    cues = read_cues("srt", written("srt", segment(0, spoken(["a"] * 10, word_ms=2000))))
    assert [cue.lines for cue in cues] == [["a a a"]] * 3 + [["a"]]


def test_a_language_without_spaces_gets_none() -> None:
    cues = read_cues("vtt", written("vtt", segment(0, spoken(list("你好世界" * 8)), space="")))
    assert all(" " not in line for cue in cues for line in cue.lines)
    assert max(len(line) for cue in cues for line in cue.lines) == LINE_COLUMNS // 2, "wide signs"


def test_a_short_cue_stays_until_it_is_read_or_the_next_one() -> None:
    early, late = segment(0, spoken(["yes"])), segment(1, spoken(["no"], start_ms=5000))
    soon = segment(2, spoken(["up"], start_ms=5400))
    cues = read_cues("srt", written("srt", early, late, soon))
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(0, 1000), (5000, 5400), (5400, 6400)]


def test_no_speech_is_still_a_valid_file() -> None:
    assert written("srt") == ""
    assert written("vtt") == "WEBVTT\n\n"


def test_json_has_the_words_and_harmless_text() -> None:
    final = Final(
        3,
        "a\x1b[2J b",
        (Word("a\x1b[2J", 10, 20, 0.123456, (UNIT,)), Word("b", 20, 30, 1.0)),
        10,
        30,
    )
    assert json.loads(written("jsonl", final)) == {
        "file": "speech.wav",
        "segment": 3,
        "text": "a[2J b",
        "start_ms": 10,
        "end_ms": 30,
        "words": [
            {"text": "a[2J", "start_ms": 10, "end_ms": 20, "confidence": 0.1235, "units": UNITS},
            {"text": "b", "start_ms": 20, "end_ms": 30, "confidence": 1.0, "units": []},
        ],
        "alternatives": [],
        "second_pass": False,
    }


def test_json_lists_the_alternatives() -> None:
    found = (Alternative("a\x1b[2J", -1.23456), Alternative("", -20.0))
    final = Final(0, "a", (Word("a", 10, 20, 1.0),), 10, 20, found)
    assert json.loads(written("jsonl", final))["alternatives"] == [
        {"text": "a[2J", "score": -1.2346},
        {"text": "", "score": -20.0},
    ]


@pytest.mark.parametrize("text", ["", " ", "\x1b\u202e"])
@pytest.mark.parametrize(
    ("style", "nothing"), [("text", ""), ("jsonl", ""), ("srt", ""), ("vtt", "WEBVTT\n\n")]
)
def test_a_segment_without_text_writes_nothing(style: str, nothing: str, text: str) -> None:
    assert written(style, Final(0, text, (), 500, 500, (Alternative("", -1.0),))) == nothing


def test_text_is_one_line_per_segment() -> None:
    assert written("text", segment(0, spoken(["a\nb", "c"]))) == "a b c\n"
