"""What every search of the first pass has in common: CTC frames in, hypotheses out.

A search holds an open text. ``keep`` fixes its beginning, ``cut`` takes a segment off its front;
nothing else removes tokens. A deep copy is a snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge_asr.fusion import Fusion

LogProbs = npt.NDArray[np.float32]


class Token(NamedTuple):
    """One unit: encoder frames [start, end) and the log-probability at its peak."""

    id: int
    start: int
    end: int
    log_prob: float


@dataclass(frozen=True)
class Hypothesis:
    """One text of a segment. ``ctc_score`` is the log-probability of the text, summed over all
    its alignments where the search does that; ``fusion_score`` is what ``edge_asr.fusion`` adds."""

    tokens: tuple[Token, ...]
    ctc_score: float
    fusion_score: float = 0.0

    @property
    def score(self) -> float:
        """What the first pass ranks by."""
        return self.ctc_score + self.fusion_score


class Search(Protocol):
    """A search of the first pass. Frames count from its beginning and are never reset."""

    frames: int

    def push(self, log_probs: LogProbs) -> None:
        """Search on through ``log_probs`` (T', V)."""

    def set_fusion(self, fusion: Fusion) -> None:
        """Score the open text, and all that follows, by these automata."""

    def skip(self, frames: int) -> None:
        """Pass over frames that have no log-probabilities; no token goes on behind them."""

    def tokens(self) -> list[Token]:
        """The open text by the best hypothesis. A last token that ends at ``frames`` may grow."""

    def agreed(self, margin: float) -> int:
        """How many tokens all hypotheses share that score within ``margin`` of the best."""

    def keep(self, count: int) -> None:
        """Drop every hypothesis that does not begin with the first ``count`` tokens."""

    def cut(self, frame: int) -> list[Hypothesis]:
        """Take out what began before ``frame`` and go on with the rest: the n-best list of the
        segment, best first, scores of its end included; empty if no hypothesis may end there."""
