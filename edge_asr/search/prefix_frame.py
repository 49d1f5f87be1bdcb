"""One frame of a prefix beam search: how the texts of a beam go on.

Each of the B texts may stay as it is, in blank or in its last unit, or grow by one of the K units
that may be heard in the frame. A text that grows into another one of the beam becomes part of that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_asr.search.prefix_beam import (
    IN_BLANK,
    IN_UNIT,
    Beam,
    Doubles,
    Flags,
    Integers,
    Paths,
    extend_tokens,
    extended_keys,
    write_tokens,
)


class Frame(NamedTuple):
    """What may be heard in a frame. A column is the place of a unit among the K."""

    number: int
    units: Integers  # (K,)
    log_probs: Doubles  # (K,)
    blank_column: int  # -1 where blank is not among the units
    blank: float  # its log-probability, -inf there
    last: Integers  # (B,) column of the last unit of each text, -1 where it is not among the units


class Growth(NamedTuple):
    """One way of each text to go on; arrays of one shape, with a place for each text after it."""

    score: Doubles  # log-probability, summed over alignments
    viterbi: Doubles  # of the best alignment
    path: Integers  # that this goes on: 2 * row in the beam + IN_BLANK or IN_UNIT

    def followed_by(self, other: Growth) -> Growth:
        """Both in one, (N,), whatever their shapes."""
        return Growth(
            np.concatenate([self.score, other.score.ravel()]),
            np.concatenate([self.viterbi, other.viterbi.ravel()]),
            np.concatenate([self.path, other.path.ravel()]),
        )


def stay(beam: Beam, frame: Frame) -> tuple[Growth, Growth]:
    """The texts (B,) with nothing added: alignments in blank, and those in the last unit."""
    paths = 2 * np.arange(len(beam.lengths))
    is_heard = frame.last >= 0
    repeated = np.where(is_heard, frame.log_probs[frame.last], -np.inf)
    in_blank = Growth(
        np.logaddexp(beam.scores[IN_BLANK], beam.scores[IN_UNIT]) + frame.blank,
        beam.viterbi.max(axis=0) + frame.blank,
        paths + beam.best_paths(),
    )
    in_unit = Growth(
        beam.scores[IN_UNIT] + repeated,
        beam.viterbi[IN_UNIT] + repeated,
        paths + IN_UNIT,
    )
    return in_blank, in_unit


def grow(beam: Beam, frame: Frame) -> Growth:
    """Every text with every unit after it (B, K); its last unit again needs blank between."""
    rows = np.arange(len(beam.lengths))
    best = 2 * rows + beam.best_paths()
    score = np.logaddexp(beam.scores[IN_BLANK], beam.scores[IN_UNIT])
    grown = Growth(
        score[:, None] + frame.log_probs,
        beam.viterbi.max(axis=0)[:, None] + frame.log_probs,
        np.repeat(best[:, None], len(frame.units), axis=1),
    )
    again = (frame.last >= 0).nonzero()[0]
    column = frame.last[again]
    log_probs = frame.log_probs[column]
    grown.score[again, column] = beam.scores[IN_BLANK, again] + log_probs
    grown.viterbi[again, column] = beam.viterbi[IN_BLANK, again] + log_probs
    grown.path[again, column] = 2 * again + IN_BLANK
    if frame.blank_column >= 0:
        grown.score[:, frame.blank_column] = -np.inf
    return grown


def merge_into_existing(beam: Beam, frame: Frame, in_unit: Growth, grown: Growth) -> None:
    """Move what grows into a text of the beam from ``grown`` (B, K) to ``in_unit`` (B,)."""
    parent, child = np.nonzero(beam.keys[:, None] == beam.parents)
    is_heard = frame.last[child] >= 0
    parent = parent[is_heard]
    child = child[is_heard]
    if len(child) == 0:
        return
    column = frame.last[child]
    in_unit.score[child] = np.logaddexp(in_unit.score[child], grown.score[parent, column])
    is_better = grown.viterbi[parent, column] > in_unit.viterbi[child]
    better = parent[is_better], column[is_better]
    in_unit.viterbi[child[is_better]] = grown.viterbi[better]
    in_unit.path[child[is_better]] = grown.path[better]
    grown.score[parent, column] = -np.inf


class Candidates(NamedTuple):
    """All N = B + B * K texts after a frame: those of the beam, then each with each unit after it.
    ``in_blank`` is of the first B alone, as grown texts end in a unit."""

    in_blank: Growth
    in_unit: Growth
    fusion: Doubles  # (N,) what automata added
    states: Integers  # (A, N) of the automata

    def totals(self) -> Doubles:
        """(N,) what texts are ranked by."""
        totals = self.in_unit.score.copy()
        kept = slice(len(self.in_blank.score))
        totals[kept] = np.logaddexp(self.in_blank.score, totals[kept])
        totals += self.fusion
        return totals


def survivors(beam: Beam, frame: Frame, candidates: Candidates, chosen: Integers) -> Beam:
    """The beam after the frame: of all candidates those with the numbers ``chosen``, in this
    order."""
    in_blank, in_unit, fusion, states = candidates
    is_new = chosen >= len(beam.lengths)
    row, column = np.divmod(chosen - len(beam.lengths), len(frame.units))
    row = np.where(is_new, row, chosen)
    column = np.where(is_new, column, frame.last[row])
    keys = beam.keys[row]
    last = np.where(is_new, frame.units[column], beam.last[row])
    lengths = beam.lengths[row] + is_new
    sources = np.stack([in_blank.path[row], in_unit.path[chosen]], axis=1)
    is_longer = is_new | (sources[:, IN_UNIT] // 2 != row)
    scores = np.stack([in_blank.score[row], in_unit.score[chosen]])
    viterbi = np.stack([in_blank.viterbi[row], in_unit.viterbi[chosen]])
    scores[IN_BLANK, is_new] = viterbi[IN_BLANK, is_new] = -np.inf
    paths = beam.paths.reshape(-1, beam.paths.shape[2])[sources]
    return Beam(
        scores=scores,
        viterbi=viterbi,
        paths=_with_last_tokens(paths, frame, is_longer, lengths, last, column),
        lengths=lengths,
        last=last,
        keys=np.where(is_new, extended_keys(keys, last), keys),
        parents=np.where(is_new, keys, beam.parents[row]),
        fusion=fusion[chosen],
        states=states[:, chosen],
    )


def _with_last_tokens(
    paths: Paths,
    frame: Frame,
    is_longer: Flags,
    lengths: Integers,
    ids: Integers,
    columns: Integers,
) -> Paths:
    """``paths`` (N, 2, L) with the unit that is heard in the frame: as another token where the
    path ``is_longer``, else as more of its last, unless that is not heard (column -1)."""
    log_probs = frame.log_probs[columns]
    begun = is_longer.nonzero()[0]
    paths = write_tokens(paths, begun, lengths, ids, log_probs, frame.number)
    repeated = (~is_longer & (columns >= 0)).nonzero()[0]
    extend_tokens(paths, repeated, lengths, log_probs, frame.number)
    return paths
