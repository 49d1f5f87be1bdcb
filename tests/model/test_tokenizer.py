"""Units: their file, and text to units and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr.errors import ConfigError
from edge_asr.units import Units
from model.tokenizer import SPECIAL, Tokenizer, build_units, read_units, write_units

TEXTS = ["YES NO", "YES O'CLOCK", "K A U"]
WORDS = st.lists(st.text("ABCXYZ'", min_size=1, max_size=5), max_size=6)


def test_frequent_words_are_units_and_others_are_spelled() -> None:
    tokenizer = Tokenizer(build_units(TEXTS, 2))
    names = [tokenizer.symbols[index] for index in tokenizer.encode("YES NO")]
    assert names == ["▁YES", "▁", "N", "O"]
    assert tuple(tokenizer.symbols[:3]) == SPECIAL
    assert len(set(tokenizer.symbols)) == len(tokenizer.symbols)


def test_unknown_letters() -> None:
    tokenizer = Tokenizer(build_units(TEXTS, 1))
    assert tokenizer.encode("É") == [tokenizer.ids["▁"], tokenizer.ids["<unk>"]]
    assert tokenizer.encode("") == []


@given(words=WORDS)
def test_there_and_back(words: list[str]) -> None:
    text = " ".join(words)
    tokenizer = Tokenizer(build_units([*TEXTS, text], 2))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    # The runtime reads the same units in the same way.
    assert Units(tuple(tokenizer.symbols)).text(tokenizer.encode(text)) == text


def test_file_there_and_back(tmp_path: Path) -> None:
    symbols = build_units(TEXTS, 1)
    write_units(symbols, tmp_path / "units.txt")
    assert read_units(tmp_path / "units.txt") == symbols
    assert list(Units.parse((tmp_path / "units.txt").read_bytes(), "x").symbols) == symbols


@pytest.mark.parametrize("text", ["a 0\nb 2\n", "a 0\nb\n", " 0\n", "a 1\n", "a 0\na b 0\n"])
def test_damaged_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "units.txt").write_text(text)
    with pytest.raises(ConfigError, match=r"units\.txt: line \d"):
        read_units(tmp_path / "units.txt")


def test_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "units.txt").write_bytes(b"\xff\xfe 0\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_units(tmp_path / "units.txt")
