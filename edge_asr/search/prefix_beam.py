"""The hypotheses of a prefix beam search: one value for each text, which never changes.

Two texts are the same if their 64-bit keys are: a key is extended as a text is, so the search
finds with one look which text grows into which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from edge_asr.fusion import Fusion, States
from edge_asr.search import Hypothesis, Token

NO_UNIT = -1  # the last unit of the empty text
_EMPTY_KEY = 0x9E3779B97F4A7C15
_KEY_FACTOR = 0xD1342543DE82EF95
_KEY_MASK = (1 << 64) - 1


Tokens = tuple[Token, ...]


class Text(NamedTuple):
    """One hypothesis. Scores are log-probabilities, kept apart by how an alignment ends: in blank
    or in the last unit."""

    last: int  # unit
    key: int
    parent: int  # key of the text without its last unit
    score: float  # of all its alignments
    in_blank: float
    in_unit: float
    best_in_blank: float  # of the best alignment
    best_in_unit: float
    blank_tokens: Tokens  # in that alignment
    unit_tokens: Tokens
    fusion: float  # what automata added

    def __deepcopy__(self, memo: object) -> Text:
        return self  # nothing in it changes

    @property
    def total(self) -> float:
        """What texts are ranked by."""
        return self.score + self.fusion

    @property
    def tokens(self) -> Tokens:
        """In the best of all alignments."""
        return self.unit_tokens if self.best_in_unit >= self.best_in_blank else self.blank_tokens

    @property
    def ids(self) -> tuple[int, ...]:
        """Its units; all alignments have the same."""
        return tuple([token.id for token in self.unit_tokens])

    def into_blank(self, log_prob: float) -> Text:
        """The text after frames in which every alignment is in blank."""
        (last, key, parent, score, _, _, best_in_blank, best_in_unit, tokens, unit_tokens,
         fusion) = self  # fmt: skip
        if best_in_unit >= best_in_blank:
            best_in_blank, tokens = best_in_unit, unit_tokens
        score += log_prob
        best_in_blank += log_prob
        return Text(
            last, key, parent, score, score, -math.inf, best_in_blank, -math.inf, tokens,
            unit_tokens, fusion,
        )  # fmt: skip


_EMPTY = Text(NO_UNIT, _EMPTY_KEY, 0, 0.0, 0.0, -math.inf, 0.0, -math.inf, (), (), 0.0)


@dataclass
class Beam:
    """B hypotheses, and the states (A, B) of the automata after them."""

    texts: list[Text]
    states: States

    @classmethod
    def empty(cls, fusion: Fusion) -> Beam:
        """One hypothesis, which says nothing."""
        return cls([_EMPTY], fusion.start(1))

    def best(self) -> Text:
        """The best hypothesis."""
        return max(self.texts, key=_total)

    def into_blank(self, log_prob: float) -> None:
        """Pass frames in which every alignment is in blank."""
        self.texts = [text.into_blank(log_prob) for text in self.texts]

    def agreed(self, margin: float) -> int:
        """How many units all texts begin with that are within ``margin`` of the best."""
        totals = [text.score + text.fusion for text in self.texts]
        lowest = max(totals) - margin
        rivals = [
            text.ids for text, total in zip(self.texts, totals, strict=True) if total >= lowest
        ]
        first, last = min(rivals), max(rivals)  # all others are between: they share what these do
        shared = zip(first, last, strict=False)
        return next((place for place, (a, b) in enumerate(shared) if a != b), len(first))

    def keep(self, count: int) -> None:
        """Drop the texts that do not begin with the first ``count`` units of the best."""
        wanted = self.best().ids[:count]
        rows = [row for row, text in enumerate(self.texts) if text.ids[:count] == wanted]
        if len(rows) < len(self.texts):
            self.texts, self.states = [self.texts[row] for row in rows], self.states[:, rows]

    def split(
        self, frame: int, kept: int, fusion: Fusion, after: Fusion, head: tuple[int, ...] = ()
    ) -> tuple[list[Hypothesis], Beam]:
        """Cut each hypothesis where ``frame`` is, but not before its first ``kept`` tokens are
        over: what some align before the cut, others may align behind it.

        Args:
            fusion, after: what scores the texts before the cut, and those behind it.
            head: the units of a phrase that goes on behind the cut, if one does. Texts that do not
                begin with it are given up, and all others are cut after it.

        Returns:
            The texts before it, best first, without those that may not end there, and a beam of
            what is behind it. Hypotheses that became the same are one.
        """
        heads: dict[tuple[int, ...], tuple[list[Token], float]] = {}
        tails: dict[tuple[int, ...], list[tuple[Text, int]]] = {}
        for text in sorted(self.texts, key=_total, reverse=True):
            tokens, ids = text.tokens, text.ids
            if ids[: len(head)] != head:
                continue
            count = len(head) or max(kept, sum(token.start < frame for token in tokens))
            known, score = heads.get(ids[:count], (_before(frame, tokens[:count]), -math.inf))
            heads[ids[:count]] = known, log_add(score, text.score)
            tails.setdefault(ids[count:], []).append((text, count))
        added = fusion.scores(*_padded(list(heads)), inside_phrase=bool(head)).tolist()
        ranked = [
            Hypothesis(tuple(tokens), score, bonus)
            for (tokens, score), bonus in zip(heads.values(), added, strict=True)
        ]
        ranked = [hypothesis for hypothesis in ranked if hypothesis.score > -math.inf]
        ranked.sort(key=lambda hypothesis: -hypothesis.score)
        return ranked, _tails(tails, after)

    def rescan(self, fusion: Fusion) -> None:
        """Let automata read all texts from their beginning."""
        added, self.states = fusion.read(*_padded([text.ids for text in self.texts]))
        self.texts = [
            text._replace(fusion=bonus)
            for text, bonus in zip(self.texts, added.tolist(), strict=True)
        ]


def log_add(a: float, b: float) -> float:
    """``log(exp(a) + exp(b))``."""
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


def extended_key(key: int, unit: int) -> int:
    """The key of a text with one more unit."""
    return (key * _KEY_FACTOR + unit + 1) & _KEY_MASK


def _total(text: Text) -> float:
    return text.score + text.fusion


def _before(frame: int, tokens: Sequence[Token]) -> list[Token]:
    """``tokens`` as they are in a segment that ends at ``frame``."""
    return [
        token if token.start < frame else token._replace(start=frame - 1, end=frame)
        for token in tokens
    ]


def _padded(texts: Sequence[tuple[int, ...]]) -> tuple[States, States]:
    """Texts as ids (N, L), and how many of them (N,) count."""
    lengths = np.array([len(ids) for ids in texts])
    padded = np.zeros((len(texts), int(lengths.max())), np.int64)
    for row, ids in enumerate(texts):
        padded[row, : len(ids)] = ids
    return padded, lengths


def _tails(groups: dict[tuple[int, ...], list[tuple[Text, int]]], fusion: Fusion) -> Beam:
    """One hypothesis for each tail: of its texts, each without its first units, so many."""
    texts = [_tail(ids, members) for ids, members in groups.items()]
    highest = max(max(text.in_blank, text.in_unit) for text in texts)
    likeliest = max(max(text.best_in_blank, text.best_in_unit) for text in texts)
    beam = Beam([_lowered(text, highest, likeliest) for text in texts], fusion.start(len(texts)))
    beam.rescan(fusion)
    return beam


def _tail(ids: tuple[int, ...], members: list[tuple[Text, int]]) -> Text:
    """One text of all ``members``, each without its first units, so many."""
    keys = _keys(ids)
    best_in_blank, blank_count = max(members, key=lambda member: member[0].best_in_blank)
    best_in_unit, unit_count = max(members, key=lambda member: member[0].best_in_unit)
    return Text(
        last=ids[-1] if ids else NO_UNIT,
        key=keys[-1],
        parent=keys[-2] if ids else 0,
        score=-math.inf,  # until it is lowered
        in_blank=reduce(log_add, [text.in_blank for text, _ in members]),
        in_unit=reduce(log_add, [text.in_unit for text, _ in members]),
        best_in_blank=best_in_blank.best_in_blank,
        best_in_unit=best_in_unit.best_in_unit,
        blank_tokens=best_in_blank.blank_tokens[blank_count:],
        unit_tokens=best_in_unit.unit_tokens[unit_count:],
        fusion=0.0,
    )


def _lowered(text: Text, score: float, best: float) -> Text:
    """``text`` with less: ``score`` of its sums, ``best`` of its best alignments."""
    in_blank, in_unit = text.in_blank - score, text.in_unit - score
    return text._replace(
        score=log_add(in_blank, in_unit),
        in_blank=in_blank,
        in_unit=in_unit,
        best_in_blank=text.best_in_blank - best,
        best_in_unit=text.best_in_unit - best,
    )


def _keys(ids: Iterable[int]) -> list[int]:
    """Of a text and all that it begins with, the empty one first."""
    keys = [_EMPTY_KEY]
    for unit in ids:
        keys.append(extended_key(keys[-1], unit))
    return keys
