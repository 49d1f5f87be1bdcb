"""Which view is chosen."""

from __future__ import annotations

import io

import pytest

from edge_asr.captions.json_lines import JsonCaptions
from edge_asr.captions.lines import PlainCaptions
from edge_asr.captions.live import LiveCaptions
from edge_asr.captions.view import open_captions


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
