"""An n-gram language model that scores hypotheses as they grow (shallow fusion).

At word level a word counts once it is complete: when the next one begins, or at the end of the
segment. Until then it counts as the most probable of all words that it may still become, context
aside (look-ahead, Ortmanns et al. 1996), so that a narrow beam loses few that the model would like.
At unit level every unit counts at once.
"""

from __future__ import annotations

import math
import os
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from edge_asr.errors import UsageError, check_number
from edge_asr.fusion import Scores, States, UnitIds
from edge_asr.fusion.arpa import BEGIN, END, UNKNOWN, Ngrams, Order, read_ngrams
from edge_asr.fusion.ngram_contexts import NO_CONTEXT, NgramContexts
from edge_asr.fusion.spelling import Spelling
from edge_asr.fusion.trie import Ints
from edge_asr.package.units import Units

Level = Literal["word", "unit"]
MAX_WEIGHT = 100.0
DEFAULT_UNKNOWN_LOG_PROB = math.log(1e-6)
_UNKNOWN_NAMES = (UNKNOWN, UNKNOWN.upper())
_SILENT = -1


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """An ``edge_asr.fusion.Automaton``. Made by ``read``, shared by streams."""

    start: int
    weight: float
    word_bonus: float
    _contexts: NgramContexts
    _end: int  # the word that ends a sentence
    _spelling: Spelling | None  # at word level
    _ahead: Scores  # (places,) at word level: what the open word counts as
    _word_of_unit: Ints  # (V,) at unit level
    _bonus_of_unit: Scores  # (V,) at unit level

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        units: Units,
        *,
        weight: float = 0.5,
        word_bonus: float = 0.0,
        level: Level = "word",
        unknown_log_prob: float = DEFAULT_UNKNOWN_LOG_PROB,
    ) -> LanguageModel:
        """The model of an ARPA file (see ``edge_asr.fusion.arpa``).

        Args:
            path: of the file.
            units: those of the acoustic model. If all their letters are of one case, the words of
                the file are read in that case.
            weight: of the natural log-probabilities.
            word_bonus: added for every word, against a preference for few of them.
            level: what the words of the file are: words, or symbols of units.
            unknown_log_prob: of words that are not in the file, if it has no ``<unk>``.

        Raises:
            InputMissingError: there is no such file, or it may not be read.
            UsageError: it is damaged or does not fit the units, or an argument is out of range.
        """
        return cls.build(
            read_ngrams(path),
            units,
            repr(os.fspath(path)),
            weight=weight,
            word_bonus=word_bonus,
            level=level,
            unknown_log_prob=unknown_log_prob,
        )

    @classmethod
    def build(
        cls,
        ngrams: Ngrams,
        units: Units,
        where: str,
        *,
        weight: float = 0.5,
        word_bonus: float = 0.0,
        level: Level = "word",
        unknown_log_prob: float = DEFAULT_UNKNOWN_LOG_PROB,
    ) -> LanguageModel:
        """The model of ``ngrams``, which errors call ``where``; see ``read``.

        Raises:
            UsageError: they do not fit the units, or an argument is out of range.
        """
        for name, value, low, high in (
            ("weight", weight, 0.0, MAX_WEIGHT),
            ("word_bonus", word_bonus, -MAX_WEIGHT, MAX_WEIGHT),
            ("unknown_log_prob", unknown_log_prob, -1000.0, 0.0),
        ):
            check_number(name, value, low, high, f"{low:g} to {high:g}")
        if level not in get_args(Level):
            raise UsageError.of_setting("level", level, " and ".join(get_args(Level)))
        ngrams, unknown = _with_unknown(ngrams, unknown_log_prob)
        marks = {mark: _index(ngrams, mark, where) for mark in (BEGIN, END)}
        contexts = NgramContexts.build(ngrams, where)
        none = np.array([NO_CONTEXT])
        context = int(contexts.follow(none, np.array([marks[BEGIN]]))[1][0])
        spelling, ahead = None, np.zeros(0)
        if level == "word":
            spelling = _spell(ngrams, unknown, units, where)
            words = spelling.words
            alone, _ = contexts.follow(np.full(len(words), NO_CONTEXT), words)
            ahead = weight * spelling.best_ahead(alone) + word_bonus
            ahead[0] = 0.0  # where no word is open
        return cls(
            start=context * (spelling.places if spelling else 1),
            weight=weight,
            word_bonus=word_bonus,
            _contexts=contexts,
            _end=marks[END],
            _spelling=spelling,
            _ahead=ahead,
            _word_of_unit=_units_as_words(ngrams, unknown, units, where, check=level == "unit"),
            _bonus_of_unit=np.where(units.starts_word, word_bonus, 0.0),
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> LanguageModel:
        return self

    def advance(self, states: States, units: UnitIds) -> tuple[Scores, States]:
        """See ``edge_asr.fusion.Automaton``."""
        if self._spelling is None:
            return self._advance_units(states, units)
        contexts, places = np.divmod(states, self._spelling.places)
        ended, after = self._spelling.advance(places, units)
        scores = self._ahead[after] - self._ahead[places]
        if (pairs := np.flatnonzero(ended)).size:
            words, contexts[pairs] = self._word_ends(contexts[pairs], places[pairs])
            scores[pairs] += words
        return scores, contexts * self._spelling.places + after

    def finish(self, states: States) -> Scores:
        """See ``edge_asr.fusion.Automaton``: scores the open word, and that the sentence ends."""
        contexts, scores = states.copy(), np.zeros(len(states))
        if self._spelling is not None:
            contexts, places = np.divmod(states, self._spelling.places)
            if (open_ := np.flatnonzero(places)).size:
                scores[open_], contexts[open_] = self._word_ends(contexts[open_], places[open_])
                scores[open_] -= self._ahead[places[open_]]
        ends, _ = self._contexts.follow(contexts, np.full(len(states), self._end))
        return scores + self.weight * ends

    def _word_ends(self, contexts: Ints, places: Ints) -> tuple[Scores, Ints]:
        """The words that are complete at places (N,): scores (N,) and the contexts (N,) behind."""
        assert self._spelling is not None
        scores, contexts = self._contexts.follow(contexts, self._spelling.words[places])
        return scores * self.weight + self.word_bonus, contexts

    def _advance_units(self, contexts: Ints, units: Ints) -> tuple[Scores, Ints]:
        words = self._word_of_unit[units]
        heard = words != _SILENT
        scores, after = self._contexts.follow(contexts, np.where(heard, words, self._end))
        scores = scores * self.weight + self._bonus_of_unit[units]
        return np.where(heard, scores, 0.0), np.where(heard, after, contexts)


def _index(ngrams: Ngrams, word: str, where: str) -> int:
    try:
        return ngrams.words.index(word)
    except ValueError:
        raise UsageError(
            f"{where}: has no {word}; estimate the model from sentences, e.g. with edge-asr lm"
        ) from None


def _with_unknown(ngrams: Ngrams, log_prob: float) -> tuple[Ngrams, int]:
    """``ngrams`` with a word for all unknown ones, and its index."""
    for name in _UNKNOWN_NAMES:
        if name in ngrams.words:
            return ngrams, ngrams.words.index(name)
    index, first = len(ngrams.words), ngrams.orders[0]
    longer = Order(
        words=np.append(first.words, np.array([[index]], np.int32), axis=0),
        log_probs=np.append(first.log_probs, log_prob),
        backoffs=np.append(first.backoffs, 0.0),
    )
    return Ngrams((*ngrams.words, UNKNOWN), (longer, *ngrams.orders[1:])), index


def _spell(ngrams: Ngrams, unknown: int, units: Units, where: str) -> Spelling:
    """How ``units`` spell the words.

    Raises:
        UsageError: they can spell none.
    """
    texts = [units.text([unit]) for unit in range(len(units))]
    # The most probable of those that are equal then is the last, and stays.
    rising = np.argsort(ngrams.orders[0].log_probs, kind="stable")
    marks = {BEGIN, END, *_UNKNOWN_NAMES}
    letters = set().union(*texts)
    ids = np.array([i for i in rising.tolist() if ngrams.words[i] not in marks], np.int64)
    words = [_in_letters(ngrams.words[i], letters, units) for i in ids]
    if words and not any(letters.issuperset(word) for word in words):
        raise UsageError(
            f"{where}: the units can write none of its {len(words)} words, as {words[-1][:40]!r}; "
            "choose a model of this language, or level='unit' if its words are units"
        )
    return Spelling.build(words, ids, unknown, units)


def _in_letters(word: str, letters: set[str], units: Units) -> str:
    """``word`` in the case of the units and, where they can write it, with their letters: é is one
    character or two."""
    forms = (unicodedata.normalize("NFC", word), word, unicodedata.normalize("NFD", word))
    folded = [units.fold_case(form) for form in dict.fromkeys(forms)]
    return next((form for form in folded if letters.issuperset(form)), folded[0])


def _units_as_words(ngrams: Ngrams, unknown: int, units: Units, where: str, *, check: bool) -> Ints:
    """(V,) the word that each unit's symbol is; those that write nothing are none.

    Raises:
        UsageError: no unit is a word, although ``check`` says that they are.
    """
    index = {unicodedata.normalize("NFC", word): i for i, word in enumerate(ngrams.words)}
    index |= {word: i for i, word in enumerate(ngrams.words)}  # as it is counts first
    composed = [unicodedata.normalize("NFC", symbol) for symbol in units.symbols]
    known = [
        index.get(symbol, index.get(form, unknown))
        for symbol, form in zip(units.symbols, composed, strict=True)
    ]
    words = np.array(
        [
            word if units.starts_word[unit] or units.text([unit]) else _SILENT
            for unit, word in enumerate(known)
        ],
        np.int64,
    )
    if check and not np.any((words != _SILENT) & (words != unknown)):
        raise UsageError(
            f"{where}: none of its words is a unit; estimate it from units, or use level='word'"
        )
    return words
