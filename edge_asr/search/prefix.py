"""CTC prefix beam search, streaming and vectorised over the beam.

A hypothesis is a text. Its score is the log-probability of that text, summed over the alignments
that survived the beam and kept apart by whether they end in blank (Graves, "Supervised Sequence
Labelling with RNNs", 7.5.3; WeNet's ``ctc_prefix_beam_search`` prunes in the same way: the best
``beam`` units of each frame, then the best ``beam`` texts). Beside it runs Viterbi: the best single
alignment ending in blank, and in the last unit, each with the place of every token.

All hypotheses advance at once in numpy, so that a frame costs the same for any vocabulary. Frames
of which blank is nearly all the mass only move mass into blank, and a run of them is one addition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edge_asr.fusion import Fusion
from edge_asr.search import Hypothesis, LogProbs, Token
from edge_asr.search.prefix_beam import Beam, Doubles, Integers
from edge_asr.search.prefix_frame import (
    Candidates,
    Frame,
    grow,
    merge_into_existing,
    stay,
    survivors,
)

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
        vocab_size = log_probs.shape[1]
        width = min(self.beam, vocab_size)
        # (frames, K) the best units of each frame that may hold one
        units = np.argpartition(log_probs[active], vocab_size - width, axis=1)[:, -width:]
        column = np.full(vocab_size + 1, -1)  # of a unit among the K; the last is for "none"
        done = 0
        for frame, best in zip(active.tolist(), units, strict=True):
            self._pass_blank(blank[done:frame])
            done = frame + 1
            column[best] = np.arange(width)
            self._push_frame(log_probs[frame].astype(np.float64), best, column)
            column[best] = -1
            self.frames += 1
        self._pass_blank(blank[done:])

    def skip(self, frames: int) -> None:
        """See ``Search``."""
        self.hypotheses.into_blank(0.0)
        self.frames += frames

    def tokens(self) -> list[Token]:
        """See ``Search``."""
        return self.hypotheses.tokens(self.hypotheses.best())

    def agreed(self, margin: float) -> int:
        """See ``Search``."""
        beam = self.hypotheses
        totals, best = beam.totals(), beam.best()
        rivals = np.flatnonzero(totals >= totals[best] - margin)
        length = int(beam.lengths[rivals].min())
        ids = beam.ids[:, :length]
        same = (ids[rivals] == ids[best]).all(axis=0)
        return length if same.all() else int(same.argmin())

    def keep(self, count: int) -> None:
        """See ``Search``."""
        beam = self.hypotheses
        ids = beam.ids[:, :count]
        same = (ids == ids[beam.best()]).all(axis=1) & (beam.lengths >= count)
        if not same.all():
            self.hypotheses = beam.rows(np.flatnonzero(same))
        self.kept = max(self.kept, count)

    def cut(self, frame: int) -> list[Hypothesis]:
        """See ``Search``. Scores count from the last cut."""
        heads, self.hypotheses = self.hypotheses.split(frame, self.kept, self.fusion)
        self.kept = 0
        return heads

    def set_fusion(self, fusion: Fusion) -> None:
        """See ``Search``."""
        self.fusion = fusion
        self.hypotheses.rescan(fusion)

    def _pass_blank(self, log_probs: LogProbs) -> None:
        if len(log_probs):
            self.hypotheses.into_blank(float(log_probs.sum(dtype=np.float64)))
            self.frames += len(log_probs)

    def _push_frame(self, log_probs: Doubles, units: Integers, column: Integers) -> None:
        """Advance by one frame, log_probs (V,), in which only ``units`` (K,) may be heard;
        ``column`` (V + 1,) finds a unit among them and holds -1 for all others."""
        beam = self.hypotheses
        blank_column = int(column[self.blank])
        frame = Frame(
            number=self.frames,
            units=units,
            log_probs=log_probs[units],
            blank_column=blank_column,
            blank=log_probs[self.blank] - self.blank_penalty if blank_column >= 0 else -np.inf,
            last=column[beam.last],
        )
        in_blank, in_unit = stay(beam, frame)
        grown = grow(beam, frame)
        merge_into_existing(beam, frame, in_unit, grown)
        fusion, states = self._fusion_of_all(units)
        candidates = Candidates(in_blank, in_unit.followed_by(grown), fusion, states)
        chosen = self._select(candidates.totals())
        if len(chosen):
            self.hypotheses = survivors(beam, frame, candidates, chosen)
        else:  # no unit is possible, and no blank
            beam.into_blank(0.0)

    def _fusion_of_all(self, units: Integers) -> tuple[Doubles, Integers]:
        """``fusion`` and ``states`` of all candidates of a frame with ``units`` (K,)."""
        beam = self.hypotheses
        fusion = np.repeat(beam.fusion, len(units))
        states = np.repeat(beam.states, len(units), axis=1)
        if self.fusion:
            added, states = self.fusion.advance(states, np.tile(units, len(beam.lengths)))
            fusion += added
        return (
            np.concatenate([beam.fusion, fusion]),
            np.concatenate([beam.states, states], axis=1),
        )

    def _select(self, totals: Doubles) -> Integers:
        """Which candidates stay in the beam, by their totals (N,); best first."""
        order = np.argsort(-totals, kind="stable")[: self.beam]
        lowest = max(-math.inf, totals[order[0]] - self.score_beam)
        chosen: Integers = order[totals[order] > lowest]
        return chosen
