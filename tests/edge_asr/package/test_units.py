"""Units files, good and bad, and what ids write."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import PackageError
from edge_asr.package.units import Units


def parse(text: str | bytes) -> Units:
    return Units.parse(text if isinstance(text, bytes) else text.encode(), "units.txt")


def test_a_file_of_wenet_is_read() -> None:
    units = parse("<blank> 0\n<unk> 1\n▁one 2\n' 3\n你 4\nक्\u200d 5\n")
    assert units.symbols == ("<blank>", "<unk>", "▁one", "'", "你", "क्\u200d")
    assert len(units) == 6
    assert parse("<blank> 0\na 1").symbols == ("<blank>", "a")  # no line break at the end


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"", "line 1"),
        (b"\n", "line 1"),
        (b"<blank> 0\n\n", "line 2"),
        (b"<blank> 0\na 2\n", "line 2"),
        (b"a 1\nb 2\n", "line 1"),
        (b"<blank> 0\na 1\na 2\n", "'a'"),
        (b"<blank> 0\na 01\n", "line 2"),
        (b"<blank> 0\na -1\n", "line 2"),
        (b"<blank> 0\r\na 1\r\n", "line 1"),
        (b"<blank> 0\n 1\n", "empty"),
        (b"<blank>\n", "line 1"),
        (b"<blank>\t0\n", "line 1"),
        (b"<blank> 0\n\xff 1\n", "not UTF-8"),
        (b"\xef\xbb\xbf<blank> 0\n", "U+FEFF"),
        (b"<blank> 0\n\x1b[31m 1\n", "U+001B"),
        (b"<blank> 0\na\0 1\n", "U+0000"),
        (b"<blank> 0\na b 1\n", "U+0020"),
        ("<blank> 0\n\u202etxt 1\n".encode(), "U+202E"),
        ("<blank> 0\na\u2028 1\n".encode(), "U+2028"),
        ("<blank> 0\n\u00a0 1\n".encode(), "U+00A0"),
        ("<blank> 0\n\ue000 1\n".encode(), "U+E000"),
        (b"<blank> 0\n" + b"x" * 100_000 + b" 1\n", "longer than"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text: bytes, where: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith("units.txt") and where in message
    assert message.isprintable() and len(message) < 300


symbols = st.sampled_from(["<blank>", "<unk>", "▁", "▁one", "s", "a▁b", "你", "<", ">", "<>", "▁▁"])


@settings(max_examples=100, deadline=None)
@given(first=st.lists(symbols, max_size=8), more=st.lists(symbols, max_size=4))
def test_text_only_grows(first: list[str], more: list[str]) -> None:
    # What was committed stays the beginning of all that follows.
    units = Units(("<blank>", "<unk>", "▁", "▁one", "s", "a▁b", "你", "<", ">", "<>", "▁▁"))
    ids = [units.symbols.index(symbol) for symbol in (*first, *more)]
    text, start = units.text(ids), units.text(ids[: len(first)])
    assert text.startswith(start)
    assert text == " ".join(text.split())
    written = "".join(s for s in (*first, *more) if s not in ("<blank>", "<unk>"))
    assert text.replace(" ", "") == written.replace("▁", "")


def test_units_that_begin_words() -> None:
    units = Units(("<blank>", "▁one", "s", "▁", "你", "ア", "<unk>", "é"))
    expected = [False, True, False, True, True, True, False, False]
    np.testing.assert_array_equal(units.starts_word, expected)


def test_a_space_of_recipes_of_letters() -> None:
    units = Units.parse(b"<blank> 0\nA 1\n<space> 2\n<sos/eos> 3\n", "units.txt")
    assert units.text([1, 2, 1, 3]) == "A A"
    assert units.starts_word.tolist() == [False, False, True, False]
