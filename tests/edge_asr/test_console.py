"""Text that is harmless to a terminal, on one line."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.console import clean, complain

HOSTILE = "a\x1b[2Jb\x07\x9b31m\u202ec\r\nd\u2028e\x00"


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


def test_a_complaint_is_one_line_with_the_name_of_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    complain(ValueError("a\nb\x1b[31m"))
    complain("what", "apps.one")
    assert capsys.readouterr() == ("", "edge-asr: a b[31m\napps.one: what\n")


def test_where_nobody_can_be_told_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    complain("what")
