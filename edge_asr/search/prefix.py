"""CTC prefix beam search, streaming.

A hypothesis is a text. Its score is the log-probability of that text, summed over the alignments
that survived the beam and kept apart by whether they end in blank (Graves, "Supervised Sequence
Labelling with RNNs", 7.5.3; WeNet's ``ctc_prefix_beam_search`` prunes in the same way: the best
``beam`` units of each frame, then the best ``beam`` texts). Beside it runs Viterbi: the best single
alignment ending in blank, and in the last unit, each with the place of every token.

numpy finds the best units of all frames of a step at once, so that a frame costs the same for any
vocabulary; after that a frame is a hundred numbers at most, for which Python's own floats are
several times faster than arrays. Frames of which blank is nearly all the mass only move mass into
blank, and a run of them is one addition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edge_asr.fusion import Fusion
from edge_asr.search import Hypothesis, LogProbs, Token
from edge_asr.search.prefix_beam import Beam
from edge_asr.search.prefix_frame import Frame, next_beam

BEAM = 10
SCORE_BEAM = 20.0  # nats below the best text, where a hypothesis is given up
BLANK_SKIP = 0.99  # frames with more blank than this hold no unit


@dataclass
class PrefixSearch:
    """``edge_asr.search.Search`` with a beam of texts.

    ``blank_skip`` 1, ``score_beam`` infinite and ``blank_penalty`` 0 give the plain algorithm.
    ``blank_penalty`` nats are taken from blank in each frame that is not skipped (where all texts
    would lose them alike), so that a network which hesitates says more.
    """

    blank: int
    beam: int = BEAM
    score_beam: float = SCORE_BEAM
    blank_skip: float = BLANK_SKIP
    fusion: Fusion = field(default_factory=Fusion)
    blank_penalty: float = 0.0
    frames: int = 0
    kept: int = 0  # tokens that all hypotheses begin with for good
    hypotheses: Beam = field(init=False)

    def __post_init__(self) -> None:
        self.hypotheses = Beam.empty(self.fusion)

    def push(self, log_probs: LogProbs) -> None:
        """See ``Search``."""
        blank = log_probs[:, self.blank]
        active = (blank <= math.log(self.blank_skip)).nonzero()[0]
        if len(active) == 0:
            self._pass_blank(blank)
            return
        heard = log_probs[active]
        width = min(self.beam, heard.shape[1])
        # (frames, K) the best units of each frame that may hold one
        units = np.argpartition(heard, heard.shape[1] - width, axis=1)[:, -width:]
        values = heard[np.arange(len(active))[:, None], units]
        done = 0
        for frame, ids, log_prob in zip(
            active.tolist(), units.tolist(), values.tolist(), strict=True
        ):
            self._pass_blank(blank[done:frame])
            done = frame + 1
            self._push_frame(ids, log_prob)
        self._pass_blank(blank[done:])

    def skip(self, frames: int) -> None:
        """See ``Search``."""
        self.hypotheses.into_blank(0.0)
        self.frames += frames

    def tokens(self) -> list[Token]:
        """See ``Search``."""
        return list(self.hypotheses.best().tokens)

    def agreed(self, margin: float) -> int:
        """See ``Search``."""
        return self.hypotheses.agreed(margin)

    def keep(self, count: int) -> None:
        """See ``Search``."""
        self.hypotheses.keep(count)
        self.kept = max(self.kept, count)

    def cut(self, frame: int) -> list[Hypothesis]:
        """See ``Search``. Scores count from the last cut."""
        head = self._head_of_phrase(frame)
        after = self.fusion.after(head) if head else self.fusion.at(None)
        heads, self.hypotheses = self.hypotheses.split(frame, self.kept, self.fusion, after, head)
        self.fusion, self.kept = after, 0
        return heads

    def set_fusion(self, fusion: Fusion) -> None:
        """See ``Search``."""
        self.fusion = fusion.at(self.fusion.phrase_state)
        self.hypotheses.rescan(self.fusion)

    def _head_of_phrase(self, frame: int) -> tuple[int, ...]:
        """The units before ``frame`` of the phrase of a grammar that goes on after it, if one does.
        The best text alone decides: others would go on in other states of the grammar."""
        best = self.hypotheses.best()
        count = max(self.kept, sum(token.start < frame for token in best.tokens))
        is_divided = self.fusion.has_grammar and count < len(best.tokens)
        return best.ids[:count] if is_divided else ()

    def _pass_blank(self, log_probs: LogProbs) -> None:
        if len(log_probs):
            self.hypotheses.into_blank(float(log_probs.sum(dtype=np.float64)))
            self.frames += len(log_probs)

    def _push_frame(self, units: list[int], log_probs: list[float]) -> None:
        """Advance by one frame, in which only ``units`` (K,) may be heard."""
        blank = -math.inf
        if self.blank in units:
            column = units.index(self.blank)
            del units[column]
            blank = log_probs.pop(column) - self.blank_penalty
        columns = {unit: column for column, unit in enumerate(units)}
        frame = Frame(self.frames, units, log_probs, columns, blank)
        beam = next_beam(self.hypotheses, frame, self.fusion, self.beam, self.score_beam)
        if beam is not None:
            self.hypotheses = beam
        else:  # no unit is possible, and no blank
            self.hypotheses.into_blank(0.0)
        self.frames += 1
