"""Bytes by their offset, of what can be read only once."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from edge_asr.audio import content as contents
from edge_asr.audio.content import FileContent, Section, StreamContent, spooled
from edge_asr.errors import AudioError

DATA = bytes(range(256)) * 4000


def test_a_stream_is_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    stream = StreamContent(io.BytesIO(DATA).read)
    with (tmp_path / "a").open("rb") as file:
        content = FileContent(file.fileno())
        for offset, count in [(0, 12), (70_000, 100), (5, 300_000), (len(DATA) - 3, 9), (1, 1)]:
            assert stream.at(offset, count) == content.at(offset, count) != b""
        assert stream.at(len(DATA), 1) == content.at(len(DATA), 1) == b""
        assert content.end == len(DATA)


def test_what_is_there_is_given_where_that_is_enough() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    stream = StreamContent(lambda size: os.read(reader, size))
    assert stream.at(0, 1000, whole=False) == b"abc"
    os.write(writer, b"de")
    assert stream.at(1, 1000, whole=False) == b"bc"
    assert stream.at(3, 1000, whole=False) == b"de"
    os.close(writer)
    assert stream.at(5, 1000, whole=False) == b""
    os.close(reader)


def test_a_long_stream_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_KEPT_BYTES", 10_000)
    stream = StreamContent(io.BytesIO(DATA).read)
    stream.settled = True
    for offset in range(0, len(DATA), 5000):
        assert stream.at(offset, 5000) == DATA[offset : offset + 5000]
        assert len(stream._kept) < 10_000 * 3 + 2 * 65_536
    with pytest.raises(AudioError, match="was read before"):
        stream.at(0, 1)


def test_a_spool_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with spooled(StreamContent(io.BytesIO(DATA).read)) as file:
        assert FileContent(file.fileno()).at(0, len(DATA)) == DATA
    monkeypatch.setattr(contents, "MAX_SPOOLED_BYTES", 100_000)
    with pytest.raises(AudioError, match="give the path of a file"):
        spooled(StreamContent(io.BytesIO(DATA).read))


def test_a_section_is_a_file() -> None:
    section = Section(StreamContent(io.BytesIO(DATA).read), 10, 20, length=10)
    buffer = bytearray(7)
    assert section.readinto(memoryview(buffer)) == 7
    assert buffer == DATA[10:17]
    assert section.readinto(memoryview(buffer)) == 3
    assert (section.tell(), section.farthest) == (10, 20)
    assert section.readinto(memoryview(buffer)) == 0
    assert section.seek(2) == 2
    assert section.readinto(memoryview(buffer)) == 7
    assert buffer == DATA[12:19]
    assert section.seek(0, os.SEEK_END) == 10
