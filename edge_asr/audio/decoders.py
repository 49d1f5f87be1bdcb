"""From the bytes of an input to samples, with libsndfile, container by container.

Each decoder yields blocks ((N, C) float32, rate in Hz) of all that can be had, and then raises
``Incomplete`` where the input has, or promises, more than that.
"""

from __future__ import annotations

import io
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
_ID3V1_BYTES = 128


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


def after_tags(content: Content, offset: int) -> int:
    """Where tags end that some programs write after the audio: ID3v1 and APE."""
    while (head := content.at(offset, 16)).startswith((b"TAG", b"APETAGEX")):
        is_ape = head.startswith(b"APE")
        offset += 32 + int.from_bytes(head[12:16], "little") if is_ape else _ID3V1_BYTES
    return offset


def refuse_rest(rest: bytes) -> None:
    """Raise Incomplete if bytes are left that are more than padding."""
    if rest.strip(b"\0"):
        raise Incomplete(f"{len(rest)} bytes or more follow that are no audio of this kind")
