"""Text files that are read, and those that are refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_asr.errors import EdgeAsrError, InputMissingError, UsageError
from edge_asr.fusion.text_file import read_text


def read(path: Path, max_bytes: int = 100) -> str:
    return read_text(
        path,
        repr(path.name),
        wanted="a list of names",
        max_bytes=max_bytes,
        too_large=f"larger than {max_bytes} bytes; give fewer names",
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        ("\ufeffé\r\n".encode(), "é\r\n"),  # the lines stay as they are
        (b"x" * 100, "x" * 100),
    ],
)
def test_a_file_is_read(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    assert read(file) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 101, "larger than 100 bytes; give fewer names"),
        (b"ONE\n\xff", "byte 4 is not UTF-8; save it as UTF-8"),
        ("\ud800".encode("utf-8", "surrogatepass"), "byte 0 is not UTF-8; save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_small_text_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read(file)
    assert str(caught.value) == f"'names.txt': {message}"


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)  # no bytes on the disk
    with pytest.raises(UsageError, match="larger than"):
        read(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "no such file; give a list of names"),
        ("", "is no regular file; give a list of names"),
        ("pipe", "is no regular file; give a list of names"),
        ("zero\0", "no such file; give a list of names"),
        ("x" * 5000, "File name too long; give a file that may be read"),
    ],
)
def test_files_that_are_not_there(tmp_path: Path, name: str, message: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / name
    with pytest.raises(InputMissingError) as caught:
        read(path)
    assert str(caught.value) == f"{path.name!r}: {message}"


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "names.txt"
    file.write_text("ONE")

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EdgeAsrError, match="Permission denied; give a file that may be read"):
        read(file)
