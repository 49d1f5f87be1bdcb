"""The units of a model: what each id of the vocabulary writes, and where words begin.

A units file has one ``symbol id`` per line, as WeNet writes it. "▁" stands for a space, and so does
``<space>``. Other symbols in angle brackets, as ``<blank>``, are special and write nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edge_asr.errors import PackageError

SPACE = "▁"
_OLD_SPACE = "<space>"  # of recipes of letters
_MAX_SYMBOL_CHARS = 64
# Controls, invisible formatting (a text could turn around), surrogates, private use, separators.
_REFUSED_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Zs", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}  # invisible too, but letters of Indic and Persian words
# Scripts that write no spaces: each sign counts as a word, so that text is committed as it comes.
_UNSPACED = (("\u3040", "\u30ff"), ("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"))


@dataclass(frozen=True)
class Units:
    """The symbols of a model in the order of their ids."""

    symbols: tuple[str, ...]

    @classmethod
    def parse(cls, text: bytes, where: str) -> Units:
        """Read a units file.

        Raises:
            PackageError: not UTF-8, ids that do not count up from 0, a symbol twice, or a symbol
                that is empty, too long or holds characters that cannot be seen.
        """
        try:
            lines = text.decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise PackageError(f"{where}: byte {error.start} is not UTF-8; export again") from error
        symbols: list[str] = []
        for number, line in enumerate(lines, start=1):
            symbol, _, unit = line.rpartition(" ")
            if unit != str(number - 1):
                raise PackageError(
                    f"{where} line {number}: expected 'symbol {number - 1}', found {line[:80]!r}; "
                    "export again"
                )
            if reason := _refusal(symbol):
                raise PackageError(f"{where} line {number}: {symbol[:80]!r} {reason}; export again")
            symbols.append(SPACE if symbol == _OLD_SPACE else symbol)
        if len(set(symbols)) != len(symbols):
            twice = next(symbol for symbol in symbols if symbols.count(symbol) > 1)
            raise PackageError(f"{where}: the symbol {twice!r} is listed twice; export again")
        return cls(tuple(symbols))

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def starts_word(self) -> npt.NDArray[np.bool_]:
        """(V,) which units begin a word: those with a leading "▁", and unspaced signs."""
        return np.array([s.startswith(SPACE) or is_unspaced(s) for s in self.symbols], np.bool_)

    def fold_case(self, text: str) -> str:
        """``text`` in the case of the units, if all their letters have the same one."""
        upper, lower = self._cases
        if upper == lower:
            return text
        return text.upper() if upper else text.lower()

    @cached_property
    def _cases(self) -> tuple[bool, bool]:
        """Whether any unit writes an upper case letter, and a lower case one."""
        chars = "".join(self._written)
        return any(map(str.isupper, chars)), any(map(str.islower, chars))

    @cached_property
    def _written(self) -> tuple[str, ...]:
        return tuple("" if _is_special(s) else s.replace(SPACE, " ") for s in self.symbols)

    def text(self, ids: Iterable[int]) -> str:
        """What ``ids`` write: joined, "▁" as a space, single spaces, none at the ends."""
        return " ".join("".join(self._written[unit] for unit in ids).split())


def _is_special(symbol: str) -> bool:
    return len(symbol) > 2 and symbol.startswith("<") and symbol.endswith(">")


def is_unspaced(symbol: str) -> bool:
    """Whether ``symbol`` begins with a sign of a script without spaces, so that it is a word."""
    return any(low <= symbol[0] <= high for low, high in _UNSPACED)


def _refusal(symbol: str) -> str:
    """Why ``symbol`` cannot be a unit; empty if it can."""
    if not symbol:
        return "is an empty symbol"
    if len(symbol) > _MAX_SYMBOL_CHARS:
        return f"is longer than {_MAX_SYMBOL_CHARS} characters"
    for char in symbol:
        if unicodedata.category(char) in _REFUSED_CATEGORIES and char not in _JOINERS:
            return f"holds the invisible character U+{ord(char):04X}"
    return ""
