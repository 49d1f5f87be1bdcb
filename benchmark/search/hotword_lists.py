"""Which words to list as hotwords, and what listing them did to them and to all others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.words.errors import aligned
from edge_asr.package.units import SPACE, Units

_TRIES = 20  # for a phrase that is not there yet


@dataclass(frozen=True)
class ListRule:
    """Words of ``min_letters`` or more that were wrong ``min_errors`` times or more, and in
    ``min_rate`` of their occurrences or more. Substituted and deleted is wrong."""

    min_errors: int = 2
    min_rate: float = 0.5
    min_letters: int = 1

    def choose(self, truth: Sequence[str], said: Sequence[str]) -> tuple[str, ...]:
        """The words of ``truth`` that are to be listed, most errors first."""
        wrong: Counter[str] = Counter()
        all_: Counter[str] = Counter()
        for meant, heard in zip(truth, said, strict=True):
            for expected, found in aligned(meant, heard):
                if expected is not None:
                    all_[expected] += 1
                    wrong[expected] += expected != found
        return tuple(
            word
            for word, count in sorted(wrong.items(), key=lambda one: (-one[1], one[0]))
            if count >= self.min_errors
            and count >= self.min_rate * all_[word]
            and len(word) >= self.min_letters
        )


@dataclass(frozen=True)
class Split:
    """Errors on listed words, their insertions included, and on all others."""

    listed: int = 0
    listed_words: int = 0
    others: int = 0
    other_words: int = 0

    def __add__(self, more: Split) -> Split:
        return Split(
            self.listed + more.listed,
            self.listed_words + more.listed_words,
            self.others + more.others,
            self.other_words + more.other_words,
        )


def split_errors(truth: Sequence[str], said: Sequence[str], listed: Sequence[str]) -> Split:
    """Count. A word that was said instead of another is an error on that other one."""
    words, found = set(listed), Counter[str]()
    for meant, heard in zip(truth, said, strict=True):
        for expected, given in aligned(meant, heard):
            side = "listed" if (given if expected is None else expected) in words else "others"
            found[f"{side} words"] += expected is not None
            found[side] += expected != given
    counts = ("listed", "listed words", "others", "others words")
    return Split(*(found[count] for count in counts))


def change(before: int, after: int) -> float | None:
    """Relative, in percent; None where there is nothing to compare with."""
    return 100 * (after - before) / before if before else None


def made_up_phrases(units: Units, count: int, seed: int = 0) -> list[str]:
    """Different phrases of one to three words that the units can spell: whole words and, as names
    would be, words of three to eight letters. Fewer where the units make no more."""
    rng = random.Random(seed)
    whole = [s[1:] for s in units.symbols if s.startswith(SPACE) and len(s) > 2]
    # A word of letters begins with the unit "▁".
    letters = [s for s in units.symbols if len(s) == 1 and s.isalpha() and SPACE in units.symbols]
    phrases: dict[str, None] = {}
    for _ in range(_TRIES * count if whole or letters else 0):
        if len(phrases) == count:
            break
        words = []
        for _ in range(rng.randint(1, 3)):
            spelled = letters and (not whole or rng.random() < 0.5)
            name = "".join(rng.choices(letters, k=rng.randint(3, 8))) if spelled else ""
            words.append(name or rng.choice(whole))
        phrases.setdefault(" ".join(words))
    return list(phrases)
