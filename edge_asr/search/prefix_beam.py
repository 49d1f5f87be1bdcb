"""The hypotheses of a prefix beam search, as arrays: one row for each text.

Two texts are the same if their 64-bit keys are: a key is extended as a text is, so the search
finds in one comparison which text grows into which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_asr.fusion import Fusion
from edge_asr.search import Hypothesis, Token

IN_BLANK, IN_UNIT = 0, 1  # how an alignment ends
TOKEN = np.dtype([("id", "i4"), ("log_prob", "f4"), ("start", "i8"), ("end", "i8")])
_ROOM = 16  # tokens that arrays grow by
_EMPTY_KEY = np.uint64(0x9E3779B97F4A7C15)
_KEY_FACTOR = np.uint64(0xD1342543DE82EF95)

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint64]
Paths = npt.NDArray[Any]


@dataclass
class Beam:
    """B hypotheses."""

    scores: Doubles  # (2, B) log-probability of the text, over alignments in blank, and in a unit
    viterbi: Doubles  # (2, B) of the best such alignment
    paths: Paths  # (B, 2, L) of TOKEN: the best alignments
    lengths: Integers  # (B,) tokens in use
    last: Integers  # (B,) id of the last token; -1 without any
    keys: Keys  # (B,)
    parents: Keys  # (B,) key of the text without its last token
    fusion: Doubles  # (B,) what automata added
    states: Integers  # (A, B) of the automata

    @classmethod
    def empty(cls, fusion: Fusion) -> Beam:
        """One hypothesis, which says nothing."""
        nothing = np.array([[0.0], [-np.inf]])
        return cls(
            scores=nothing,
            viterbi=nothing.copy(),
            paths=np.zeros((1, 2, _ROOM), TOKEN),
            lengths=np.zeros(1, np.int64),
            last=np.full(1, -1),
            keys=np.full(1, _EMPTY_KEY),
            parents=np.zeros(1, np.uint64),
            fusion=np.zeros(1),
            states=fusion.start(1),
        )

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """(B, L) of the tokens; both paths have the same."""
        ids: npt.NDArray[np.int32] = self.paths["id"][:, IN_UNIT]
        return ids

    def totals(self) -> Doubles:
        """(B,) what hypotheses are ranked by."""
        totals: Doubles = np.logaddexp(self.scores[0], self.scores[1]) + self.fusion
        return totals

    def best(self) -> int:
        """The row of the best hypothesis."""
        return int(self.totals().argmax())

    def best_paths(self) -> Integers:
        """(B,) which of the two paths is the better alignment."""
        better: Integers = (self.viterbi[IN_UNIT] >= self.viterbi[IN_BLANK]).astype(np.int64)
        return better

    def tokens(self, row: int) -> list[Token]:
        """The best alignment of one hypothesis."""
        path = int(self.viterbi[IN_UNIT, row] >= self.viterbi[IN_BLANK, row])
        alignment = self.paths[row, path, : self.lengths[row]]
        fields = (alignment[name].tolist() for name in ("id", "start", "end", "log_prob"))
        return [Token(*values) for values in zip(*fields, strict=True)]

    def rows(self, rows: Integers) -> Beam:
        """These hypotheses alone, in this order."""
        return Beam(
            self.scores[:, rows],
            self.viterbi[:, rows],
            self.paths[rows],
            self.lengths[rows],
            self.last[rows],
            self.keys[rows],
            self.parents[rows],
            self.fusion[rows],
            self.states[:, rows],
        )

    def into_blank(self, log_prob: float) -> None:
        """Pass frames in which every alignment is in blank."""
        self.paths[:, IN_BLANK] = self.paths[np.arange(len(self.lengths)), self.best_paths()]
        self.viterbi[IN_BLANK] = self.viterbi.max(axis=0) + log_prob
        self.scores[IN_BLANK] = np.logaddexp(self.scores[0], self.scores[1]) + log_prob
        self.viterbi[IN_UNIT] = self.scores[IN_UNIT] = -np.inf

    def split(self, frame: int, kept: int, fusion: Fusion) -> tuple[list[Hypothesis], Beam]:
        """Cut each hypothesis where ``frame`` is, but not before its first ``kept`` tokens are
        over: what some align before the cut, others may align behind it.

        Returns:
            The texts before it, best first, without those that may not end there, and a beam of
            what is behind it. Hypotheses that became the same are one.
        """
        heads: dict[tuple[int, ...], tuple[list[Token], float]] = {}
        tails: dict[tuple[int, ...], list[int]] = {}
        counts = []
        scores = np.logaddexp(self.scores[0], self.scores[1])
        for row in np.argsort(-self.totals(), kind="stable").tolist():
            tokens = self.tokens(row)
            count = max(kept, sum(token.start < frame for token in tokens))
            counts.append((row, count))
            ids = tuple(token.id for token in tokens)
            known, score = heads.get(ids[:count], (_before(frame, tokens[:count]), -np.inf))
            heads[ids[:count]] = known, float(np.logaddexp(score, scores[row]))
            tails.setdefault(ids[count:], []).append(row)
        lengths = np.array([len(ids) for ids in heads])
        padded = np.zeros((len(heads), int(lengths.max())), np.int64)
        for place, ids in enumerate(heads):
            padded[place, : len(ids)] = ids
        added = fusion.scores(padded, lengths).tolist()
        ranked = [
            Hypothesis(tuple(tokens), score, bonus)
            for (tokens, score), bonus in zip(heads.values(), added, strict=True)
        ]
        ranked = [hypothesis for hypothesis in ranked if hypothesis.score > -np.inf]
        ranked.sort(key=lambda hypothesis: -hypothesis.score)
        return ranked, self._tails(list(tails.values()), dict(counts), fusion)

    def _tails(self, groups: list[list[int]], counts: dict[int, int], fusion: Fusion) -> Beam:
        """One hypothesis for each group of rows, without its first ``counts[row]`` tokens."""
        rest = self.rows(np.array([rows[0] for rows in groups]))
        for place, rows in enumerate(groups):
            count = counts[rows[0]]
            rest.lengths[place] -= count
            rest.paths[place] = np.roll(rest.paths[place], -count, axis=-1)
            rest.scores[:, place] = np.logaddexp.reduce(self.scores[:, rows], axis=1)
            rest.viterbi[:, place] = self.viterbi[:, rows].max(axis=1)
        rest.scores -= rest.scores.max()
        rest.viterbi -= rest.viterbi.max()
        width = max(_ROOM, int(rest.lengths.max()))
        rest.paths = rest.paths[:, :, :width].copy()
        rest.last = np.full(len(groups), -1)
        rest.keys, rest.parents = np.full(len(groups), _EMPTY_KEY), np.zeros(len(groups), np.uint64)
        for index in range(int(rest.lengths.max())):
            longer = np.flatnonzero(rest.lengths > index)
            ids = rest.ids[longer, index]
            rest.last[longer], rest.parents[longer] = ids, rest.keys[longer]
            rest.keys[longer] = extended_keys(rest.keys[longer], ids)
        rest.rescan(fusion)
        return rest

    def rescan(self, fusion: Fusion) -> None:
        """Let automata read all texts from their beginning."""
        self.fusion, self.states = fusion.read(self.ids.astype(np.int64), self.lengths)


def _before(frame: int, tokens: Sequence[Token]) -> list[Token]:
    """``tokens`` as they are in a segment that ends at ``frame``."""
    return [
        token if token.start < frame else token._replace(start=frame - 1, end=frame)
        for token in tokens
    ]


def extended_keys(keys: Keys, ids: npt.NDArray[np.integer[Any]]) -> Keys:
    """The keys (N,) of texts with one of ids (N,) behind each."""
    extended: Keys = keys * _KEY_FACTOR + (ids + 1).astype(np.uint64)
    return extended


def write_tokens(
    paths: Paths, rows: Integers, lengths: Integers, ids: Integers, log_probs: Doubles, frame: int
) -> Paths:
    """Write the last token of the texts in ``rows``, which begins in ``frame``."""
    if int(lengths.max()) > paths.shape[2]:
        paths = np.concatenate([paths, np.zeros((*paths.shape[:2], _ROOM), TOKEN)], axis=2)
    at = (rows, IN_UNIT, lengths[rows] - 1)
    paths["id"][at], paths["log_prob"][at] = ids[rows], log_probs[rows]
    paths["start"][at], paths["end"][at] = frame, frame + 1
    return paths


def extend_tokens(
    paths: Paths, rows: Integers, lengths: Integers, log_probs: Doubles, frame: int
) -> None:
    """Let the last token of the texts in ``rows`` sound on through ``frame``."""
    at = (rows, IN_UNIT, lengths[rows] - 1)
    paths["end"][at] = frame + 1
    paths["log_prob"][at] = np.maximum(paths["log_prob"][at], log_probs[rows])
