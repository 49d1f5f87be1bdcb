"""ARPA files: what other tools write is read, what is damaged is refused in one line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import InputMissingError, UsageError
from edge_asr.fusion import arpa
from edge_asr.fusion.arpa import Ngrams, Order, ngram_lines, read_ngrams

LN10 = math.log(10)
# Spaces as SRILM sets them, a comment before, backoffs that are left out, a word of two bytes.
SMALL = """a model by hand

\\data\\
ngram 1=4
ngram 2=2
ngram 3 = 1

\\1-grams:
-99 <s> -0.3
-0.5\t</s>
-0.4\tYES\t-0.1
-0.6  Ö

\\2-grams:
-0.2\t<s> YES\t0.05
-inf\tYES </s>

\\3-grams:
-0.1 <s> YES </s> 0

\\end\\
"""


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "lm.arpa"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def same(one: Ngrams, other: Ngrams) -> bool:
    return one.words == other.words and all(
        np.array_equal(a.words, b.words)
        and np.allclose(a.log_probs, b.log_probs, rtol=1e-6)
        and np.allclose(a.backoffs, b.backoffs, rtol=1e-6)
        for a, b in zip(one.orders, other.orders, strict=True)
    )


def test_what_other_tools_write_is_read(tmp_path: Path) -> None:
    ngrams = read_ngrams(written(tmp_path, SMALL))
    assert ngrams.words == ("<s>", "</s>", "YES", "Ö")
    assert [order.words.tolist() for order in ngrams.orders] == [
        [[0], [1], [2], [3]],
        [[0, 2], [2, 1]],
        [[0, 2, 1]],
    ]
    singles, pairs, triples = ngrams.orders
    assert singles.log_probs == pytest.approx(np.array([-99, -0.5, -0.4, -0.6]) * LN10)
    assert singles.backoffs == pytest.approx(np.array([-0.3, 0, -0.1, 0]) * LN10)
    assert pairs.log_probs == pytest.approx(np.array([-0.2, -99]) * LN10)
    assert pairs.backoffs == pytest.approx(np.array([0.05, 0]) * LN10)
    assert triples.backoffs.tolist() == [0]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_compressed_or_with_other_ends_of_lines_it_is_the_same(tmp_path: Path, ends: str) -> None:
    expected = read_ngrams(written(tmp_path, SMALL))
    assert same(expected, read_ngrams(written(tmp_path, SMALL.replace("\n", ends))))
    assert same(expected, read_ngrams(written(tmp_path, gzip.compress(SMALL.encode()))))


@st.composite
def models(draw: st.DrawFn) -> Ngrams:
    # Of all that Unicode calls a space or a line end, only those of ASCII end a word here.
    word = st.text(st.characters(codec="utf-8", exclude_characters=" \t\n\r\v\f"), min_size=1)
    words = draw(st.lists(word, min_size=1, max_size=5, unique=True))
    orders = []
    for length in range(1, draw(st.integers(1, arpa.MAX_ORDER)) + 1):
        rows = draw(st.lists(st.tuples(*[st.integers(0, len(words) - 1)] * length), max_size=4))
        array = np.array(rows if length > 1 else [[i] for i in range(len(words))], np.int32)
        count = len(array)
        values = st.lists(st.floats(-99 * LN10, 0), min_size=count, max_size=count)
        backoffs = np.array(draw(values)) if length > 1 else np.zeros(count)
        orders.append(Order(array.reshape(count, length), np.array(draw(values)), backoffs))
    orders[-1].backoffs[:] = 0
    return Ngrams(tuple(words), tuple(orders))


@given(models())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, ngrams: Ngrams) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert same(ngrams, read_ngrams(written(folder, "\n".join(ngram_lines(ngrams)) + "\n")))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ngram 2=2\n", "", "line 5: expected the number of 2-grams"),
        ("ngram 1=4\nngram 2=2\nngram 3 = 1", "ngrams", "line 4: expected 'ngram N=COUNT'"),
        ("ngram 1=4\nngram 2=2\nngram 3 = 1\n", "", "n-grams of up to 0 words; allowed are 1 to 6"),
        ("ngram 1=4", "ngram 1=0", "3 n-grams; allowed"),
        ("ngram 1=4", "ngram 1=999999999", "allowed are 1 to 10000000; prune it"),
        ("ngram 1=4", "ngram 1=3", "line 12: expected"),
        ("ngram 1=4", "ngram 1=5", "line 13: expected a probability, 1 words"),
        ("-0.6  Ö", "-0.6  YES", "line 12: a word is listed twice"),
        ("-0.6  Ö", "-0.6  Ö Ö Ö", "line 12: expected a probability, 1 words"),
        ("YES </s>\n\n", "YES NO\n\n", "line 16: 'NO' is not among the 1-grams"),
        ("-0.4\t", "nan\t", "line 11: log10 probabilities are at most 0"),
        ("-0.4\t", "0.4\t", "line 11: log10 probabilities are at most 0"),
        ("0.05", "100", "line 15: log10 probabilities are at most 0, and backoffs at most 99"),
        ("0.05", "inf", "line 15: log10 probabilities are at most 0, and backoffs at most 99"),
        ("-0.4\t", "minus\t", "line 11: the probability or the backoff is no number"),
        ("\\end\\", "", "the file ends too early"),
        ("\\data\\", "\\data\\" + "\n" * 2000, "line 1003: more than 1000 empty lines"),
        ("YES\t-0.1", "Y" * 20000 + "\t-0.1", "line 11: a line of more than 16384 bytes"),
    ],
)
def test_damage_is_refused_with_its_line(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in SMALL
    with pytest.raises(UsageError) as caught:
        read_ngrams(written(tmp_path, SMALL.replace(old, new)))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_editor_may_put_a_mark_before_it(tmp_path: Path) -> None:
    plain = read_ngrams(written(tmp_path, SMALL))
    data = SMALL[SMALL.index("\\data") :].replace("\n", "\r\n")
    for text in (SMALL, data):
        for encoded in (text.encode("utf-8-sig"), gzip.compress(text.encode("utf-8-sig"))):
            assert same(read_ngrams(written(tmp_path, encoded)), plain)


BINARY = b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(100_000)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no line .data. near its beginning; edge-asr lm makes one from text"),
        (b"enter eight nine\nrubout\n", "no line .data. near its beginning"),
        (b"word\n" * 2000, "no line .data. near its beginning"),
        (b"word " * 10_000, "no line .data. near its beginning"),
        (SMALL.replace("\\data\\", "").encode(), "no line .data. near its beginning"),
        (BINARY, "KenLM's binary; give the ARPA file that it is made of"),
        (gzip.compress(BINARY), "KenLM's binary"),
        (bz2.compress(SMALL.encode()), "compressed with bzip2; unpack it"),
        (lzma.compress(SMALL.encode()), "compressed with xz; unpack it"),
        (SMALL.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    ],
)
def test_other_files_are_told_from_damaged_ones(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(UsageError, match=f"lm.arpa' is no ARPA file.*{reason}"):
        read_ngrams(written(tmp_path, content))


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = SMALL.rstrip("\n").encode()
    packed = gzip.compress(whole)
    for length in range(len(whole)):
        with pytest.raises(UsageError):
            read_ngrams(written(tmp_path, whole[:length]))
    for length in range(0, len(packed), 5):
        with pytest.raises(UsageError):
            read_ngrams(written(tmp_path, packed[:length]))


@given(
    st.lists(st.tuples(st.integers(0, len(SMALL)), st.binary(max_size=4), st.integers(0, 4))),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, bytes, int]], packed: bool
) -> None:
    data = bytearray(gzip.compress(SMALL.encode(), mtime=0) if packed else SMALL.encode())
    for place, new, removed in edits:
        data[place : place + removed] = new
    try:
        ngrams = read_ngrams(written(tmp_path_factory.getbasetemp(), bytes(data)))
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        for length, order in enumerate(ngrams.orders, start=1):
            assert order.words.shape == (len(order.log_probs), length)
            assert np.all((order.words >= 0) & (order.words < len(ngrams.words)))
            assert np.all(order.log_probs <= 0)
            assert np.isfinite(order.log_probs).all() and np.isfinite(order.backoffs).all()


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in (tmp_path / "nothing", "a\0b"):
        with pytest.raises(InputMissingError, match="give the path of an ARPA file"):
            read_ngrams(missing)
    os.mkfifo(tmp_path / "pipe")
    for special in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError, match="not a regular file"):
            read_ngrams(special)
    monkeypatch.setattr(arpa, "_MAX_FILE_BYTES", 100)
    with pytest.raises(UsageError, match="allowed are 100; prune it"):
        read_ngrams(written(tmp_path, SMALL))
    bomb = gzip.compress(b"\n" * 101)
    assert len(bomb) < 100
    with pytest.raises(UsageError, match="unpacked more than 100 bytes"):
        read_ngrams(written(tmp_path, bomb))


def test_what_a_packed_file_unpacks_to_is_bounded_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "".join(f"-1 {'A' * 16_000}{number}\n" for number in range(500))
    text = f"\\data\\\nngram 1=500\n\n\\1-grams:\n{words}\n\\end\\\n".encode()
    bomb = gzip.compress(text)
    assert len(text) > 150 * len(bomb)
    path = written(tmp_path, bomb)
    assert len(read_ngrams(path).words) == 500, "8 MB are no bomb"
    monkeypatch.setattr(arpa, "_UNPACKED_BYTES", 1_000_000)
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"unpacked more than \d+ bytes"):
        read_ngrams(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 6_000_000
    assert len(read_ngrams(written(tmp_path, text)).words) == 500, "nor is what is not packed"
