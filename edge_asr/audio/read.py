"""The samples of a file, a pipe or a file object, block by block.

Nothing of it is lost in silence: what was read is compared with what the input has and what its
header promises, and where that is more, an error says so after the last block.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import soundfile

from edge_asr.audio.background import Background, check_process
from edge_asr.audio.containers import find_samples
from edge_asr.audio.content import (
    Content,
    FileContent,
    Incomplete,
    StreamContent,
    spooled,
)
from edge_asr.audio.decoders import (
    Blocks,
    chunk_blocks,
    decode,
    raw_blocks,
)
from edge_asr.audio.features import Samples
from edge_asr.audio.flac import flac_blocks
from edge_asr.audio.media import Forward, media_blocks, media_format, needs_seeking
from edge_asr.audio.mp3 import is_mpeg, mp3_blocks
from edge_asr.audio.ogg import is_plain, ogg_blocks
from edge_asr.audio.raw import RawFormat
from edge_asr.audio.samples import MAX_CHANNELS, check_rate, check_samples, finite_length
from edge_asr.errors import AudioError, InputMissingError, TruncatedError, UsageError

STDIN = "-"
_BEGINNING_BYTES = 1 << 16

Source = str | os.PathLike[str] | BinaryIO


def read_blocks(
    source: Source, block_s: float, raw: RawFormat | None = None
) -> Iterator[tuple[Samples, int]]:
    """The samples of ``source``, about ``block_s`` seconds at a time.

    Args:
        source: a path, ``-`` for standard input, or a file object opened in binary mode, which is
            read from where it stands. A pipe is read while it comes.
        raw: the format of an input that has no header.

    Yields:
        ((N, C) float32 in [-1, 1), sample rate in Hz). Of several recordings in a row the rate may
        change.

    Raises:
        InputMissingError: there is no such file or it may not be read.
        AudioError: a folder, not audio, damaged, empty, a rate or channel count that speech does
            not have, or values that are not numbers.
        TruncatedError: after the last block: the input has, or promises, more than was read, or
            goes on with what would be an AudioError at its beginning.
        UsageError: ``source`` is of another type, or the process was forked since the block before.
    """
    if hasattr(source, "read"):
        where = f"file object {str(getattr(source, 'name', type(source).__name__))!r}"
        stream = StreamContent(_reader(source, where))
        return _checked(_decode(stream, block_s, raw, where), where)
    if not isinstance(source, str | os.PathLike):
        raise UsageError(
            f"audio is of type {type(source).__name__}; allowed are a path and a file object that "
            "was opened in binary mode"
        )
    where = "standard input" if source == STDIN else repr(os.fspath(source))
    mode = _mode(source, where)
    if stat.S_ISREG(mode):
        return _checked(_path_blocks(source, block_s, raw, where), where)
    if stat.S_ISDIR(mode):
        raise AudioError(f"{where} is a folder; give the path of an audio file")
    return Background(lambda: _checked(_path_blocks(source, block_s, raw, where), where))


def _mode(path: str | os.PathLike[str], where: str) -> int:
    if path == STDIN and sys.stdin is None:  # its descriptor may be of something else by now
        raise InputMissingError(f"{where} is closed; give the path of an audio file")
    try:
        return os.fstat(0).st_mode if path == STDIN else os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise _missing(where, error) from error


def _missing(where: str, error: OSError | ValueError) -> InputMissingError:
    reason = error.strerror if isinstance(error, OSError) else error
    return InputMissingError(f"{where}: {reason}; give the path of an audio file")


def _open(path: str | os.PathLike[str], where: str) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except (OSError, ValueError) as error:
        raise _missing(where, error) from error


def _reader(file: Any, where: str) -> Any:
    """``file.read``, whose result must be bytes."""

    def read(size: int) -> bytes:
        found = file.read(size)
        if not isinstance(found, bytes):
            raise UsageError(
                f"{where} gives {type(found).__name__}; open it in binary mode, as open(path, 'rb')"
            )
        return found

    return read


def _path_blocks(
    path: str | os.PathLike[str], block_s: float, raw: RawFormat | None, where: str
) -> Blocks:
    """Standard input may be a socket, which cannot be opened again."""
    descriptor = os.dup(0) if path == STDIN else _open(path, where)
    try:
        if os.isatty(descriptor):
            raise AudioError(f"{where} is a terminal; give a file, or the output of a program")
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        stream = StreamContent(lambda size: os.read(descriptor, size))
        content = FileContent(descriptor) if is_file else stream
        yield from _decode(content, block_s, raw, where)
    finally:
        os.close(descriptor)


def _checked(blocks: Blocks, where: str) -> Blocks:
    """The blocks that are speech's, and one line for whatever ends them early."""
    heard_s, reader = 0.0, os.getpid()
    try:
        with contextlib.closing(blocks):
            for block, rate in blocks:
                check_rate(rate, where)
                channels = block.shape[1]
                if channels > MAX_CHANNELS:
                    raise AudioError(
                        f"{where}: {channels} channels; allowed are 1 to {MAX_CHANNELS}"
                    )
                good = block[: finite_length(block)]  # the same whatever the length of blocks
                if len(good):
                    check_samples(good, where)
                    heard_s += len(good) / rate
                    yield good, rate
                    check_process(reader)
                if len(good) < len(block):
                    check_samples(block, where)
    except TruncatedError:
        raise
    except AudioError as error:
        if heard_s == 0:
            raise
        reason = str(error).removeprefix(f"{where}: ")
        raise TruncatedError(f"{where}: reading ended at {heard_s:.2f} s: {reason}") from error
    except (soundfile.SoundFileError, Incomplete, OSError) as error:
        # The text of libsndfile's exception itself names a descriptor instead of the file.
        words = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
        reason = str(words).splitlines()[0].removesuffix(".")
        if heard_s == 0:
            raise AudioError(
                f"{where}: not readable as audio ({reason}); convert to WAV"
            ) from error
        raise TruncatedError(
            f"{where}: reading ended at {heard_s:.2f} s ({reason}); the file is cut short or "
            "damaged, so get it whole, or record or convert again"
        ) from error
    if heard_s == 0:
        raise AudioError(f"{where}: holds no samples; record or convert again")


