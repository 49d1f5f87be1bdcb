"""Which view is chosen."""

from __future__ import annotations

import io

import pytest

from edge_asr.captions.json_lines import JsonCaptions
from edge_asr.captions.lines import PlainCaptions
from edge_asr.captions.live import LiveCaptions
from edge_asr.captions.meter import Meter
from edge_asr.captions.view import open_captions
from edge_asr.events import Final, Partial


class Terminal(io.StringIO):
    """A stdout that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("style", "terminal", "expected"),
    [
        ("jsonl", "xterm", JsonCaptions),
        ("plain", "xterm", PlainCaptions),
        ("live", "xterm", LiveCaptions),
        (None, "xterm", LiveCaptions),
        (None, "dumb", PlainCaptions),
        ("live", "dumb", PlainCaptions),
        (None, "", PlainCaptions),
        ("live", "", PlainCaptions),
        ("jsonl", "", JsonCaptions),
    ],
)
def test_the_view_of_a_format(
    style: str | None, terminal: str, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", Terminal() if terminal else io.StringIO())
    monkeypatch.setenv("TERM", terminal)
    captions = open_captions(style)
    assert type(captions) is expected
    captions.close()


@pytest.mark.parametrize("columns", ["0", "1", "2", "x"])
def test_a_terminal_of_a_strange_size_gets_captions(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", "0")
    captions = open_captions(None)
    captions.show(Partial(0, "one", " two", 900))
    captions.refresh(Meter())
    captions.show(Final(0, "one two", (), 0, 900))
    captions.close()
    assert "one two" in terminal.getvalue()
