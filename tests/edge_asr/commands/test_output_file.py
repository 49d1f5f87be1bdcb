"""Lines to files, and to what is no file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_asr.commands.output_file import is_same_file, names_stdout, open_output
from edge_asr.errors import OutputError
from tests.fakemic.program import ROOT

WRITE = """
import sys
from pathlib import Path
from edge_asr.commands.output_file import open_output
with open_output(Path(sys.argv[1])) as put:
    put("é")
"""


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target.name)
    with open_output(link) as put:
        put("new")
        assert target.read_text() == "old", "whole or not at all"
    assert link.is_symlink()
    assert target.read_text() == "new\n"


def test_what_goes_while_it_is_asked_for_is_no_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, link = tmp_path / "one", tmp_path / "link"
    one.touch()
    link.symlink_to(one)
    assert is_same_file(one, str(link))
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    for other in (tmp_path / "gone", "a\0b", tmp_path):
        assert not is_same_file(one, other) and not is_same_file(other, one)


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    # A pipe stands for /dev/null, which a mistake here would really replace, run by root.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with open_output(pipe) as put:
            put("text")
        assert pipe.is_fifo()
        assert os.read(reader, 100) == b"text\n"
    finally:
        os.close(reader)


@pytest.mark.parametrize("stem", ["語" * 83, "é" * 125, "a" * 251, "\udcff" * 251])
def test_names_are_as_long_as_file_systems_allow_which_count_bytes(
    tmp_path: Path, stem: str
) -> None:
    output = tmp_path / f"{stem}.srt"
    with open_output(output) as put:
        put("text")
    assert list(tmp_path.iterdir()) == [output]


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "captions.txt"
    with pytest.raises(OutputError, match=r"captions.*No space left"), open_output(output) as put:
        put("x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Without a name, as a shell makes it."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd", "/proc/{pid}/fd"])
def test_a_descriptor_by_name(folder: str, pipe: tuple[int, int], tmp_path: Path) -> None:
    reader, writer = pipe
    name = Path(folder.format(pid=os.getpid())) / str(writer)
    link = tmp_path / "link"
    link.symlink_to(name)
    for target in (name, link):
        with open_output(target) as put:
            put("text")
        assert os.read(reader, 100) == b"text\n"
    assert link.is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/stderr"])
def test_a_file_that_the_caller_opened_is_written_on(name: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as file:
        subprocess.run(
            [sys.executable, "-c", WRITE, name], cwd=ROOT, stdout=file, stderr=file, check=True
        )
    assert log.read_text(encoding="utf-8") == "before\né\n"
    assert list(tmp_path.iterdir()) == [log]


def test_a_descriptor_that_is_not_open(pipe: tuple[int, int]) -> None:
    closed = os.dup(pipe[1])
    os.close(closed)
    with (
        pytest.raises(OutputError, match="cannot be written: Bad file descriptor"),
        open_output(Path(f"/dev/fd/{closed}")),
    ):
        pass


def test_what_is_standard_output(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/stdout")
    (tmp_path / "loop").symlink_to("loop")
    assert all(map(names_stdout, ["-", "/dev/stdout", "/dev/fd/1", str(tmp_path / "log")]))
    others = ["./-", "/dev/stderr", "/dev/null", "1", "", str(tmp_path / "loop")]
    assert not any(map(names_stdout, others))
