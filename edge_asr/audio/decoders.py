"""From the bytes of an input to samples, with libsndfile, container by container.

Each decoder yields blocks ((N, C) float32, rate in Hz) of all that can be had, and then raises
``Incomplete`` where the input has, or promises, more than that.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
from collections.abc import Generator
from typing import Any

import numpy as np
import soundfile

from edge_asr.audio.containers import DataChunk
from edge_asr.audio.content import (
    UNKNOWN_LENGTH,
    Content,
    FileContent,
    Incomplete,
    Section,
)
from edge_asr.audio.features import Samples
from edge_asr.audio.raw import RawFormat

Blocks = Generator[tuple[Samples, int]]

# What libsndfile can read without the header, and the bytes of one sample.
_PLAIN_SUBTYPES = dict.fromkeys(("PCM_S8", "PCM_U8", "ULAW", "ALAW"), 1) | {
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
}
_UNKNOWN_FRAMES = UNKNOWN_LENGTH // 64  # no count of frames that a header holds is as large
_HEADER_SAMPLES_BYTES = 1 << 12  # zeros after a header, to learn the format from
_SEARCH_BYTES = 1 << 12
_ID3V1_BYTES = 128
_FLAC_AHEAD_BYTES = 1 << 13  # how far libFLAC may have read ahead of what it decoded
_FLAC_BEGINS = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")


class SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is never sought in: soundfile seeks after each block, to where it is."""

    def seekable(self) -> bool:
        """No."""
        return False


def decode(source: Any, block_s: float, **raw: Any) -> Blocks:
    """Blocks of what libsndfile reads, from a descriptor, which is closed, or a ``Section``.

    Raises:
        Incomplete: fewer frames came than the header promises.
        soundfile.SoundFileError: it is not readable, from the beginning or from here on.
    """
    section = source if isinstance(source, Section) else None
    try:
        with SequentialFile(source, **raw) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            promised, heard = int(file.frames), 0
            yield np.zeros((0, channels), np.float32), rate  # the format, to be checked first
            error: Exception | None = None
            while error is None:
                block, error = _read_block(file, round(block_s * rate), promised - heard)
                if len(block) == 0:
                    break
                heard += len(block)
                yield block, rate
            if error is not None:
                raise error
    except soundfile.SoundFileError:
        if section is not None:
            section.raise_error()
        raise
    if section is not None:
        section.raise_error()
    if heard < promised < _UNKNOWN_FRAMES and not raw:
        raise Incomplete(f"{promised / rate:.2f} s are promised")


def _read_block(
    file: Any, frames: int, left: int
) -> tuple[Samples, soundfile.SoundFileError | None]:
    """The next block (N, C), empty at the end; where libsndfile stumbles, what came before that."""
    frames = min(frames, left)  # what follows the last frame may be no frame
    block = np.full((frames, file.channels), np.nan, np.float32)
    if frames == 0:
        return block, None
    try:
        return block[: file.buffer_read_into(block, "float32")], None
    except soundfile.SoundFileError as error:
        came = np.isnan(block[:, 0])
        return block[: int(came.argmax()) if came.any() else frames], error


def raw_blocks(content: Content, raw: RawFormat, block_s: float) -> Blocks:
    """Of samples without a header."""
    yield from decode(
        Section(content, 0, whole=True), block_s, **_raw_options("PCM_16", "LITTLE", raw)
    )


def chunk_blocks(content: Content, chunk: DataChunk, block_s: float) -> Blocks | None:
    """Of WAV and its like, where the header's length is not the whole truth, or the end of a pipe
    is not known; None where libsndfile may take it at its word, or must be given a file.

    Raises:
        Incomplete: the pipe ended before what the header promises.
    """
    if isinstance(content, FileContent) and chunk.is_healthy(content):
        return None
    header = io.BytesIO(chunk.header(content, _HEADER_SAMPLES_BYTES))
    try:
        with soundfile.SoundFile(header) as file:
            subtype, endian = str(file.subtype), str(file.endian)
            format = RawFormat(int(file.samplerate), int(file.channels))
    except soundfile.SoundFileError:  # what it needs stands after the samples
        return None
    if subtype not in _PLAIN_SUBTYPES:
        return None
    frame_bytes = _PLAIN_SUBTYPES[subtype] * format.channels
    options = _raw_options(subtype, chunk.layout.endian if endian == "FILE" else endian, format)
    return _chunk_blocks(content, chunk, frame_bytes, options, block_s)


def _chunk_blocks(
    content: Content, chunk: DataChunk, frame_bytes: int, options: dict[str, Any], block_s: float
) -> Blocks:
    stop = chunk.stop(content, frame_bytes)
    first = Section(content, chunk.start, stop, whole=True)
    yield from decode(first, block_s, **options)
    if chunk.length is None or stop is None:
        return
    if first.farthest < stop:
        promised_s = chunk.length / frame_bytes / options["samplerate"]
        raise Incomplete(f"{promised_s:.2f} s are promised")
    chunk.refuse_another(content)
    if chunk.more_follow(content):
        yield from decode(Section(content, stop, whole=True), block_s, **options)


def _raw_options(subtype: str, endian: str, format: RawFormat) -> dict[str, Any]:
    return {
        "format": "RAW",
        "subtype": subtype,
        "endian": endian,
        "samplerate": format.rate,
        "channels": format.channels,
    }


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
    offset = _after_tags(content, offset)
    rest = content.at(offset, _SEARCH_BYTES)
    for index in range(len(rest) - 1):
        if is_mpeg(rest[index:]) or rest.startswith(b"ID3", index):
            return offset + index
    _refuse_rest(rest)
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


def flac_blocks(content: Content, start: int, block_s: float) -> Blocks:
    """Of all FLAC streams that stand one after another from ``start``.

    Raises:
        Incomplete: a stream is shorter than it says, or what follows it is neither FLAC nor a tag.
    """
    first: int | None = start
    while first is not None:
        section = Section(content, first)
        yield from decode(section, block_s)
        near = max(first + 1, section.farthest - _FLAC_AHEAD_BYTES)
        found = _FLAC_BEGINS.search(content.at(near, 2 * _FLAC_AHEAD_BYTES))
        first = near + found.start() if found else None
    _refuse_rest(content.at(_after_tags(content, section.farthest), _SEARCH_BYTES))


def _after_tags(content: Content, offset: int) -> int:
    """Where tags end that some programs write after the audio: ID3v1 and APE."""
    while (head := content.at(offset, 16)).startswith((b"TAG", b"APETAGEX")):
        is_ape = head.startswith(b"APE")
        offset += 32 + int.from_bytes(head[12:16], "little") if is_ape else _ID3V1_BYTES
    return offset


def _refuse_rest(rest: bytes) -> None:
    """Raise Incomplete if bytes are left that are more than padding."""
    if rest.strip(b"\0"):
        raise Incomplete(f"{len(rest)} bytes or more follow that are no audio of this kind")
