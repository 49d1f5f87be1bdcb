"""Text to units and back, for training.

Units are pieces in sentencepiece's manner, of one of two kinds. For a closed vocabulary:
``▁WORD`` for words that training hears often, and for every other word ``▁`` followed by its
letters. A spelled letter is a word (``▁F``), so the sound of a letter's name and its sound inside a
word are different units. For an open one: pieces of words that occur often (byte pair encoding,
Sennrich et al., 1508.07909), the longest that fits being taken first.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from edge_asr.errors import ConfigError

SPACE = "▁"
SPECIAL = ("<blank>", "<unk>", "<sos/eos>")


class Tokenizer:
    """Segmentation by a table of units.

    Args:
        symbols: the units in the order of their ids.
        pieces: whether words are cut into the longest pieces, or spelled unless they are units.
    """

    def __init__(self, symbols: list[str], pieces: bool = False) -> None:
        self.symbols = symbols
        self.ids = {symbol: index for index, symbol in enumerate(symbols)}
        self._pieces = pieces
        self._longest = max(map(len, symbols))

    def encode(self, text: str) -> list[int]:
        """Unit ids of ``text``; letters that no unit spells become ``<unk>``."""
        ids: list[int] = []
        for word in text.split():
            whole = self.ids.get(SPACE + word)
            if whole is not None:
                ids.append(whole)
            elif self._pieces:
                ids += self._cut(SPACE + word)
            else:
                unknown = self.ids["<unk>"]
                ids += [self.ids[SPACE], *(self.ids.get(letter, unknown) for letter in word)]
        return ids

    def _cut(self, rest: str) -> list[int]:
        ids = []
        while rest:
            for size in range(min(len(rest), self._longest), 0, -1):
                if rest[:size] in self.ids:
                    break
            ids.append(self.ids.get(rest[:size], self.ids["<unk>"]))
            rest = rest[size:]
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


def build_pieces(texts: Iterable[str], count: int) -> list[str]:
    """The table of units: ``count`` of them, frequent pieces of words and all letters.

    Raises:
        ConfigError: the texts do not have so many pieces, or more letters.
    """
    model = io.BytesIO()
    spoken = [text for text in texts if text]
    letters = "".join(sorted(set("".join(spoken)) - {" "} | set("ABCDEFGHIJKLMNOPQRSTUVWXYZ'")))
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(spoken), model_writer=model, model_type="bpe",
            vocab_size=count, required_chars=letters, bos_id=-1, eos_id=-1, unk_id=0,
            normalization_rule_name="identity", character_coverage=1.0, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise ConfigError(f"train.pieces is {count}: {str(error).splitlines()[-1]}") from error
    table = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [table.id_to_piece(index) for index in range(table.get_piece_size())]
    return [*SPECIAL, *sorted(set(pieces[1:]) | {SPACE, *letters})]


def read_units(path: Path) -> list[str]:
    """Symbols of a ``units.txt`` in the order of their ids: ``symbol id`` per line, with any white
    space between and around them."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    symbols: list[str] = []
    for number, line in enumerate(filter(str.strip, lines)):
        fields = line.split()
        if len(fields) != 2 or fields[1] != str(number):
            raise ConfigError(f"{path}: line {number + 1} is {line!r}, expected 'SYMBOL {number}'")
        symbols.append(fields[0])
    return symbols


def units_text(symbols: Iterable[str]) -> str:
    """What ``units.txt`` has, one space between symbol and id."""
    return "".join(f"{symbol} {index}\n" for index, symbol in enumerate(symbols))


def write_units(symbols: list[str], path: Path) -> None:
    """Write ``units.txt``."""
    path.write_text(units_text(symbols), encoding="utf-8")
