"""Which part of a partial text is promised never to change.

Only whole words are committed: a word counts as complete when another begins, or after
``silence_ms`` without a token. Of those, the words that all hypotheses share are committed, where
a hypothesis counts that scores within ``margin`` nats of the best; with a margin that is infinite
this costs no accuracy, because what is dropped has no rival. A word that is older than
``latest_ms`` is committed although it has rivals, so that captions settle; those rivals are lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_asr.errors import check_number
from edge_asr.package.units import Units
from edge_asr.search import Search, Token
from edge_asr.search.words import last_word_start


@dataclass(frozen=True)
class CommitRule:
    """See the module. Infinite ``latest_ms`` waits for agreement, however long.

    Raises:
        UsageError: a number below 0.
    """

    silence_ms: float = 300
    margin: float = 1.0
    latest_ms: float = 5000

    def __post_init__(self) -> None:
        for name in ("silence_ms", "margin", "latest_ms"):
            check_number(name, getattr(self, name), 0, math.inf, "numbers from 0")


NEVER = CommitRule(margin=math.inf, latest_ms=math.inf, silence_ms=math.inf)


def committed_tokens(
    search: Search,
    tokens: Sequence[Token],
    limit: int,
    units: Units,
    frame_ms: float,
    rule: CommitRule,
) -> int:
    """How many of ``tokens``, the best hypothesis, are to be committed now; at most ``limit``."""
    if rule == NEVER:
        return 0
    silence_ms = (search.frames - tokens[-1].end) * frame_ms
    complete = len(tokens) if silence_ms >= rule.silence_ms else last_word_start(tokens, units)
    aged = sum((search.frames - token.end) * frame_ms >= rule.latest_ms for token in tokens)
    count = min(complete, limit, max(aged, search.agreed(rule.margin)))
    # Not inside a word: its other tokens are not agreed upon.
    while 0 < count < len(tokens) and not units.starts_word[tokens[count].id]:
        count -= 1
    return count
