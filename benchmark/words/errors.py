"""Word errors per utterance, and how much of a difference between two ways is chance.

Utterances are drawn with replacement, ``RESAMPLES`` times, and each draw gives a word error rate;
the middle 95 % of them are the interval. For the difference of two ways both are counted on the
same draw, since what is hard for one is hard for the other (Bisani and Ney, "Bootstrap estimates
for confidence intervals in ASR performance evaluation", 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
_SEED = 0
_AT_ONCE = 500  # draws, so that memory stays small
Counts = npt.NDArray[np.int64]
Pair = tuple[str | None, str | None]


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of the draws, in percent."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class UtteranceErrors:
    """Of one way, (N,) each, utterance by utterance."""

    substitutions: Counts
    deletions: Counts
    insertions: Counts
    words: Counts

    @property
    def edits(self) -> Counts:
        """(N,) all errors."""
        total: Counts = self.substitutions + self.deletions + self.insertions
        return total

    @property
    def wer(self) -> float:
        """In percent."""
        return 100 * float(self.edits.sum()) / max(1, int(self.words.sum()))

    def interval(self) -> Interval:
        """Of ``wer``."""
        return _middle(_rates(self.edits, self.words))

    def difference(self, base: UtteranceErrors) -> tuple[float, Interval]:
        """Points of WER that this way has more than ``base``, with the interval."""
        return self.wer - base.wer, _middle(_rates(self.edits - base.edits, self.words))


def aligned(truth: str, said: str) -> list[Pair]:
    """Words said next to words meant, by the fewest errors; None where one of them is missing."""
    output = jiwer.process_words(truth, said)
    meant, heard = output.references[0], output.hypotheses[0]
    pairs: list[Pair] = []
    for part in output.alignments[0]:
        ours: list[str | None] = [*meant[part.ref_start_idx : part.ref_end_idx]]
        theirs: list[str | None] = [*heard[part.hyp_start_idx : part.hyp_end_idx]]
        count = max(len(ours), len(theirs))
        ours += [None] * (count - len(ours))
        theirs += [None] * (count - len(theirs))
        pairs += zip(ours, theirs, strict=True)
    return pairs


def count_errors(truth: Sequence[str], said: Sequence[str]) -> UtteranceErrors:
    """The errors of each utterance. No text is normalised."""
    rows = []
    for meant, heard in zip(truth, said, strict=True):
        pairs = aligned(meant, heard)
        rows.append(
            (
                sum(a is not None and b is not None and a != b for a, b in pairs),
                sum(b is None for _, b in pairs),
                sum(a is None for a, _ in pairs),
                sum(a is not None for a, _ in pairs),
            )
        )
    return UtteranceErrors(*np.array(rows, np.int64).reshape(-1, 4).T)


def _rates(counts: Counts, words: Counts) -> npt.NDArray[np.float64]:
    """(RESAMPLES,) percentages; the same draws for the same number of utterances."""
    rng = np.random.default_rng(_SEED)
    rates = []
    for _ in range(RESAMPLES // _AT_ONCE):
        drawn = rng.integers(0, len(words), (_AT_ONCE, len(words)))
        rates.append(100 * counts[drawn].sum(axis=1) / np.maximum(1, words[drawn].sum(axis=1)))
    return np.concatenate(rates)


def _middle(rates: npt.NDArray[np.float64]) -> Interval:
    low, high = np.percentile(rates, (2.5, 97.5)).tolist()
    return Interval(low, high)
