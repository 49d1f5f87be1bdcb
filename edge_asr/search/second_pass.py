"""The second pass: both decoders read the whole segment and choose among the n-best texts.

For each text, as WeNet's ``attention_rescoring`` does (Wu et al., "U2++", 2106.05642, 3.3):

    (1 - reverse_weight) * left + reverse_weight * right + ctc_weight * ctc

``left`` and ``right`` are sums of log-probabilities with that of eos. To it comes what hotwords, a
language model or a grammar added to a text in the first pass, times ``1 + ctc_weight``: there it
stood beside one log-probability of the audio, here beside ``1 + ctc_weight`` of them, so that it
weighs as much as it did.

Times and confidence of tokens stay those of the first pass. WeNet takes the decoders' for the
latter, but what CTC says of its peaks tells right words from wrong ones better
(docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_asr.backends import Decoder, FloatArray
from edge_asr.package.manifest import DecoderSpec
from edge_asr.search import Hypothesis
from edge_asr.search.readers import Readers


@dataclass(frozen=True)
class Ranked:
    """A text and its score in the last pass that read it."""

    hypothesis: Hypothesis
    score: float
    by_decoders: bool = False  # the second pass read it


@dataclass(frozen=True)
class SecondPass:
    """Decoders with their weights in the sum, and the threads that read in the background."""

    decoder: Decoder
    spec: DecoderSpec
    ctc_weight: float
    reverse_weight: float
    readers: Readers = field(default_factory=Readers, compare=False)

    def rank(self, hypotheses: Sequence[Hypothesis], encoder_out: FloatArray) -> list[Ranked]:
        """The texts over encoder_out (1, T', D), best first. Those that are more or longer than
        the decoders read are left out; where the best is, and where decoders give no numbers, the
        order of the first pass stays.

        Raises:
            BackendError: the backend fails.
        """
        fitting = [h for h in hypotheses if len(h.tokens) <= self.spec.max_units]
        fitting = fitting[: self.spec.max_hyps]
        # Without the best, shorter texts would win for being short.
        is_best_read = bool(fitting) and fitting[0] is hypotheses[0]
        if not is_best_read or not 1 <= encoder_out.shape[1] <= self.spec.max_frames:
            return first_pass(hypotheses)
        lengths = np.array([len(h.tokens) for h in fitting], np.int64)
        hyps = np.zeros((len(fitting), max(1, int(lengths.max()))), np.int64)
        for row, hypothesis in zip(hyps, fitting, strict=True):
            row[: len(hypothesis.tokens)] = [token.id for token in hypothesis.tokens]
        scores = self.decoder.score(hyps, lengths, encoder_out)
        left, right = scores.left.astype(np.float64), scores.right.astype(np.float64)
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return first_pass(hypotheses)
        reverse = self.reverse_weight
        attention = (1 - reverse) * left.sum(axis=1) + reverse * right.sum(axis=1)
        weight = self.ctc_weight
        ranked = [
            Ranked(h, float(score) + weight * h.ctc_score + (1 + weight) * h.fusion_score, True)
            for h, score in zip(fitting, attention, strict=True)
        ]
        return sorted(ranked, key=lambda candidate: -candidate.score)


def first_pass(hypotheses: Sequence[Hypothesis]) -> list[Ranked]:
    """The order and the scores that the search gave."""
    return [Ranked(hypothesis, hypothesis.score) for hypothesis in hypotheses]