def _decode(content: Content, block_s: float, raw: RawFormat | None, where: str) -> Blocks:
    """By what the first bytes are."""
    if not content.at(0, 1):
        raise AudioError(f"{where} is empty; record or convert again")
    blocks: Blocks | None
    if raw is not None:
        blocks = raw_blocks(content, raw, block_s)
    else:
        blocks = _forward_blocks(content, block_s, where)
    if blocks is not None:
        if isinstance(content, StreamContent):
            content.settled = True
        yield from blocks
    elif isinstance(content, FileContent):
        yield from _file_blocks(content, block_s, where)
    else:
        if find_samples(content) is None and media_format(content.at(0, 12)) is None:
            # Before any amount of it is kept: whether libsndfile knows such a beginning at all.
            soundfile.SoundFile(io.BytesIO(content.at(0, _BEGINNING_BYTES))).close()
        with spooled(content) as file:
            yield from _decode(FileContent(file.fileno()), block_s, None, where)


def _forward_blocks(content: Content, block_s: float, where: str) -> Blocks | None:
    """Of what is read from its beginning to its end, whatever its header says; None if it must be
    sought in, or if libsndfile may take a file at its word."""
    start = _after_id3(content)
    head = content.at(start, 12)
    chunk, media = find_samples(content), media_format(head)
    is_file = isinstance(content, FileContent)
    if chunk is not None:
        return chunk_blocks(content, chunk, block_s)
    if head.startswith(b"OggS"):
        return None if is_file and is_plain(content) else ogg_blocks(content, block_s)
    if head.startswith(b"fLaC"):
        return flac_blocks(content, start, block_s)
    if is_mpeg(head) or start > 0:
        return mp3_blocks(content, start, block_s)
    if media is not None and not is_file and not needs_seeking(media):
        return media_blocks(Forward(content), media, where)
    return None


def _file_blocks(content: FileContent, block_s: float, where: str) -> Blocks:
    """As libsndfile or PyAV read a file, and whether that is all of it."""
    media = media_format(content.at(0, 12))
    os.lseek(content.descriptor, 0, os.SEEK_SET)  # a copy shares the position
    if media is not None:
        with os.fdopen(os.dup(content.descriptor), "rb") as file:
            yield from media_blocks(file, media, where)
        return
    chunk, heard_s = find_samples(content), 0.0
    with contextlib.closing(decode(os.dup(content.descriptor), block_s)) as blocks:
        for block, rate in blocks:
            heard_s += len(block) / rate
            yield block, rate
    if chunk is None or chunk.length is None:
        return
    available = content.end - chunk.start
    if available < chunk.length:
        promised_s = heard_s * chunk.length / max(available, 1)
        raise Incomplete(f"{promised_s:.2f} s are promised")
    chunk.refuse_another(content)
    if chunk.more_follow(content):
        raise Incomplete(f"{available - chunk.length} bytes that follow are not in the header")


def _after_id3(content: Content) -> int:
    """Where the audio begins: after a tag of ID3v2, which may stand before MP3 and FLAC."""
    head = content.at(0, 10)
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte & 0x7F
    return 10 + size
