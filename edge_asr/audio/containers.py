"""Where a container keeps its samples, and how many bytes of them its header promises.

libsndfile takes these lengths at their word and does not say what it leaves out. A recorder writes
0, or the largest number that fits, for "not known yet"; past 4 GB some write it modulo 2^32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edge_asr.audio.content import Content, Incomplete

HEADER_LIMIT_BYTES = 1 << 20  # of what comes before the samples, in a pipe
_SEEN_AFTER_SAMPLES = {
    *(b"LIST", b"id3 ", b"ID3 ", b"PEAK", b"fact", b"bext", b"iXML", b"cue ", b"smpl"),
    *(b"COMM", b"MARK", b"COMT", b"CHAN", b"info", b"strg", b"_PMX", b"JUNK", b"PAD "),
}
_ID3V1_BYTES = 128


@dataclass(frozen=True)
class Layout:
    """How a family of containers writes its chunks."""

    endian: str  # of samples, as soundfile calls it, where the file says nothing else
    first: int  # offset of the first chunk
    size_format: str
    data: bytes  # id of the chunk with the samples; empty where there are no chunks
    lead: int = 0  # bytes in that chunk before the samples
    id_bytes: int = 4
    align: int = 2
    counts_header: bool = False  # a chunk's size includes its id and size

    @property
    def size_bytes(self) -> int:
        """Of the field with a chunk's size."""
        return struct.calcsize(self.size_format)

    @property
    def header_bytes(self) -> int:
        """Of one chunk."""
        return self.id_bytes + self.size_bytes


_RIFF = Layout("LITTLE", 12, "<I", b"data")
_AIFF = Layout("BIG", 12, ">I", b"SSND", lead=8)
_W64 = Layout(
    "LITTLE", 40, "<Q", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", 0, 16, 8, True
)
_LAYOUTS = {  # first four bytes, and bytes 8 to 12 where they matter
    (b"RIFF", b"WAVE"): _RIFF,
    (b"RF64", b"WAVE"): _RIFF,
    (b"BW64", b"WAVE"): _RIFF,
    (b"RIFX", b"WAVE"): Layout("BIG", 12, ">I", b"data"),
    (b"FORM", b"AIFF"): _AIFF,
    (b"FORM", b"AIFC"): _AIFF,
    (b"riff", b""): _W64,
    (b"caff", b""): Layout("BIG", 8, ">q", b"data", lead=4, align=1),
}
_AU = {b".snd": ">II", b"dns.": "<II"}  # no chunks: offset and length of the samples


@dataclass(frozen=True)
class DataChunk:
    """The samples of a container: offset of the first, and bytes of them that the header promises;
    None where it does not know."""

    layout: Layout
    start: int
    length: int | None

    def stop(self, content: Content, frame_bytes: int) -> int | None:
        """Offset after the last whole frame of those that were promised."""
        if self.length is None:
            return content.end
        return self.start + self.length - self.length % frame_bytes

    def is_healthy(self, content: Content) -> bool:
        """Whether the header's length is the whole truth, in a file."""
        end = content.end
        return (
            self.length is not None
            and end is not None
            and self.start + self.length <= end
            and not self.more_follow(content)
            and not self._another_follows(content)
        )

    def header(self, content: Content, count: int) -> bytes:
        """What stands before the samples, made to promise ``count`` bytes, and these as zeros."""
        header, layout = bytearray(content.at(0, self.start)), self.layout
        if layout.data:
            size = count + layout.lead + layout.header_bytes * layout.counts_header
            struct.pack_into(
                layout.size_format, header, self.start - layout.lead - layout.size_bytes, size
            )
        return bytes(header) + bytes(count)

    def more_follow(self, content: Content) -> bool:
        """Whether what follows the promised samples is no chunk, so that it is samples too."""
        if self.length is None:
            return False
        return not any(_is_chunk(content, self.layout, after) for after in self._after)

    def refuse_another(self, content: Content) -> None:
        """Raise Incomplete if another recording follows, as after ``cat a.wav b.wav``."""
        if self._another_follows(content):
            raise Incomplete("another recording follows, which was not read")

    def _another_follows(self, content: Content) -> bool:
        magics = {magic for magic, _ in _LAYOUTS} | set(_AU)
        return self.length is not None and any(content.at(at, 4) in magics for at in self._after)

    @property
    def _after(self) -> set[int]:
        """Where the next chunk may begin: writers forget to align it."""
        after, align = self.start + (self.length or 0), self.layout.align
        return {after, -(-after // align) * align}


def find_samples(content: Content) -> DataChunk | None:
    """Where the samples are; None if the container is another, or damaged before them."""
    head = content.at(0, 12)
    if head[:4] in _AU and len(head) == 12:
        start, size = struct.unpack(_AU[head[:4]], head[4:])
        endian = "BIG" if head[:4] == b".snd" else "LITTLE"
        plain = Layout(endian, 0, ">I", b"", align=1)
        return DataChunk(plain, start, _known(content, plain, start, size))
    layout = _LAYOUTS.get((head[:4], head[8:12])) or _LAYOUTS.get((head[:4], b""))
    if layout is None:
        return None
    offset, long_size = layout.first, None
    while offset < HEADER_LIMIT_BYTES or content.end is not None:
        header = content.at(offset, layout.header_bytes)
        if len(header) < layout.header_bytes:
            return None
        name, size = header[: layout.id_bytes], _size(header, layout)
        body = offset + layout.header_bytes
        if name == layout.data:
            start = body + layout.lead
            size = long_size if long_size is not None and size == 2**32 - 1 else size
            return DataChunk(layout, start, _known(content, layout, start, size - layout.lead))
        if name == b"ds64":  # the lengths of RF64, which are too long for the chunks
            long_size = int.from_bytes(content.at(body + 8, 8), "little")
        if size < 0 or not _is_name(name):
            return None
        offset = body + -(-size // layout.align) * layout.align
    return None


def _size(header: bytes, layout: Layout) -> int:
    (size,) = struct.unpack(layout.size_format, header[layout.id_bytes :])
    return int(size) - layout.header_bytes if layout.counts_header else int(size)


def _known(content: Content, layout: Layout, start: int, size: int) -> int | None:
    """The length, or None where it stands for one that was not known yet."""
    available = None if content.end is None else content.end - start
    if size <= 0:
        is_empty = _is_chunk(content, layout, start)
        return 0 if is_empty else None
    if available is not None and size <= available:
        return size
    near = 1 << 16
    largest = -near < size - 2**31 < near or 2**32 - near < size < 2**32 or size >= 2**48
    return None if largest else size


def _is_chunk(content: Content, layout: Layout, offset: int) -> bool:
    """Whether a chunk begins there, or nothing that could be samples."""
    header = content.at(offset, layout.header_bytes)
    if len(header) < layout.header_bytes:
        return True
    if header[:3] == b"TAG" and len(content.at(offset, _ID3V1_BYTES + 1)) == _ID3V1_BYTES:
        return True
    if not layout.data or not _is_name(header):
        return False
    end = content.end
    size = _size(header, layout)
    fits = 0 <= size < HEADER_LIMIT_BYTES if end is None else 0 <= size <= end - offset
    return fits or header[:4] in _SEEN_AFTER_SAMPLES


def _is_name(header: bytes) -> bool:
    return all(32 <= byte < 127 for byte in header[:4])
