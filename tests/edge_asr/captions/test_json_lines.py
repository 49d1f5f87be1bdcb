"""Events as JSON, and what must never reach a terminal."""

from __future__ import annotations

import io
import json
import sys

import pytest

from edge_asr.captions.json_lines import JsonCaptions
from edge_asr.events import Alternative, Final, Gap, Partial, Status, Word, WordUnit

HOSTILE = "a\x1b[2Jb\x07\x9b31m\u202ec\r\nd\u2028e\x00"
WORD = Word("on\x1be", 0, 320, 0.5)


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


def test_warnings_are_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    JsonCaptions(sys.stdout).warn("no\nfile \x1b[2J")
    assert capsys.readouterr() == ("", "edge-asr: no file [2J\n")


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
