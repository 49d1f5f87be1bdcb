"""MP3 to its end, whatever its header or its first frame lets expect."""

from __future__ import annotations

import contextlib
import struct

import soundfile

from edge_asr.audio.content import UNKNOWN_LENGTH, Content, Incomplete, Section
from edge_asr.audio.decoders import Blocks, after_tags, decode, refuse_rest

_SEARCH_BYTES = 1 << 12


def mp3_blocks(content: Content, start: int, block_s: float) -> Blocks:
    """Of all MP3 streams that stand one after another from ``start``.

    Raises:
        Incomplete: a stream is shorter than it says, its last frame is cut, or what follows it is
            neither MP3 nor a tag.
    """
    first: int | None = start
    while first is not None:
        section = Section(content, first, length=_xing_bytes(content, first))
        heard = 0
        try:
            with contextlib.closing(decode(section, block_s)) as blocks:
                for block, rate in blocks:
                    heard += len(block)
                    yield block, rate
        except soundfile.SoundFileError as error:
            if heard == 0:
                raise
            raise Incomplete("an MP3 frame is cut or damaged") from error
        first = _next_mpeg(content, section.farthest)


def _xing_bytes(content: Content, start: int) -> int:
    """How long the stream is by the header of Xing and LAME; libsndfile estimates it from the first
    frame where there is none, and reads no further."""
    head = content.at(start, 256)
    for name in (b"Xing", b"Info"):
        at = head.find(name)
        if at >= 0 and len(head) >= at + 16:
            flags, _, size = struct.unpack(">III", head[at + 4 : at + 16])
            if flags & 3 == 3:  # frames and bytes
                return int(size)
    return UNKNOWN_LENGTH


def _next_mpeg(content: Content, offset: int) -> int | None:
    """Where the next stream begins; None at the end."""
    offset = after_tags(content, offset)
    rest = content.at(offset, _SEARCH_BYTES)
    for index in range(len(rest) - 1):
        if is_mpeg(rest[index:]) or rest.startswith(b"ID3", index):
            return offset + index
    refuse_rest(rest)
    return None


def is_mpeg(head: bytes) -> bool:
    """Whether a frame of MPEG audio, layer 3, begins so."""
    return (
        len(head) >= 3
        and head[0] == 0xFF
        and head[1] & 0xE6 == 0xE2
        and head[1] & 0x18 != 0x08
        and head[2] >> 4 != 15
        and head[2] & 0x0C != 0x0C
    )
