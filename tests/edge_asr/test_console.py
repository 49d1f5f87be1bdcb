"""Text that is harmless to a terminal, on one line."""

from __future__ import annotations

import io
import os
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.console import clean, complain, open_terminal, standard_streams
from tests.child import in_child

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


def test_where_there_is_no_stderr_stdout_does_not_take_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    complain("what")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_missing_descriptors_are_opened(closed: tuple[int, ...]) -> None:
    def found() -> list[bool]:
        for descriptor in closed:
            os.close(descriptor)
        with standard_streams():
            pass
        nowhere = os.stat(os.devnull)
        same = [os.path.samestat(os.fstat(descriptor), nowhere) for descriptor in closed]
        return [*same, *(os.get_inheritable(descriptor) for descriptor in closed)]

    assert all(in_child(found))


def test_a_missing_stream_is_there_for_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with standard_streams():
        complain("what")
        print("text")
        assert not sys.stderr.isatty()
    assert sys.stderr is None
    assert capsys.readouterr().out == "text\n"


@pytest.mark.parametrize("size", ["0", "00", "-5", "x", "", "\u00b2", "9" * 5000])
def test_sizes_that_no_terminal_has_are_not_believed(
    size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "LINES"):
        monkeypatch.setenv(name, size)
    found = open_terminal().size
    assert 1 <= found.width < 10_000 and 1 <= found.height < 10_000


def test_sizes_that_are_asked_for_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "1")
    monkeypatch.setenv("LINES", "50")
    assert open_terminal(stderr=True).size == (1, 50)
