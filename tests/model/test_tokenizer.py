"""Units: their file, and text to units and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr.errors import ConfigError
from edge_asr.package.units import Units
from model.tokenizer import (
    SPECIAL,
    Tokenizer,
    build_pieces,
    build_units,
    read_units,
    units_text,
    write_units,
)

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


def test_pieces_are_the_longest_that_fit() -> None:
    texts = ["THE THINKING THING IS THIS", "THE KING SINGS"] * 5
    symbols = build_pieces(texts, 40)
    assert tuple(symbols[:3]) == SPECIAL and len(symbols) == len(set(symbols)) >= 40
    tokenizer = Tokenizer(symbols, pieces=True)
    for text in (*texts, "A QUIZ", "DON'T", ""):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.ids["<unk>"] not in ids
    assert len(tokenizer.encode("THE THING")) < len("THE THING")
    for word in "THE THINKING THING KING SINGS".split():
        rest = "▁" + word
        for index in tokenizer.encode(word):
            longer = [s for s in symbols if rest.startswith(s) and len(s) > len(symbols[index])]
            assert not longer
            rest = rest.removeprefix(symbols[index])
    assert tokenizer.encode("É") == [tokenizer.ids["▁"], tokenizer.ids["<unk>"]]


def test_more_pieces_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"train\.pieces is 5000"):
        build_pieces(["YES NO"], 5000)


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


@pytest.mark.parametrize(
    "text",
    [
        "a\t0\n▁b\t1\n",
        "a  0\n▁b   1\n",
        " a 0 \r\n▁b\t 1\r\n",
        "\ufeffa 0\n▁b 1",
        "a 0\n\n▁b 1\n \n",
    ],
)
def test_tables_of_other_tools(text: str, tmp_path: Path) -> None:
    path = tmp_path / "units.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_units(path) == ["a", "▁b"]
    assert units_text(read_units(path)) == "a 0\n▁b 1\n", "what a package has"


@pytest.mark.parametrize("text", ["a 0\nb 2\n", "a 0\nb\n", " 0\n", "a 1\n", "a 0\na b 0\n"])
def test_damaged_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "units.txt").write_text(text)
    with pytest.raises(ConfigError, match=r"units\.txt: line \d"):
        read_units(tmp_path / "units.txt")


def test_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "units.txt").write_bytes(b"\xff\xfe 0\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_units(tmp_path / "units.txt")
