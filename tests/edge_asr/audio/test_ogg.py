"""Ogg: links of a chain, pages that are missing or damaged."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest

from edge_asr.audio.content import StreamContent
from edge_asr.audio.ogg import Pages, ogg_blocks
from edge_asr.audio.read import read_blocks
from edge_asr.errors import TruncatedError
from tests.edge_asr.audio import inputs
from tests.edge_asr.audio.inputs import SIGNAL, WAYS, encoded, heard, listen

LONG = np.tile(SIGNAL, 4)


def pages_of(data: bytes) -> list[tuple[int, int]]:
    return [(p.offset, p.size) for p in Pages(StreamContent(io.BytesIO(data).read))]


def test_pages_are_all_of_a_file() -> None:
    data = encoded("opus", LONG)
    pages = pages_of(data)
    assert len(pages) > 5
    assert [start + size for start, size in pages] == [
        *[start for start, _ in pages[1:]],
        len(data),
    ]


@pytest.mark.parametrize("way", WAYS)
def test_links_of_other_rates_and_codecs(way: str, tmp_path: Path) -> None:
    data = encoded("vorbis") + encoded("opus") + encoded("vorbis", SIGNAL, 22050)
    with inputs.given(data, way, tmp_path) as source:
        blocks = list(read_blocks(source, 0.5))
    lengths = {rate: sum(len(b) for b, r in blocks if r == rate) for _, rate in blocks}
    assert lengths == {16000: 2 * len(SIGNAL), 22050: len(SIGNAL)}


@pytest.mark.parametrize("name", ["vorbis", "opus"])
def test_the_last_page_is_missing(name: str, tmp_path: Path) -> None:
    data = encoded(name, LONG)
    last, _ = pages_of(data)[-1]
    samples, error = heard(data[:last], "file", tmp_path)
    assert len(LONG) * 0.4 < len(samples) < len(LONG)
    assert isinstance(error, TruncatedError)
    assert "the last page is missing" in str(error)


class LateFile(io.FileIO):
    """Whose closing is seen by its reader long before the writer goes on."""

    def close(self) -> None:
        super().close()
        time.sleep(0.1)


def test_what_reading_raised_is_known_when_the_pipe_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    data, reads = encoded("vorbis", LONG), 0

    def read(size: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise KeyboardInterrupt
        return data[
            :1000
        ]  # the first page, and not all of the second, without which it is no Vorbis

    monkeypatch.setattr(os, "fdopen", lambda descriptor, *_, **__: LateFile(descriptor, "wb"))
    with pytest.raises(KeyboardInterrupt):
        list(ogg_blocks(StreamContent(read), 0.1))


def test_whole_pages_have_no_damage() -> None:
    pages = Pages(StreamContent(io.BytesIO(encoded("vorbis") + encoded("opus")).read))
    assert len(list(pages)) > 5
    assert pages.lost == ""


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("damage", [slice(0, None), slice(100, 101)])
def test_a_damaged_page_is_said(damage: slice, way: str, tmp_path: Path) -> None:
    data = encoded("opus", LONG)
    start, size = pages_of(data)[5]
    page = bytearray(data[start : start + size])
    page[damage] = b"?" if damage.start else b"garbage that was a page"
    damaged = data[:start] + page + data[start + size :]
    samples, error = heard(damaged, way, tmp_path)
    assert len(samples) > len(LONG) * 0.7, "reading goes on after it"
    assert isinstance(error, TruncatedError)
    assert "damaged" in str(error)


@pytest.mark.slow
def test_a_reader_that_stops_early_leaves_no_thread_waiting(tmp_path: Path) -> None:
    with inputs.given(encoded("opus", LONG) * 20, "file", tmp_path) as source:
        blocks = read_blocks(source, 0.1)
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]
        samples, error = listen(source)
    assert error is None
    assert len(samples) == 20 * len(LONG)
