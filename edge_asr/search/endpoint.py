"""Where one segment ends and the next begins.

Kaldi's three rules (``OnlineEndpointConfig``), on blank probability and on the text so far. Silence
is the stretch up to now in which no frame has less than ``blank_threshold`` of blank and the best
hypothesis has no token.

1. Each ``nothing_said_ms`` of silence in which nothing was said, hypotheses are forgotten.
2. ``silence_ms`` of silence after something was said: the segment ends.
3. At ``max_segment_ms`` the segment ends. On the way there the silence that is good enough for
   rule 2 falls, from ``relax_from_ms`` on, to ``min_silence_ms``; the last ``hold_ms`` are not
   committed, so that the cut can be at the longest pause between words in them. Where there is no
   word to begin with, any unit is cut before after ``cut_words_from_ms``. Where no word has come
   for ``silence_ms``, and noise kept that from being silence, the segment ends after its last.

A segment begins with its first token. A cut groups text, it loses none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from edge_asr.errors import UsageError, check_number
from edge_asr.package.units import Units
from edge_asr.search import Token

_MIN_SILENCE_MS = 80  # units of one word are often a frame apart
_SILENCES = ("nothing_said_ms", "silence_ms", "min_silence_ms")
_MAX_MS = 30_000  # of anything: decoders read no longer segments


@dataclass(frozen=True)
class EndpointRule:
    """Durations in ms; see the module.

    Raises:
        UsageError: a duration that is no whole number from 0 to 30000, silence below 80, one out of
            order, or a threshold that is no probability.
    """

    nothing_said_ms: int = 5000
    silence_ms: int = 1000
    max_segment_ms: int = 20_000
    relax_from_ms: int = 10_000
    min_silence_ms: int = 200
    hold_ms: int = 2000
    cut_words_from_ms: int = 25_000
    blank_threshold: float = 0.8

    def __post_init__(self) -> None:
        for field in fields(self)[:-1]:
            value, is_silence = getattr(self, field.name), field.name in _SILENCES
            lowest = _MIN_SILENCE_MS if is_silence else 0
            check_number(
                field.name, value, lowest, _MAX_MS, f"{lowest} to {_MAX_MS} ms", whole=True
            )
        if not self.relax_from_ms < self.max_segment_ms <= self.cut_words_from_ms:
            raise UsageError(
                f"relax_from_ms {self.relax_from_ms}, max_segment_ms {self.max_segment_ms} and "
                f"cut_words_from_ms {self.cut_words_from_ms} must be in this order"
            )
        between = math.nextafter(0, 1), math.nextafter(1, 0)
        check_number("blank_threshold", self.blank_threshold, *between, "numbers between 0 and 1")

    def needed_silence_ms(self, age_ms: float) -> float:
        """The silence that ends a segment of ``age_ms``."""
        over = (age_ms - self.relax_from_ms) / (self.max_segment_ms - self.relax_from_ms)
        relaxed = self.silence_ms + (self.min_silence_ms - self.silence_ms) * over
        return min(self.silence_ms, max(self.min_silence_ms, relaxed))

    def nothing_said_frames(self, frame_ms: float) -> int:
        """Of each so many frames of silence in which nothing was said, the last is an end."""
        return max(1, math.ceil(self.nothing_said_ms / frame_ms))

    @property
    def shortest_silence_ms(self) -> int:
        """Below this, no silence ends anything."""
        return min(self.silence_ms, self.min_silence_ms, self.nothing_said_ms)


def endpoint(
    tokens: Sequence[Token],
    frames: int,
    quiet_frames: int,
    committed: int,
    units: Units,
    frame_ms: float,
    rule: EndpointRule,
) -> int | None:
    """The frame that the open segment should be cut at; None while it goes on.

    Args:
        tokens: of the best hypothesis, the first ``committed`` of them committed.
        frames: searched so far, of which the last ``quiet_frames`` are blank.
    """
    if not tokens:
        is_over = quiet_frames and quiet_frames % rule.nothing_said_frames(frame_ms) == 0
        return frames if is_over else None
    age_ms = segment_age_ms(tokens, frame_ms)
    silence_ms = min(quiet_frames, frames - tokens[-1].end) * frame_ms
    if silence_ms >= rule.needed_silence_ms(age_ms):
        return frames
    without_words_ms = (frames - tokens[-1].end) * frame_ms
    if frames >= overdue_frame(tokens, frame_ms, rule) and without_words_ms >= rule.silence_ms:
        return tokens[-1].end
    if age_ms < rule.max_segment_ms:
        return None
    free = range(max(1, committed), len(tokens))
    begins = [index for index in free if units.starts_word[tokens[index].id]]
    if not begins and age_ms >= rule.cut_words_from_ms:
        begins = list(free)
    if not begins:
        return None
    # Early tokens may be free too, where nothing was agreed upon; they would leave most of it.
    held = held_tokens(tokens, frame_ms, rule)
    begins = [index for index in begins if index >= held] or begins[-1:]
    return tokens[max(begins, key=lambda index: _pause(tokens, index))].start


def segment_age_ms(tokens: Sequence[Token], frame_ms: float) -> float:
    """From the first token of a segment to the end of its last."""
    return (tokens[-1].end - tokens[0].start) * frame_ms


def overdue_frame(tokens: Sequence[Token], frame_ms: float, rule: EndpointRule) -> int:
    """The frame from which on a segment is too old, whatever was heard since its last token."""
    return tokens[0].start + math.ceil(rule.max_segment_ms / frame_ms)


def held_tokens(tokens: Sequence[Token], frame_ms: float, rule: EndpointRule) -> int:
    """How many of ``tokens`` begin early enough in the segment to be committed."""
    hold_from_ms = rule.max_segment_ms - rule.hold_ms
    return sum((token.start - tokens[0].start) * frame_ms < hold_from_ms for token in tokens)


def _pause(tokens: Sequence[Token], index: int) -> int:
    """Frames of silence before a token."""
    return tokens[index].start - tokens[index - 1].end
