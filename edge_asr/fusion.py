"""What scores units beside the encoder while hypotheses grow: hotwords, language models, grammars.

Each is an ``Automaton`` over units. A hypothesis carries one state for each, and a search adds
what ``advance`` gives to the score of CTC.
"""

from __future__ import annotations

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
