"""What scores units beside the encoder while hypotheses grow: hotwords, language models, grammars.

Each is an ``Automaton`` over units. A hypothesis carries one state for each, and a search adds
what ``advance`` gives to the score of CTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    """Several automata as one; a state is a column, one row for each of them.

    Attributes:
        has_grammar: the last of them is a grammar: a phrase that a cut divides goes on after it.
        phrase_state: the state of the grammar that such a phrase goes on from; None where a
            segment begins with a phrase.
    """

    automata: tuple[Automaton, ...] = ()
    has_grammar: bool = False
    phrase_state: int | None = None

    def __deepcopy__(self, memo: object) -> Fusion:
        return self  # nothing in it changes

    def __bool__(self) -> bool:
        return bool(self.automata)

    def start(self, count: int) -> States:
        """(A, count) states before the first unit."""
        starts = [automaton.start for automaton in self.automata]
        if self.phrase_state is not None:
            starts[-1] = self.phrase_state
        return np.repeat(np.array(starts, np.int64)[:, None], count, axis=1)

    def advance(self, states: States, units: UnitIds) -> tuple[Scores, States]:
        """states (A, N) by units (N,): scores (N,) to add, next states (A, N)."""
        scores, after = np.zeros(len(units)), np.empty_like(states)
        for row, automaton in enumerate(self.automata):
            added, after[row] = automaton.advance(states[row], units)
            scores += added
        return scores, after

    def finish(self, states: States, *, inside_phrase: bool = False) -> Scores:
        """Scores (N,) to add where a segment ends in states (A, N), if so inside a phrase."""
        scores = np.zeros(states.shape[1])
        ending = self.automata[:-1] if inside_phrase and self.has_grammar else self.automata
        for row, automaton in enumerate(ending):
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

    def scores(self, ids: UnitIds, lengths: States, *, inside_phrase: bool = False) -> Scores:
        """(N,) what texts get as whole segments; see ``read`` and ``finish``."""
        total, states = self.read(ids, lengths)
        return total + self.finish(states, inside_phrase=inside_phrase)

    def after(self, ids: Sequence[int]) -> Fusion:
        """For a segment that begins inside a phrase, after these units of it."""
        _, states = self.read(np.array([ids], np.int64), np.array([len(ids)]))
        return replace(self, phrase_state=int(states[-1, 0]))

    def at(self, phrase_state: int | None) -> Fusion:
        """For a segment that begins in this state of the grammar, if there is one."""
        return replace(self, phrase_state=phrase_state if self.has_grammar else None)
