"""Text to units and back, for training.

Units are pieces in sentencepiece's manner: ``▁WORD`` for words that training hears often,
and for every other word ``▁`` followed by its letters. A spelled letter is a word (``▁F``),
so the sound of a letter's name and its sound inside a word are different units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from edge_asr.errors import ConfigError

SPACE = "▁"
SPECIAL = ("<blank>", "<unk>", "<sos/eos>")


class Tokenizer:
    """Greedy segmentation by a table of units."""

    def __init__(self, symbols: list[str]) -> None:
        self.symbols = symbols
        self.ids = {symbol: index for index, symbol in enumerate(symbols)}

    def encode(self, text: str) -> list[int]:
        """Unit ids of ``text``; letters that no unit spells become ``<unk>``."""
        ids: list[int] = []
        for word in text.split():
            whole = self.ids.get(SPACE + word)
            if whole is not None:
                ids.append(whole)
            else:
                unknown = self.ids["<unk>"]
                ids += [self.ids[SPACE], *(self.ids.get(letter, unknown) for letter in word)]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of unit ids."""
        return "".join(self.symbols[index] for index in ids).replace(SPACE, " ").strip()


def build_units(texts: Iterable[str], min_count: int) -> list[str]:
    """The table of units: words heard at least ``min_count`` times, and all letters."""
    counts = Counter(word for text in texts for word in text.split())
    letters = sorted(
        {letter for word in counts for letter in word} | set("ABCDEFGHIJKLMNOPQRSTUVWXYZ'")
    )
    words = sorted(word for word, count in counts.items() if count >= min_count)
    return [*SPECIAL, SPACE, *letters, *(SPACE + word for word in words)]


def read_units(path: Path) -> list[str]:
    """Symbols of a ``units.txt`` (``symbol id`` per line), in the order of their ids."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    symbols: list[str] = []
    for number, line in enumerate(filter(None, lines)):
        symbol, _, index = line.rpartition(" ")
        if not symbol or index != str(number):
            raise ConfigError(f"{path}: line {number + 1} is {line!r}, expected 'SYMBOL {number}'")
        symbols.append(symbol)
    return symbols


def write_units(symbols: list[str], path: Path) -> None:
    """Write ``units.txt``."""
    lines = [f"{symbol} {index}\n" for index, symbol in enumerate(symbols)]
    path.write_text("".join(lines), encoding="utf-8")
