"""Tokens to words with times and confidence.

A CTC token is a spike: it says where a unit was recognised, not how long it sounded. The rule:

* a word starts with the first frame of its first token that writes something;
* it ends ``EXTENSION_FRAMES`` after the last frame of its last token, but never after the start
  of the next word or after the end of the audio;
* its confidence is the geometric mean of the peak probabilities of its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edge_asr.events import Word, WordUnit
from edge_asr.package.units import Units
from edge_asr.search import Token

EXTENSION_FRAMES = 2  # 80 ms: a unit sounds on after its spike


@dataclass(frozen=True)
class FrameClock:
    """Encoder frames to milliseconds; counts samples, so that nothing drifts."""

    origin_samples: int
    frame_samples: int
    sample_rate: int

    def ms(self, frame: int) -> int:
        """When ``frame`` begins."""
        return (self.origin_samples + frame * self.frame_samples) * 1000 // self.sample_rate


def last_word_start(tokens: Sequence[Token], units: Units) -> int:
    """Index of the token that begins the last word; 0 where there is none."""
    for index in range(len(tokens) - 1, 0, -1):
        if units.starts_word[tokens[index].id]:
            return index
    return 0


def assemble_words(
    tokens: Sequence[Token],
    units: Units,
    clock: FrameClock,
    limit_ms: int,
    *,
    with_units: bool = False,
) -> tuple[Word, ...]:
    """The words of ``tokens``; none of them ends after ``limit_ms``."""
    words: list[Word] = []
    for spoken in _spoken_words(tokens, units):
        start_ms = clock.ms(spoken[0].start)
        if words and words[-1].end_ms > start_ms:
            words[-1] = replace(words[-1], end_ms=start_ms)
        words.append(
            Word(
                text=units.text(token.id for token in spoken),
                start_ms=start_ms,
                end_ms=min(clock.ms(spoken[-1].end + EXTENSION_FRAMES), limit_ms),
                confidence=math.exp(sum(token.log_prob for token in spoken) / len(spoken)),
                units=tuple(_unit(token, units, clock, limit_ms) for token in spoken if with_units),
            )
        )
    return tuple(words)


def _unit(token: Token, units: Units, clock: FrameClock, limit_ms: int) -> WordUnit:
    return WordUnit(
        units.symbols[token.id],
        clock.ms(token.start),
        min(clock.ms(token.end), limit_ms),
        math.exp(token.log_prob),
    )


def _spoken_words(tokens: Sequence[Token], units: Units) -> Iterator[list[Token]]:
    """The tokens of each word, without those that write nothing."""
    word: list[Token] = []
    for token in tokens:
        if units.starts_word[token.id] and word:
            yield word
            word = []
        if units.text([token.id]):
            word.append(token)
    if word:
        yield word
