r"""N-gram models as text in the ARPA format, read with suspicion and written.

    \data\
    ngram 1=3
    ngram 2=1

    \1-grams:
    -99     <s>     -0.3
    -0.5    </s>
    -0.4    YES     -0.1

    \2-grams:
    -0.2    <s> YES

    \end\

A line is a log10 probability, the words, and the log10 weight of backing off from them, which may
be missing. Here logarithms are natural. A file may be compressed with gzip.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import stat
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NoReturn, cast

import numpy as np
import numpy.typing as npt

from edge_asr.errors import InputMissingError, UsageError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
MAX_ORDER = 6
MAX_NGRAMS = 10_000_000
_MAX_FILE_BYTES = 2_000_000_000  # unpacked too
# A packed file may unpack to so many times its size, or to so much where that is more: n-grams do
# not shrink to a tenth, and the memory that they take is that of the unpacked text.
_UNPACKED_BYTES = 16_000_000
_UNPACKED_RATIO = 50
_MAX_LINE_BYTES = 16_384
_MAX_HEADER_LINES = 1000
_MAX_EMPTY_LINES = 1000  # in a row
_MIN_LOG10 = -99.0  # how the format writes the logarithm of 0
_LN10 = math.log(10)
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_UNPACK = "unpack it, or compress it with gzip"
_ENCODE = "save it as UTF-8"
# What else is given for an ARPA file: how it begins, what it is, and what to do.
_OTHER_FILES = (
    (
        b"mmap lm http://kheafield.com/code",
        "KenLM's binary",
        "give the ARPA file that it is made of",
    ),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"PK\x03\x04", "a zip file", _UNPACK),
    (b"\xff\xfe", "UTF-16 text", _ENCODE),
    (b"\xfe\xff", "UTF-16 text", _ENCODE),
)


@dataclass(frozen=True, eq=False)
class Order:
    """The n-grams of one length."""

    words: npt.NDArray[np.int32]  # (N, length), indices into the words of the model
    log_probs: npt.NDArray[np.float64]  # (N,)
    backoffs: npt.NDArray[np.float64]  # (N,) logarithms; 0 for the longest


@dataclass(frozen=True, eq=False)
class Ngrams:
    """A backoff model. ``orders[0]`` has every word once, in the order of ``words``."""

    words: tuple[str, ...]
    orders: tuple[Order, ...]


def read_ngrams(path: str | os.PathLike[str]) -> Ngrams:
    """Read an ARPA file.

    Raises:
        InputMissingError: there is no such file, or it may not be read.
        UsageError: not a regular file, too large, or no ARPA file as above.
    """
    where = repr(os.fspath(path))
    try:
        # NONBLOCK, because opening a pipe would wait for ever. Not every system has it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:  # ValueError: a zero in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputMissingError(f"{where}: {reason}; give the path of an ARPA file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)  # open would refuse a folder in its own words
        raise UsageError(f"{where} is not a regular file; give the path of an ARPA file")
    with open(descriptor, "rb") as file:
        if (size := os.fstat(descriptor).st_size) > _MAX_FILE_BYTES:
            raise UsageError(f"{where}: {size} bytes; allowed are {_MAX_FILE_BYTES}; prune it")
        return parse_ngrams(file, where)


def parse_ngrams(file: IO[bytes], where: str) -> Ngrams:
    """Read an ARPA file that is open.

    Args:
        where: what errors call it.

    Raises:
        InputMissingError: it may not be read. UsageError: it is no ARPA file as above.
    """
    packed = file.read(len(_GZIP)) == _GZIP
    try:
        most_bytes = _MAX_FILE_BYTES
        if packed:
            packed_bytes = file.seek(0, os.SEEK_END)
            most_bytes = min(most_bytes, max(_UNPACKED_BYTES, _UNPACKED_RATIO * packed_bytes))
        file.seek(0)
        text = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
        return _Reader(text, where, most_bytes).read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{where}: damaged gzip data; compress it again") from error
    except OSError as error:
        raise InputMissingError(f"{where}: {error.strerror}; make it readable") from error


def ngram_lines(ngrams: Ngrams, digits: int = 7) -> Iterator[str]:
    """The lines of an ARPA file, with so many significant digits."""
    yield "\\data\\"
    for length, order in enumerate(ngrams.orders, start=1):
        yield f"ngram {length}={len(order.words)}"
    for length, order in enumerate(ngrams.orders, start=1):
        yield ""
        yield f"\\{length}-grams:"
        longest = length == len(ngrams.orders)
        for row, log_prob, backoff in zip(
            order.words.tolist(),
            (order.log_probs / _LN10).tolist(),
            (order.backoffs / _LN10).tolist(),
            strict=True,
        ):
            text = " ".join([ngrams.words[word] for word in row])
            line = f"{log_prob:.{digits}g}\t{text}"
            yield line if longest else f"{line}\t{backoff:.{digits}g}"
    yield ""
    yield "\\end\\"


class _Reader:
    """Reads one file from its beginning to its end, and knows the line."""

    def __init__(self, file: IO[bytes], where: str, most_bytes: int) -> None:
        self._file = file
        self._where = where
        self._line = 0
        self._most_bytes = self._left_bytes = most_bytes
        self._ids: dict[bytes, int] = {}

    def read(self) -> Ngrams:
        counts = self._counts()
        orders = []
        for length, count in enumerate(counts, start=1):
            # The header's end is the first section's beginning, and so on.
            orders.append(self._order(length, count, last=length == len(counts)))
            expected = b"\\%d-grams:" % (length + 1) if length < len(counts) else b"\\end\\"
            if self._filled_line() != expected:
                self._refuse(f"expected {expected.decode()} after {count} {length}-grams")
        return Ngrams(self._words(), tuple(orders))

    def _counts(self) -> list[int]:
        """What the header says, up to the title of the first section."""
        self._find_data()
        counts: list[int] = []
        while match := re.fullmatch(
            rb"ngram\s+(\d{1,3})\s*=\s*(\d{1,9})", line := self._filled_line()
        ):
            counts.append(int(match[2]))
            if int(match[1]) != len(counts):
                self._refuse(f"expected the number of {len(counts)}-grams")
        if line != b"\\1-grams:":
            self._refuse("expected 'ngram N=COUNT' or \\1-grams:")
        if not 1 <= len(counts) <= MAX_ORDER:
            self._refuse(f"n-grams of up to {len(counts)} words; allowed are 1 to {MAX_ORDER}")
        if not 1 <= counts[0] <= sum(counts) <= MAX_NGRAMS:
            self._refuse(f"{sum(counts)} n-grams; allowed are 1 to {MAX_NGRAMS}; prune it")
        return counts

    def _find_data(self) -> None:
        """Read up to the line that every ARPA file has."""
        line = self._any_line().removeprefix(_BOM)
        for beginning, what, advice in _OTHER_FILES:
            if line.startswith(beginning):
                raise UsageError(f"{self._where} is no ARPA file, but {what}; {advice}")
        while line.strip() != b"\\data\\":
            if not line or len(line) == _MAX_LINE_BYTES or self._line > _MAX_HEADER_LINES:
                raise UsageError(
                    f"{self._where} is no ARPA file: no line \\data\\ near its beginning; "
                    "edge-asr lm makes one from text with a sentence per line"
                )
            line = self._any_line()

    def _order(self, length: int, count: int, *, last: bool) -> Order:
        rows, log_probs, backoffs = array("i"), array("d"), array("d")
        ids = self._ids
        first_line = self._line + 1
        for number in range(count):
            fields = self._next_line().split()
            if len(fields) not in (length + 1, length + 2):
                self._refuse(f"expected a probability, {length} words and perhaps a backoff")
            if length == 1 and ids.setdefault(fields[1], number) != number:
                self._refuse("a word is listed twice")
            try:
                log_probs.append(float(fields[0]))
                backoffs.append(float(fields[-1]) if len(fields) > length + 1 else 0.0)
                rows.extend([ids[word] for word in fields[1 : length + 1]])
            except KeyError as error:
                self._refuse(f"{_shown(error.args[0])} is not among the 1-grams")
            except ValueError:
                self._refuse("the probability or the backoff is no number")
        probs = np.array(log_probs, np.float64)
        weights = np.zeros(count) if last else np.array(backoffs, np.float64)
        bad = ~(probs <= 0) | ~(weights <= -_MIN_LOG10)  # NaN too
        if bad.any():
            self._line = first_line + int(bad.argmax())
            self._refuse("log10 probabilities are at most 0, and backoffs at most 99")
        return Order(
            words=np.array(rows, np.int32).reshape(count, length),
            log_probs=np.maximum(probs, _MIN_LOG10) * _LN10,
            backoffs=np.maximum(weights, _MIN_LOG10) * _LN10,
        )

    def _words(self) -> tuple[str, ...]:
        try:
            return tuple([word.decode("utf-8") for word in self._ids])
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{self._where}: {_shown(error.object)} is not UTF-8; convert it with iconv"
            ) from error

    def _any_line(self) -> bytes:
        """The next line as it is; empty at the end of the file."""
        line = self._file.readline(_MAX_LINE_BYTES)
        self._line += 1
        self._left_bytes -= len(line)
        if self._left_bytes < 0:
            self._refuse(f"unpacked more than {self._most_bytes} bytes")
        return line

    def _next_line(self) -> bytes:
        line = self._any_line()
        if len(line) == _MAX_LINE_BYTES:
            self._refuse(f"a line of more than {_MAX_LINE_BYTES} bytes")
        if not line:
            self._refuse("the file ends too early")
        return line

    def _filled_line(self) -> bytes:
        """The next line that is not empty, without its ends."""
        for _ in range(_MAX_EMPTY_LINES):
            if line := self._next_line().strip():
                return line
        self._refuse(f"more than {_MAX_EMPTY_LINES} empty lines")

    def _refuse(self, reason: str) -> NoReturn:
        raise UsageError(
            f"{self._where} line {self._line}: {reason}; give a complete ARPA file, as edge-asr lm "
            "writes it"
        )


def _shown(word: bytes) -> str:
    return repr(word[:40].decode("utf-8", "replace"))
