"""Where captions go, and what must never reach a terminal."""

from __future__ import annotations

import errno
import io
import sys

import pytest

from edge_asr.captions.lines import PlainCaptions, remark, write_caption
from edge_asr.errors import OutputError
from edge_asr.events import Final, Gap, Partial, Status, Word

HOSTILE = "a\x1b[2Jb\x07\x9b31m\u202ec\r\nd\u2028e\x00"
WORD = Word("on\x1be", 0, 320, 0.5)


class Failing(io.StringIO):
    """A stdout that cannot be written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, text: str) -> int:
        raise OSError(self._number, "no")


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


def test_warnings_are_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    PlainCaptions(sys.stdout, sys.stderr).warn("no\nfile \x1b[2J")
    assert capsys.readouterr() == ("", "edge-asr: no file [2J\n")


def test_captions_go_on_without_a_place_for_remarks() -> None:
    out = io.StringIO()
    captions = PlainCaptions(out, Failing(errno.ENOSPC))
    captions.show(Gap(0, 10, "overflow"))
    captions.show(Final(0, "one", (), 0, 640))
    assert out.getvalue() == "one\n"


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO])
def test_a_reader_that_is_gone_is_told_from_a_full_disk(number: int) -> None:
    with pytest.raises(BrokenPipeError):
        write_caption(Failing(number), "one")
    with pytest.raises(OutputError, match="captions cannot be written to stdout: no"):
        write_caption(Failing(errno.ENOSPC), "one")


def test_every_cause_of_a_gap_has_words() -> None:
    words = {remark(Gap(0, 1500, r)) for r in ("overflow", "unplugged", "stalled", "overload")}
    assert len(words) == 4
    assert all(word.startswith("[audio lost: 1.5 s, ") for word in words)
