"""Where captions go, and what must never reach a terminal."""

from __future__ import annotations

import errno
import io
import json
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.captions.json_lines import JsonCaptions
from edge_asr.captions.lines import PlainCaptions, remark
from edge_asr.console import clean
from edge_asr.errors import OutputError
from edge_asr.events import Alternative, Final, Gap, Partial, Status, Word, WordUnit

HOSTILE = "a\x1b[2Jb\x07\x9b31m\u202ec\r\nd\u2028e\x00"
WORD = Word("on\x1be", 0, 320, 0.5)


class Failing(io.StringIO):
    """A stdout that cannot be written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, text: str) -> int:
        raise OSError(self._number, "no")


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_clean_text_stays_on_its_line(text: str) -> None:
    cleaned = clean(text)
    assert all(
        character in " \u200c\u200d" or unicodedata.category(character)[0] not in "CZ"
        for character in cleaned
    )
    assert clean(cleaned) == cleaned
    assert len(cleaned) <= len(text)


def test_clean_keeps_what_writes_and_what_joins() -> None:
    written = "Grüße, 你好! नमस्ते \u0645\u06cc\u200c\u062e"
    assert clean(written) == written
    assert clean(HOSTILE) == "a[2Jb31mc  d e"


def test_plain_captions_are_lines_and_remarks_go_elsewhere() -> None:
    out, err = io.StringIO(), io.StringIO()
    captions = PlainCaptions(out, err)
    captions.show(Partial(0, "one", " two", 640))
    captions.show(Status("listening", "listening to 'x'\x1b[2J", 0))
    captions.show(Final(0, "one two", (), 0, 640))
    captions.show(Final(1, "", (), 0, 640))
    captions.show(Gap(640, 2000, "unplugged"))
    assert out.getvalue() == "one two\n"
    assert err.getvalue().splitlines() == [
        "edge-asr: listening to 'x'[2J",
        "edge-asr: [audio lost: 1.4 s, microphone unplugged]",
    ]


def test_json_numbers_have_four_digits() -> None:
    out = io.StringIO()
    final = Final(
        0,
        "a",
        (Word("a", 10, 20, 1 / 3, (WordUnit("▁a", 10, 15, 2 / 3),)),),
        10,
        20,
        (Alternative("a", -2 / 3),),
    )
    JsonCaptions(out).show(final)
    fields = json.loads(out.getvalue())
    (word,) = fields["words"]
    assert word.pop("units") == [
        {"symbol": "▁a", "start_ms": 10, "end_ms": 15, "confidence": 0.6667}
    ]
    assert word == {"text": "a", "start_ms": 10, "end_ms": 20, "confidence": 0.3333}
    assert fields["alternatives"] == [{"text": "a", "score": -0.6667}]


@pytest.mark.parametrize("style", ["plain", "jsonl"])
def test_warnings_are_on_stderr(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainCaptions(sys.stdout, sys.stderr)
    captions = plain if style == "plain" else JsonCaptions(sys.stdout)
    captions.warn("no\nfile \x1b[2J")
    assert capsys.readouterr() == ("", "edge-asr: no file [2J\n")


def test_captions_go_on_without_a_place_for_remarks() -> None:
    out = io.StringIO()
    captions = PlainCaptions(out, Failing(errno.ENOSPC))
    captions.show(Gap(0, 10, "overflow"))
    captions.show(Final(0, "one", (), 0, 640))
    assert out.getvalue() == "one\n"


@pytest.mark.parametrize(
    "event",
    [
        Partial(3, "one", HOSTILE, 640, (WORD,)),
        Final(0, HOSTILE, (WORD, WORD), 0, 320, (Alternative(HOSTILE, -3.0),)),
        Gap(0, 10, "overload"),
        Status("silent", HOSTILE, 5),
    ],
)
def test_json_lines_hold_every_field(event: Partial | Final | Gap | Status) -> None:
    out = io.StringIO()
    JsonCaptions(out).show(event)
    (line,) = out.getvalue().splitlines()
    fields = json.loads(line)
    assert fields.pop("type") == type(event).__name__.lower()
    assert fields.keys() == vars(event).keys()
    assert "\x1b" not in json.dumps(fields, ensure_ascii=False)
    assert "\\u001b" not in line


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO])
def test_a_reader_that_is_gone_is_told_from_a_full_disk(number: int) -> None:
    with pytest.raises(BrokenPipeError):
        JsonCaptions(Failing(number)).show(Gap(0, 10, "overflow"))
    with pytest.raises(OutputError, match="captions cannot be written to stdout: no"):
        JsonCaptions(Failing(errno.ENOSPC)).show(Gap(0, 10, "overflow"))


def test_every_cause_of_a_gap_has_words() -> None:
    words = {remark(Gap(0, 1500, r)) for r in ("overflow", "unplugged", "stalled", "overload")}
    assert len(words) == 4
    assert all(word.startswith("[audio lost: 1.5 s, ") for word in words)
