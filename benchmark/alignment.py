"""Where the words of a known text are, by the log-probabilities of the whole utterance.

The best single CTC path (Viterbi) of all that write the text, exact, over every way in which the
units can spell it: which one the model prefers is part of the answer. The positions between the
characters of the text are places; a unit leads from one place to another, and blanks stand still.

What this is: where the same model hears the words if it hears the whole utterance, and may not
choose others. What it is not: where a phonetician would cut. A CTC model says a unit in a spike
anywhere in the word or just after it, and words are read from spikes by one rule
(``edge_asr.search.words``) here and there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_asr.package.units import SPACE, Units
from edge_asr.search import LogProbs, Token


@dataclass(frozen=True)
class _Arcs:
    """S states: one for each place between characters, in blank, then one for each unit that
    fits."""

    units: npt.NDArray[np.int64]  # (S,) what each state says
    begins: npt.NDArray[np.int64]  # (S,) places
    ends: npt.NDArray[np.int64]  # (S,)
    from_state: npt.NDArray[np.float64]  # (S, S) [to, from]: 0 where a frame may follow, else -inf


def align(log_probs: LogProbs, text: str, units: Units, blank: int = 0) -> list[Token] | None:
    """The tokens of ``text`` on the best path through log_probs (T', V).

    None if no path writes the text: the units cannot spell it, or there are too few frames.
    """
    written = "".join(SPACE + word for word in text.split())
    arcs = _arcs(written, units, blank)
    said = log_probs[:, arcs.units].astype(np.float64)
    frames, states = said.shape
    best = np.where(arcs.begins == 0, 0.0, -np.inf)  # every path begins at the first place
    best += said[0] if frames else 0.0
    came = np.zeros((frames, states), np.int64)
    for frame in range(1, frames):
        reached = best + arcs.from_state  # (to, from)
        came[frame] = reached.argmax(axis=1)
        best = reached.max(axis=1) + said[frame]
    best = np.where(arcs.ends == len(written), best, -np.inf)
    state = int(best.argmax())
    if frames == 0 or best[state] == -np.inf:
        return None
    path = [state]
    for frame in range(frames - 1, 0, -1):
        path.append(int(came[frame, path[-1]]))
    return list(_tokens(path[::-1], arcs, said, len(written) + 1))


def score(log_probs: LogProbs, tokens: list[Token], blank: int = 0) -> float:
    """The log-probability of the path of ``tokens`` through log_probs (T', V)."""
    path = np.full(len(log_probs), blank)
    for token in tokens:
        path[token.start : token.end] = token.id
    return float(log_probs[np.arange(len(path)), path].sum(dtype=np.float64))


def _arcs(written: str, units: Units, blank: int) -> _Arcs:
    places = range(len(written) + 1)
    arcs = [(blank, place, place) for place in places]
    arcs += [
        (unit, place, place + len(symbol))
        for place in places
        for unit, symbol in enumerate(units.symbols)
        if written.startswith(symbol, place) and (units.text([unit]) or symbol == SPACE)
    ]
    said, begins, ends = np.array(arcs, np.int64).T
    follows = begins[:, None] == ends[None, :]  # [to, from]
    is_blank = np.arange(len(said)) < len(places)
    # The same unit twice needs a blank between, or it would be the same token.
    follows &= ~((said[:, None] == said[None, :]) & ~is_blank[:, None])
    np.fill_diagonal(follows, True)  # a unit sounds on
    return _Arcs(said, begins, ends, np.where(follows, 0.0, -np.inf))


def _tokens(
    path: list[int], arcs: _Arcs, said: npt.NDArray[np.float64], places: int
) -> Iterator[Token]:
    begin = 0
    for frame in range(1, len(path) + 1):
        if frame < len(path) and path[frame] == path[begin]:
            continue
        state = path[begin]
        if state >= places:
            peak = float(said[begin:frame, state].max())
            yield Token(int(arcs.units[state]), begin, frame, peak)
        begin = frame
