"""Ogg, page by page: where each link of a chain begins, and whether the last page is there.

Files and recordings may be chained (RFC 3533): a stream ends and the next one begins. libsndfile
reads the first one only, so each is given to it alone, through a pipe of ours.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import soundfile

from edge_asr.audio.content import Content, Incomplete
from edge_asr.audio.decoders import Blocks, decode

_HEADER_BYTES = 27
_FIRST, _LAST = 2, 4  # flags of a page
_SEARCH_BYTES = 1 << 16  # a page is no longer
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Page:
    """Where a page is, and what its header says."""

    offset: int
    size: int
    flags: int
    serial: bytes


class Pages:
    """All whole pages, and what is wrong with them once they are read: ``lost`` in words."""

    def __init__(self, content: Content) -> None:
        self.lost = ""
        self._content = content
        self._open: set[bytes] = set()

    def __iter__(self) -> Iterator[Page]:
        offset = 0
        while (page := self._page(offset)) is not None:
            if page.flags & _FIRST:
                self._open.add(page.serial)
            if page.flags & _LAST:
                self._open.discard(page.serial)
            yield page
            offset = page.offset + page.size
        if self._content.at(offset, 1).strip(b"\0") or self._open:
            self.lost = "the last page is missing"

    def _page(self, offset: int) -> Page | None:
        head = self._content.at(offset, _HEADER_BYTES)
        if len(head) == _HEADER_BYTES and head[:4] != b"OggS":
            found = self._content.at(offset, _SEARCH_BYTES).find(b"OggS")
            if found < 0:
                return None
            self.lost = "a part is damaged"
            return self._page(offset + found)
        if len(head) < _HEADER_BYTES:
            return None
        lengths = self._content.at(offset + _HEADER_BYTES, head[26])
        size = _HEADER_BYTES + len(lengths) + sum(lengths)
        page = self._content.at(offset, size)
        if len(lengths) < head[26] or len(page) < size:
            return None
        if page[22:26] != _checksum(page[:22] + bytes(4) + page[26:]):
            self.lost = "a part is damaged"  # libogg leaves such a page out
        return Page(offset, size, head[5], head[14:18])


def _checksum(page: bytes) -> bytes:
    """Ogg's CRC: zlib's with the bits of each byte mirrored, from zero and not inverted."""
    reflected = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return reflected.to_bytes(4, "big").translate(_MIRRORED)


def is_plain(content: Content) -> bool:
    """Whether it is one whole link, which libsndfile reads well."""
    pages, links, before = Pages(content), 0, 0
    for page in pages:
        links += bool(page.flags & _FIRST and not before & _FIRST)
        before = page.flags
    return links == 1 and not pages.lost


def ogg_blocks(content: Content, block_s: float) -> Blocks:
    """Of all links.

    Raises:
        Incomplete: pages are damaged, or the last one is missing.
    """
    pages = Pages(content)
    rest = iter(pages)
    page = next(rest, None)
    while page is not None:
        link = _Link(content, page, rest)
        try:
            yield from decode(link.reader, block_s)
        except GeneratorExit:
            link.stop()
            raise
        except soundfile.SoundFileError:
            link.stop()
            link.raise_error()
            raise
        page = link.finish()
    if pages.lost:
        raise Incomplete(pages.lost)


class _Link:
    """Writes the pages of one link into a pipe, in a thread of its own."""

    def __init__(self, content: Content, page: Page, rest: Iterator[Page]) -> None:
        self.reader, self._writer = os.pipe()
        self._stopped = False
        self._content, self._rest = content, rest
        self._next: Page | None = page
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="ogg", daemon=True)
        self._thread.start()

    def finish(self) -> Page | None:
        """The first page of the next link, once all of this one was written."""
        self._thread.join()
        self.raise_error()
        return self._next

    def raise_error(self) -> None:
        """Raise what reading the input raised, if it did."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Nobody wants the rest. A pipe that gives nothing now is not waited for."""
        self._stopped = True
        if self._content.end is not None:
            self._thread.join()

    def _write(self) -> None:
        # The error is noted before the pipe is closed: its reader asks for it at the end.
        with os.fdopen(self._writer, "wb", buffering=0) as writer:
            try:
                self._write_pages(writer)
            except BaseException as error:
                self._error = error

    def _write_pages(self, writer: IO[bytes]) -> None:
        begins, is_read = True, True
        while (page := self._next) is not None and (begins or not page.flags & _FIRST):
            if self._stopped:
                return
            begins = begins and bool(page.flags & _FIRST)
            data = memoryview(self._content.at(page.offset, page.size))
            while data and is_read:
                try:
                    data = data[writer.write(data) :]
                except BrokenPipeError:  # libsndfile has had enough of this link
                    is_read = False
            self._next = next(self._rest, None)
