"""Captions on real (pseudo) terminals: narrow, dumb, without UTF-8, and gone."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import soundfile

from edge_asr.package.files import Package
from tests.fakemic.program import ROOT
from tests.tiny import RATE, tones

pytestmark = pytest.mark.slow
SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"


class Terminal:
    """The program on a terminal of its own."""

    def __init__(
        self, package: Package, speech: Path, columns: int, rows: int, **environment: str
    ) -> None:
        self.written = b""
        self._fd, child_fd = pty.openpty()
        fcntl.ioctl(child_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        command = [sys.executable, "-m", "edge_asr.mic", "--package", str(package.root)]
        self.program = subprocess.Popen(
            [*command, "--input", str(speech), "--realtime"],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm", **environment},
            stdin=child_fd,
            stdout=child_fd,
            stderr=child_fd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0) and None,
        )
        os.close(child_fd)

    def read_until(self, text: bytes, within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while text not in self.written:
            remaining_s = deadline - time.monotonic()
            assert remaining_s > 0, self.written
            if select.select([self._fd], [], [], remaining_s)[0]:
                self.written += os.read(self._fd, 1 << 16)

    def read_all(self) -> int:
        """The exit code, after everything was read."""
        try:
            while data := os.read(self._fd, 1 << 16):
                self.written += data
        except OSError:
            pass  # the other end is closed
        self.hang_up()
        return self.program.wait(10)

    def hang_up(self) -> None:
        os.close(self._fd)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, tones("▁one ▁two s 1200 ▁two 300"), RATE)
    return path


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (20, 4)])
def test_a_terminal(speech: Path, tiny_package: Package, columns: int, rows: int) -> None:
    terminal = Terminal(tiny_package, speech, columns, rows)
    assert terminal.read_all() == 0
    assert b"one twos\r\n" in terminal.written
    assert "░".encode() in terminal.written
    assert terminal.written.rfind(SHOW_CURSOR) > terminal.written.rfind(HIDE_CURSOR)
    assert terminal.written.endswith(b"\x1b[2K")  # nothing is left below the captions


def test_a_dumb_terminal_gets_plain_lines(speech: Path, tiny_package: Package) -> None:
    terminal = Terminal(tiny_package, speech, 80, 24, TERM="dumb")
    assert terminal.read_all() == 0
    assert terminal.written.isascii()
    assert b"\x1b" not in terminal.written
    assert terminal.written.replace(b"\r\n", b"\n").endswith(b"channel\none twos\ntwo\n")


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_a_terminal_without_utf8(
    speech: Path, tiny_package: Package, environment: dict[str, str]
) -> None:
    environment = {"PYTHONCOERCECLOCALE": "0", **environment}
    terminal = Terminal(tiny_package, speech, 80, 24, **environment)
    assert terminal.read_all() == 0
    assert terminal.written.isascii()
    assert b"one twos\r\n" in terminal.written


def test_a_terminal_that_is_closed(speech: Path, tiny_package: Package) -> None:
    terminal = Terminal(tiny_package, speech, 80, 24)
    terminal.read_until(b"one")
    terminal.hang_up()
    assert terminal.program.wait(5) in (128 + 1, 128 + 13)


def test_ctrl_c_leaves_the_words_and_the_cursor(speech: Path, tiny_package: Package) -> None:
    terminal = Terminal(tiny_package, speech, 80, 24)
    terminal.read_until(b"one")
    os.write(terminal._fd, b"\x03")
    assert terminal.read_all() == 130
    assert b"Traceback" not in terminal.written
    assert terminal.written.rfind(SHOW_CURSOR) > terminal.written.rfind(HIDE_CURSOR)
    assert terminal.written.count(b"one") >= 2
