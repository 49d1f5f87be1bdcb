"""Where one segment ends and the next begins.

A segment begins with its first token, so silence before it counts for nothing. It ends after
1000 ms without a token. The longer it gets, the shorter the silence that is good enough: from 10 s
on it falls to 200 ms at 20 s. After 20 s the next word begins a new segment, and after 25 s the
next token does. So a long segment is cut at the best pause that comes by, without taking back
text that was already committed.

The state of the encoder lives on at an endpoint: a cut only groups text, it loses none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_asr.search import Token
from edge_asr.units import Units


@dataclass(frozen=True)
class EndpointRule:
    """Durations in ms; see the module."""

    silence_ms: int = 1000
    relax_from_ms: int = 10_000
    max_segment_ms: int = 20_000
    min_silence_ms: int = 200
    cut_words_from_ms: int = 25_000

    def needed_silence_ms(self, age_ms: float) -> float:
        """The silence that ends a segment of ``age_ms``."""
        over = (age_ms - self.relax_from_ms) / (self.max_segment_ms - self.relax_from_ms)
        relaxed = self.silence_ms + (self.min_silence_ms - self.silence_ms) * over
        return min(self.silence_ms, max(self.min_silence_ms, relaxed))


def ended_tokens(
    tokens: Sequence[Token], frames: int, units: Units, frame_ms: float, rule: EndpointRule
) -> int:
    """How many of ``tokens`` are the first finished segment; 0 while none is finished.

    Looks only at tokens and at ``frames``, the frames searched so far: the answer for a given
    token is the same however the frames were cut into steps.
    """
    for index, token in enumerate(tokens):
        follower = tokens[index + 1] if index + 1 < len(tokens) else None
        age_ms = (token.end - tokens[0].start) * frame_ms
        silence_ms = ((follower.start if follower else frames) - token.end) * frame_ms
        if silence_ms >= rule.needed_silence_ms(age_ms):
            return index + 1
        if follower and age_ms >= rule.max_segment_ms:
            if units.starts_word[follower.id] or age_ms >= rule.cut_words_from_ms:
                return index + 1
    return 0
