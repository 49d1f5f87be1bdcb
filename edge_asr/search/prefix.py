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
from edge_asr.search.prefix_beam import (
    IN_BLANK,
    IN_UNIT,
    TOKEN,
    Beam,
    Doubles,
    Integers,
    extend_tokens,
    extended_keys,
    write_tokens,
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
        beam, count, width = self.hypotheses, len(self.hypotheses.lengths), len(units)
        scores, viterbi, best = beam.scores, beam.viterbi, beam.best_paths()
        heard, own = log_probs[units], column[beam.last]  # (K,); (B,) the last unit among the K
        score, alignment = np.logaddexp(scores[0], scores[1]), viterbi.max(axis=0)
        blank = -np.inf
        if column[self.blank] >= 0:
            blank = log_probs[self.blank] - self.blank_penalty
        repeated = np.where(own >= 0, heard[own], -np.inf)
        stay, stay_viterbi = np.empty((2, count)), np.empty((2, count))
        stay[IN_BLANK], stay[IN_UNIT] = score + blank, scores[IN_UNIT] + repeated
        stay_viterbi[IN_BLANK] = alignment + blank
        stay_viterbi[IN_UNIT] = viterbi[IN_UNIT] + repeated

        # Every text with every unit behind it, (B, K); its last unit again needs blank between.
        grown, grown_viterbi = score[:, None] + heard, alignment[:, None] + heard
        grown_path = np.empty((count, width), np.int64)
        grown_path[:] = best[:, None]
        again = (own >= 0).nonzero()[0]
        at = own[again]
        grown[again, at] = scores[IN_BLANK, again] + heard[at]
        grown_viterbi[again, at] = viterbi[IN_BLANK, again] + heard[at]
        grown_path[again, at] = IN_BLANK
        if column[self.blank] >= 0:
            grown[:, column[self.blank]] = -np.inf

        # A text that grows into one of the beam becomes part of that.
        source, source_path = np.arange(count), np.full(count, IN_UNIT)
        appended = np.zeros(count, np.bool_)
        parent, child = np.nonzero(beam.keys[:, None] == beam.parents)
        heard_child = own[child] >= 0
        parent, child = parent[heard_child], child[heard_child]
        if len(child):
            at = own[child]
            stay[IN_UNIT, child] = np.logaddexp(stay[IN_UNIT, child], grown[parent, at])
            better = grown_viterbi[parent, at] > stay_viterbi[IN_UNIT, child]
            won, lost, at_won = child[better], parent[better], at[better]
            stay_viterbi[IN_UNIT, won] = grown_viterbi[lost, at_won]
            source[won], source_path[won], appended[won] = lost, grown_path[lost, at_won], True
            grown[parent, at] = -np.inf

        totals = np.empty(count + grown.size)
        totals[:count] = np.logaddexp(stay[0], stay[1]) + beam.fusion
        fusion, states = np.repeat(beam.fusion, width), beam.states
        if self.fusion:
            added, states = self.fusion.advance(
                np.repeat(beam.states, width, axis=1), np.tile(units, count)
            )
            fusion += added
            states = np.concatenate([beam.states, states], axis=1)
        totals[count:] = grown.ravel() + fusion
        order = np.argsort(-totals, kind="stable")[: self.beam]
        order = order[totals[order] > max(-math.inf, totals[order[0]] - self.score_beam)]
        if len(order) == 0:  # no unit is possible, and no blank
            beam.into_blank(0.0)
            return

        new = order >= count
        row, unit = np.where(new, (order - count) // width, order), (order - count) % width
        ids = np.where(new, units[unit], beam.last[row])
        taken = np.where(new, row, source[row])  # whose path goes on, and which of the two
        taken_path = np.where(new, grown_path[row, unit], source_path[row])
        paths = np.empty((len(order), *beam.paths.shape[1:]), TOKEN)
        paths[:, IN_BLANK] = beam.paths[row, best[row]]
        paths[:, IN_UNIT] = beam.paths[taken, taken_path]
        lengths, longer = beam.lengths[row] + new, new | appended[row]
        paths = write_tokens(
            paths, longer.nonzero()[0], lengths, ids, heard[column[ids]], self.frames
        )
        again = (~longer & (own[row] >= 0)).nonzero()[0]
        extend_tokens(paths, again, lengths, repeated[row], self.frames)
        keys, grew = beam.keys[row], new.nonzero()[0]
        stay, stay_viterbi = stay[:, row], stay_viterbi[:, row]
        stay[IN_BLANK, grew] = stay_viterbi[IN_BLANK, grew] = -np.inf
        stay[IN_UNIT, grew] = grown[row[grew], unit[grew]]
        stay_viterbi[IN_UNIT, grew] = grown_viterbi[row[grew], unit[grew]]
        self.hypotheses = Beam(
            scores=stay,
            viterbi=stay_viterbi,
            paths=paths,
            lengths=lengths,
            last=ids,
            keys=np.where(new, extended_keys(keys, ids), keys),
            parents=np.where(new, keys, beam.parents[row]),
            fusion=np.where(new, fusion[order - count], beam.fusion[row]),
            states=states[:, order] if self.fusion else states[:, row],
        )
