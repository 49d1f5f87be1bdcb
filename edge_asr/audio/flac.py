"""FLAC to its end, of known and unknown length."""

from __future__ import annotations

import re

from edge_asr.audio.content import Content, Incomplete, Section
from edge_asr.audio.decoders import Blocks, after_tags, decode, refuse_rest

_SEARCH_BYTES = 1 << 12
_AHEAD_BYTES = 1 << 13  # how far libFLAC may have read ahead of what it decoded
_FRAME_BYTES = 1 << 18  # no frame of speech is longer
_BEGINS = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_FRAME_BEGINS = re.compile(rb"(?=\xff[\xf8\xf9])", re.DOTALL)


def flac_blocks(content: Content, start: int, block_s: float) -> Blocks:
    """Of all FLAC streams that stand one after another from ``start``.

    Raises:
        Incomplete: a stream is shorter than it says, its last frame is cut, or what follows it is
            neither FLAC nor a tag.
    """
    first: int | None = start
    while first is not None:
        section = Section(content, first)
        yield from decode(section, block_s)
        near = max(first + 1, section.farthest - _AHEAD_BYTES)
        found = _BEGINS.search(content.at(near, 2 * _AHEAD_BYTES))
        if found is None and _is_length_unknown(content, first):
            _refuse_cut_frame(content, first, section.farthest)
        first = near + found.start() if found else None
    refuse_rest(content.at(after_tags(content, section.farthest), _SEARCH_BYTES))


def _is_length_unknown(content: Content, start: int) -> bool:
    """The number of samples is the last 36 bits before the checksum of them all."""
    return int.from_bytes(content.at(start + 21, 5), "big") & 0xFFFFFFFFF == 0


def _refuse_cut_frame(content: Content, start: int, end: int) -> None:
    """Raise Incomplete unless a whole frame ends at ``end``: libFLAC leaves out a cut one without a
    word, and where no length is known nothing else tells."""
    tail = content.at(max(start, end - _FRAME_BYTES), _FRAME_BYTES)
    if not any(_checksum(tail[sync.start() :]) == 0 for sync in _FRAME_BEGINS.finditer(tail)):
        raise Incomplete("the last frame is cut")


def _checksum(frame: bytes) -> int:
    """FLAC's CRC-16, which is 0 over a frame and the checksum at its end."""
    crc = 0
    for byte in frame:
        crc = (crc << 8) & 0xFFFF ^ _CRC16[crc >> 8 ^ byte]
    return crc


def _crc16_of(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = crc << 1 ^ (0x18005 if crc & 0x8000 else 0)
    return crc


_CRC16 = [_crc16_of(byte) for byte in range(256)]
