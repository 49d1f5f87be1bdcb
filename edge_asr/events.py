"""What a stream says, and what is guaranteed about it.

* ``Partial.committed`` of one segment never changes but by growing; ``tail`` may change.
* Every segment that said anything ends with exactly one ``Final``; its text begins with all
  that was committed; nothing about the segment follows it. The text is empty where only a tail
  was shown that turned out to be nothing.
* Segment numbers start at 0 and have no holes; Finals come in their order. While a second pass
  reads a segment in the background, Partials of later ones may come before its Final.
* Times are milliseconds of audio since the stream began, lost audio included, as integers
  counted from samples: they cannot drift.
* The same samples in any blocking give the same finals and word times.
* An error of a backend breaks none of this: a Status says what was lost, and events that the call
  which raised could not return are returned by the next.
* Where a second pass was to read a segment and failed, or was late, a Status precedes its Final.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GapReason = Literal["overflow", "unplugged", "stalled", "overload"]
StatusKind = Literal[
    "listening", "waiting", "lost", "recovered", "stalled", "silent", "signal", "overflow"
]


@dataclass(frozen=True)
class WordUnit:
    """One unit of a word: the symbol as the model has it, where it was recognised, and how
    probable it was at its peak."""

    symbol: str
    start_ms: int
    end_ms: int
    confidence: float


@dataclass(frozen=True)
class Word:
    """One word with its place in the audio and how sure the model was (0 to 1). In a ``Final`` it
    has its units too."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float
    units: tuple[WordUnit, ...] = ()


@dataclass(frozen=True)
class Partial:
    """What the open segment says so far: ``committed + tail``.

    ``committed`` are its complete words. ``tail`` is the word that still grows, with a space in
    front where the language writes one; it may be empty.
    """

    segment: int
    committed: str
    tail: str
    at_ms: int
    words: tuple[Word, ...] = ()  # of both

    @property
    def text(self) -> str:
        """All that the segment says so far."""
        return self.committed + self.tail


@dataclass(frozen=True)
class Alternative:
    """A text of the n-best list, and its score: the higher, the better, in nats."""

    text: str
    score: float


@dataclass(frozen=True)
class Final:
    """A finished segment.

    Attributes:
        alternatives: the best texts, this one first, where a stream was asked for more than one.
        second_pass: the decoders have read the segment and chosen the text; else it is the best of
            the first pass.
    """

    segment: int
    text: str
    words: tuple[Word, ...]
    start_ms: int
    end_ms: int
    alternatives: tuple[Alternative, ...] = ()
    second_pass: bool = False


@dataclass(frozen=True)
class Gap:
    """Audio that never reached the recognizer."""

    start_ms: int
    end_ms: int
    reason: GapReason


@dataclass(frozen=True)
class Status:
    """A change of the source or the stream that a listener should know of."""

    kind: StatusKind
    message: str
    at_ms: int


Event = Partial | Final | Gap | Status
