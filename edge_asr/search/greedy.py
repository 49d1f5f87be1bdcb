"""Greedy CTC search: the best unit of each frame, repeats joined, blanks dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge_asr.fusion import Fusion
from edge_asr.search import Hypothesis, LogProbs, Token


@dataclass
class GreedySearch:
    """``edge_asr.search.Search`` with one hypothesis. A token never changes its id.

    ``blank_penalty`` nats are taken from blank in frames that have less of it than
    ``blank_skip``, as in prefix search.
    """

    blank: int
    blank_penalty: float = 0.0
    blank_skip: float = 1.0
    frames: int = 0
    last_id: int | None = None  # of the last frame
    open_tokens: list[Token] = field(default_factory=list)

    def push(self, log_probs: LogProbs) -> None:
        """See ``Search``."""
        if len(log_probs) == 0:
            return
        ids = self._best(log_probs)
        # A run is a stretch of frames with the same id. Only runs are visited in Python: spikes
        # are few, frames are many.
        begins = np.concatenate([[0], np.flatnonzero(np.diff(ids)) + 1])
        heard = log_probs[np.arange(len(ids)), ids]
        peaks = np.maximum.reduceat(heard, begins).tolist()
        ends = [*begins[1:].tolist(), len(ids)]
        for unit, begin, end, peak in zip(
            ids[begins].tolist(), begins.tolist(), ends, peaks, strict=True
        ):
            if unit == self.blank:
                continue
            token = Token(unit, self.frames + begin, self.frames + end, peak)
            if not (begin == 0 and unit == self.last_id):
                self.open_tokens.append(token)
            elif self.open_tokens and self.open_tokens[-1].end == token.start:
                before = self.open_tokens[-1]
                self.open_tokens[-1] = before._replace(
                    end=token.end, log_prob=max(before.log_prob, token.log_prob)
                )
        self.frames += len(ids)
        self.last_id = int(ids[-1])

    def _best(self, log_probs: LogProbs) -> npt.NDArray[np.intp]:
        """(T',) the best unit of each frame."""
        if self.blank_penalty:
            blank = log_probs[:, self.blank]
            is_active = blank <= math.log(self.blank_skip)
            log_probs = log_probs.copy()
            log_probs[:, self.blank] = np.where(is_active, blank - self.blank_penalty, blank)
        ids: npt.NDArray[np.intp] = log_probs.argmax(axis=1)
        return ids

    def set_fusion(self, fusion: Fusion) -> None:
        """Nothing to score: ``Decoding`` refuses automata for greedy search."""

    def skip(self, frames: int) -> None:
        """See ``Search``."""
        self.frames += frames
        self.last_id = None

    def tokens(self) -> list[Token]:
        """See ``Search``."""
        return list(self.open_tokens)

    def agreed(self, margin: float) -> int:
        """All of them: there is no other hypothesis."""
        return len(self.open_tokens)

    def keep(self, count: int) -> None:
        """Nothing to drop."""

    def cut(self, frame: int) -> list[Hypothesis]:
        """See ``Search``. The score is that of the tokens alone."""
        before = tuple(token for token in self.open_tokens if token.start < frame)
        del self.open_tokens[: len(before)]
        return [Hypothesis(before, sum(token.log_prob for token in before))]


def greedy(log_probs: LogProbs, blank: int) -> list[Token]:
    """The tokens of a whole utterance (T', V)."""
    search = GreedySearch(blank)
    search.push(log_probs)
    return search.tokens()
