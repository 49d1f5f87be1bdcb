"""The bytes of an input, by their offset: of a file, of a pipe, or of a file object.

A pipe is read once and forward. What was read is kept until the container is known, and after that
the last part of it: decoders go back by a few bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import IO, Protocol

from edge_asr.errors import AudioError

MAX_SPOOLED_BYTES = 2 << 30  # of what comes through a pipe and can only be read by seeking
UNKNOWN_LENGTH = 1 << 50  # what a decoder is told where nobody knows it: it reads until the end
_READ_BYTES = 1 << 16
_KEPT_BYTES = 1 << 20


class Incomplete(Exception):
    """Why reading ended before the input did, or before what it promises."""


class Content(Protocol):
    """Bytes by offset."""

    @property
    def end(self) -> int | None:
        """How many there are, where that is known before all are read."""

    def at(self, offset: int, count: int, *, whole: bool = True) -> bytes:
        """``count`` bytes from ``offset``, fewer only at the end; or, unless they must be
        ``whole``, what a pipe has now, at least one."""


class FileContent:
    """A regular file, which may grow while it is read."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def end(self) -> int:
        return os.fstat(self.descriptor).st_size

    def at(self, offset: int, count: int, *, whole: bool = True) -> bytes:
        return os.pread(self.descriptor, count, offset)


class StreamContent:
    """What ``read`` gives, which returns up to so many bytes and none at the end."""

    end: int | None = None

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.settled = False  # once it is, what was read long ago is forgotten
        self._read = read
        self._kept = bytearray()
        self._start = 0  # offset of the first byte that is kept

    def at(self, offset: int, count: int, *, whole: bool = True) -> bytes:
        while (missing := offset + count - self._start - len(self._kept)) > 0:
            if not whole and missing < count:
                break
            part = self._read(_READ_BYTES)
            if not part:
                break
            self._kept += part
        if offset < self._start:
            raise AudioError(f"byte {offset} of a pipe was read before; give the path of a file")
        first = offset - self._start
        found = bytes(self._kept[first : first + count])
        if self.settled and (old := first - _KEPT_BYTES) > _KEPT_BYTES:
            del self._kept[:old]
            self._start += old
        return found


def spooled(content: Content) -> IO[bytes]:
    """All of a pipe in a temporary file, for containers that are read by seeking.

    Raises:
        AudioError: more than ``MAX_SPOOLED_BYTES``, or no room for them.
    """
    file = tempfile.TemporaryFile()
    try:
        offset = 0
        while part := content.at(offset, _READ_BYTES):
            offset += len(part)
            if offset > MAX_SPOOLED_BYTES:
                raise AudioError(
                    f"more than {MAX_SPOOLED_BYTES >> 30} GiB came through a pipe in a container "
                    "that cannot be read while it comes; give the path of a file, or WAV"
                )
            file.write(part)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


class Section:
    """A part of some content, as a file object that libsndfile reads.

    Args:
        start: offset of its first byte.
        stop: offset after its last byte; None is the end of the content.
        length: what the decoder is told, which may be more than there is.
        whole: give all the bytes that are asked for, and wait for them.
    """

    def __init__(
        self,
        content: Content,
        start: int,
        stop: int | None = None,
        *,
        length: int = UNKNOWN_LENGTH,
        whole: bool = False,
    ) -> None:
        self.farthest = start  # offset after the last byte that was read
        self.error: BaseException | None = None  # libsndfile's callbacks cannot raise
        self._content, self._start, self._stop = content, start, stop
        self._length, self._whole = length, whole
        self._position = 0
        self._at_tail = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = origin + offset
        # mpg123 looks there for a tag. A pipe cannot, and what there is has other means.
        self._at_tail = whence == os.SEEK_END and offset < 0
        return self._position

    def tell(self) -> int:
        """As of a file."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        """As of a file, but for the exception, which ``raise_error`` raises later."""
        try:
            count, offset = len(buffer), self._start + self._position
            if self._stop is not None:
                count = max(0, min(count, self._stop - offset))
            if self._at_tail:
                found = bytes(count)
            else:
                found = self._content.at(offset, count, whole=self._whole) if count else b""
                self.farthest = max(self.farthest, offset + len(found))
            buffer[: len(found)] = found
        except BaseException as error:
            self.error = self.error or error
            return 0
        self._position += len(found)
        return len(found)

    def raise_error(self) -> None:
        """Raise what a read could not."""
        if self.error is not None:
            raise self.error
