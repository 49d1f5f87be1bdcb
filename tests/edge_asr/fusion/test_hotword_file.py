"""Hotwords out of options and a file that changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import InputMissingError, UsageError
from edge_asr.fusion.hotword_file import HotwordList


def test_options_come_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# names\nNEW YORK\t3.5\n\nTEN\n")
    assert HotwordList(["ONE"], str(file)).phrases == ("ONE", ("NEW YORK", 3.5), "TEN")
    assert HotwordList(["ONE", "TWO"]).phrases == ("ONE", "TWO")
    assert not HotwordList(["ONE"]).changed()


def test_a_file_of_an_editor_on_windows(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes("\ufeffNEW YORK\t3.5\r\nTEN\r\n".encode())
    assert HotwordList((), str(file)).phrases == (("NEW YORK", 3.5), "TEN")
    file.write_bytes("\ufeff# names\r\nTEN".encode())
    assert HotwordList((), str(file)).phrases == ("TEN",)


def test_a_change_is_seen_once_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("ONE\n")
    hotwords = HotwordList((), str(file))
    assert not hotwords.changed()
    file.write_text("ONE\nTWO\n")
    assert hotwords.changed()
    hotwords.read()
    assert hotwords.phrases == ("ONE", "TWO")
    assert not hotwords.changed()
    # Of the same size: the time tells. In the place of the other, of the same time: the file does.
    os.utime(file, ns=(1, 1))
    assert hotwords.changed()
    hotwords.read()
    other = tmp_path / "other.txt"
    other.write_text("ONE\nSIX\n")
    os.utime(other, ns=(1, 1))
    other.replace(file)
    assert hotwords.changed()


@pytest.mark.parametrize("content", [None, b"\xff", b"ONE\tmany\n"])
def test_a_broken_file_leaves_the_old_phrases_and_is_tried_once(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "words.txt"
    file.write_text("TWO")
    hotwords = HotwordList(["ONE"], str(file))
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert hotwords.changed()
    with pytest.raises(InputMissingError if content is None else UsageError, match=r"words\.txt"):
        hotwords.read()
    assert hotwords.phrases == ("ONE", "TWO")
    assert not hotwords.changed()
    file.write_text("THREE")
    assert hotwords.changed()
    hotwords.read()
    assert hotwords.phrases == ("ONE", "THREE")


@pytest.mark.parametrize("name", ["none.txt", "", "zero\0", "x" * 5000])
def test_files_that_are_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputMissingError):
        HotwordList((), str(tmp_path / name))


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(b"#" * ((8 << 20) + 1))
    with pytest.raises(UsageError, match="larger than 8388608 bytes; give fewer hotwords"):
        HotwordList((), str(file))


@given(content=st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_hotwords_or_wrong_usage(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(content)
    try:
        HotwordList((), str(file))
    except UsageError as error:
        assert str(error).startswith(repr(str(file)))
        assert "\n" not in str(error)
