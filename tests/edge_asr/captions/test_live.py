"""The live view on a terminal that is made of a grid of characters."""

from __future__ import annotations

import errno
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from edge_asr.captions.live import LiveCaptions
from edge_asr.captions.meter import Meter
from edge_asr.events import Final, Gap, Partial, Status

LISTENING = Status("listening", "listening to 'desk', 16000 Hz, 1 channel", 0)
_SEQUENCE = re.compile(r"\x1b\[(\?25[lh]|\d*[AK]|[\d;]*m)|\r|\n|[^\x1b]")


class Screen(io.StringIO):
    """Understands what rich writes; anything else, as a sequence from a caption, fails."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding
        self.lines = [""]
        self.row = self.column = self.deepest_up = 0
        self.cursor = True
        self.styles: dict[str, str] = {}
        self._style = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def write(self, text: str) -> int:
        super().write(text)
        position = 0
        while position < len(text):
            found = _SEQUENCE.match(text, position)
            assert found, f"unknown sequence {text[position : position + 9]!r}"
            self._obey(found[0])
            position = found.end()
        return len(text)

    def _obey(self, part: str) -> None:
        if part == "\r":
            self.column = 0
        elif part == "\n":
            self.row, self.column = self.row + 1, 0
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif part.startswith("\x1b[?"):
            self.cursor = part.endswith("h")
        elif part.startswith("\x1b") and part.endswith("A"):
            self.row -= int(part[2:-1])
            self.deepest_up = max(self.deepest_up, len(self.lines) - self.row)
            assert self.row >= 0
        elif part.startswith("\x1b") and part.endswith("K"):
            self.lines[self.row] = ""
        elif part.startswith("\x1b"):
            self._style = part[2:-1]
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
            self.styles[part] = self._style
            self.column += 1

    @property
    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.lines]


def live_on(screen: Screen, width: int = 80, height: int = 24) -> LiveCaptions:
    return LiveCaptions(
        Console(
            file=screen,
            force_terminal=True,
            color_system="standard",
            width=width,
            height=height,
            highlight=False,
            legacy_windows=False,
            _environ={"TERM": "xterm"},
        )
    )


def test_captions_grow_and_finished_ones_stay() -> None:
    screen = Screen()
    live = live_on(screen)
    live.show(LISTENING)
    live.show(Partial(0, "QVW", " XYZ", 640))
    assert screen.shown[0] == "QVW XYZ"
    assert screen.styles["Q"] in ("", "0")
    assert screen.styles["X"] == "2"  # dim
    live.show(Final(0, "QVW XYZ", (), 0, 640))
    live.show(Gap(640, 2140, "unplugged"))
    live.show(Partial(1, "", "next", 3000))
    assert screen.shown[:3] == ["QVW XYZ", "[audio lost: 1.5 s, microphone unplugged]", "next"]
    live.show(Final(1, "next", (), 2500, 3000))
    live.close()
    assert [line for line in screen.shown if line] == [
        "QVW XYZ",
        "[audio lost: 1.5 s, microphone unplugged]",
        "next",
    ]
    assert screen.row == 3  # the shell goes on right below


def test_open_segments_are_shown_in_order_and_scroll_up_in_order() -> None:
    screen = Screen()
    live = live_on(screen)
    live.show(LISTENING)
    live.show(Partial(9, "nine", "", 640))  # its second pass takes long
    live.show(Partial(10, "", "te", 1280))
    live.show(Partial(9, "nine", " more", 1280))
    assert screen.shown[:2] == ["nine more", "te"]
    live.show(Partial(10, "ten", "", 1920))
    live.show(Partial(11, "", "eleven", 2560))
    live.show(Final(9, "nine", (), 0, 640))
    assert screen.shown[:3] == ["nine", "ten", "eleven"]
    assert screen.styles["v"] == "2", "still open"
    live.show(Final(10, "", (), 1280, 1280))
    assert screen.shown[:2] == ["nine", "eleven"], "a text that turned out to be nothing"
    live.show(Final(11, "eleven", (), 2000, 2560))
    live.close()
    assert [line for line in screen.shown if line] == ["nine", "eleven"]
    assert screen.row == 2


def test_a_partial_without_text_clears_the_tail() -> None:
    screen = Screen()
    live = live_on(screen)
    live.show(LISTENING)
    live.show(Partial(0, "", "noise", 640))
    live.show(Partial(0, "", "", 1280))
    assert "noise" not in " ".join(screen.shown)
    assert "listening" in screen.shown[1]
    live.show(Final(0, "", (), 1280, 1280))
    live.show(Partial(1, "", "word", 1920))
    assert screen.shown[0] == "word"
    live.close()


def test_warnings_are_between_the_captions() -> None:
    screen = Screen()
    live = live_on(screen)
    live.show(LISTENING)
    live.show(Partial(0, "", "seven", 640))
    live.warn("'words.txt': gone\x1b[2J")
    assert screen.shown[:2] == ["'words.txt': gone[2J", "seven"]
    live.close()


def test_no_moment_shows_a_caption_twice() -> None:
    screen = Screen()
    live = live_on(screen)
    live.show(Partial(0, "", "seventeen", 640))
    screen.truncate(0)
    screen.seek(0)
    live.show(Final(0, "seventeen", (), 0, 640))
    assert screen.getvalue().count("seventeen") == 1
    live.close()


def test_the_state_line_shows_level_lag_and_load() -> None:
    screen = Screen()
    live = live_on(screen, width=120)
    live.show(LISTENING)
    live.refresh(Meter(level_db=-30.0, lag_ms=1500, rtf=0.25))
    state = screen.shown[1]
    assert state.startswith(
        "█" * 8 + "░" * 8 + "  -30 dB  lag 1.5 s  rtf 0.25  listening to 'desk'"
    )
    live.show(Status("lost", "microphone 'desk' is gone; waiting for it to come back", 900))
    assert screen.shown[1] == "microphone 'desk' is gone; waiting for it to come back"
    live.show(Status("recovered", "back: 'desk'", 900))
    assert "-30 dB" in screen.shown[1]
    live.close()


def test_nothing_new_draws_nothing() -> None:
    screen = Screen()
    live = live_on(screen)
    live.show(LISTENING)
    live.refresh(Meter(level_db=-30.0))
    written = len(screen.getvalue())
    for _ in range(5):
        live.refresh(Meter(level_db=-30.001))
    assert len(screen.getvalue()) == written
    live.close()


def test_the_cursor_is_never_missing() -> None:
    screen = Screen()
    live = live_on(screen)
    assert screen.cursor
    live.show(Partial(0, "", "one", 640))
    assert screen.cursor
    live.close()
    assert screen.cursor


@settings(max_examples=30, deadline=None)
@given(
    words=st.lists(st.text(max_size=30), max_size=60),
    width=st.integers(5, 60),
    height=st.integers(3, 12),
)
def test_never_taller_than_the_screen(words: list[str], width: int, height: int) -> None:
    screen = Screen()
    live = live_on(screen, width, height)
    live.show(LISTENING)
    for count in range(0, len(words) + 1, 7):
        live.show(Partial(0, " ".join(words[:count]), " \x1b[2J tail", 640))
        live.show(Partial(1, " ".join(words[count:]), "", 640))
        assert len(screen.lines) <= height
        assert max(map(cell_len, screen.lines)) <= width
    live.show(Status("stalled", "x" * 200, 0))
    assert len(screen.lines) <= height
    live.close()


@pytest.mark.parametrize("word", ["word", "語語"])
def test_a_long_caption_shows_its_end(word: str) -> None:
    screen = Screen()
    live = live_on(screen, width=20, height=6)
    live.show(LISTENING)
    live.show(Partial(0, f"{word} " * 60 + "last", "", 640))
    assert screen.shown[3].endswith("last")
    assert "dB" in screen.shown[4] or "░" in screen.shown[4]
    live.close()


def test_hostile_text_is_only_text() -> None:
    screen = Screen()
    live = live_on(screen)
    hostile = "\x1b[2J\x1b]0;title\x07[bold]x[/bold]\u202e"
    live.show(Status("waiting", hostile, 0))
    live.show(Partial(0, hostile, hostile, 640))
    live.show(Final(0, hostile, (), 0, 640))
    assert screen.shown[0] == "[2J]0;title[bold]x[/bold]"
    live.close()


def test_a_terminal_without_blocks_gets_ascii() -> None:
    screen = Screen("ascii")
    live = live_on(screen, width=20)
    live.show(LISTENING)
    live.refresh(Meter(level_db=-30.0))
    assert screen.shown[1].isascii()
    assert "##" in screen.shown[1]
    live.close()


class Gone(Screen):
    gone = False

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(errno.EIO, "gone")
        return super().write(text)


def test_a_terminal_that_is_gone_ends_captions_quietly() -> None:
    screen = Gone()
    live = live_on(screen)
    screen.gone = True
    with pytest.raises(BrokenPipeError):
        live.show(Partial(0, "", "one", 640))
    live.close()
