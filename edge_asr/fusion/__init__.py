"""What scores units beside the encoder while hypotheses grow: hotwords, language models, grammars.

Each is an ``Automaton`` over units. A hypothesis carries one state for each, and a search adds
what ``advance`` gives to the score of CTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
States = npt.NDArray[np.int64]
UnitIds = npt.NDArray[np.int64]


class Automaton(Protocol):
    """Deterministic, immutable, shared by streams; it never grows, so a board may run for weeks.

    All its states are known from the beginning, as integers of its own.
    """

    @property
    def start(self) -> int:
        """The state before the first unit of a segment."""

    def advance(self, states: States, units: UnitIds) -> tuple[Scores, States]:
        """Each of states (N,) by its own of units (N,): scores (N,) to add, next states (N,).

        A score of -inf forbids the unit there.
        """

    def finish(self, states: States) -> Scores:
        """Scores (N,) to add where a segment ends in states (N,); -inf forbids its end there."""


@dataclass(frozen=True)
class Fusion:
    """Several automata as one; a state is a column, one row for each of them."""

    automata: tuple[Automaton, ...] = ()

    def __deepcopy__(self, memo: object) -> Fusion:
        return self  # nothing in it changes

    def __bool__(self) -> bool:
        return bool(self.automata)

    def start(self, count: int) -> States:
        """(A, count) states before the first unit."""
        starts = [automaton.start for automaton in self.automata]
        return np.repeat(np.array(starts, np.int64)[:, None], count, axis=1)

    def advance(self, states: States, units: UnitIds) -> tuple[Scores, States]:
        """states (A, N) by units (N,): scores (N,) to add, next states (A, N)."""
        scores, after = np.zeros(len(units)), np.empty_like(states)
        for row, automaton in enumerate(self.automata):
            added, after[row] = automaton.advance(states[row], units)
            scores += added
        return scores, after

    def finish(self, states: States) -> Scores:
        """Scores (N,) to add where a segment ends in states (A, N)."""
        scores = np.zeros(states.shape[1])
        for row, automaton in enumerate(self.automata):
            scores += automaton.finish(states[row])
        return scores

    def read(self, ids: UnitIds, lengths: States) -> tuple[Scores, States]:
        """Texts ids (N, L), of which ``lengths`` (N,) units count, from their beginning: scores
        (N,) and the states (A, N) behind them."""
        count = len(lengths)
        total, states = np.zeros(count), self.start(count)
        for place in range(int(lengths.max(initial=0)) if self.automata else 0):
            rows = (lengths > place).nonzero()[0]
            added, states[:, rows] = self.advance(states[:, rows], ids[rows, place])
            total[rows] += added
        return total, states

    def scores(self, ids: UnitIds, lengths: States) -> Scores:
        """(N,) what texts get as whole segments; see ``read``."""
        total, states = self.read(ids, lengths)
        return total + self.finish(states)
