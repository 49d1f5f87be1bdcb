"""Greedy CTC search: the best unit of each frame, repeats joined, blanks dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Token(NamedTuple):
    """One unit: encoder frames [start, end) and the log-probability at its peak."""

    id: int
    start: int
    end: int
    log_prob: float


@dataclass
class GreedyState:
    """What the search goes on from. ``tokens`` grows; whoever has used some removes them."""

    frames: int = 0  # seen since the search began, never reset: token times count from there
    last_id: int | None = None
    tokens: list[Token] = field(default_factory=list)


def greedy_step(log_probs: npt.NDArray[np.float32], state: GreedyState, blank: int) -> list[Token]:
    """Search on through ``log_probs`` (T', V).

    A token never changes its id afterwards, but one that reaches the end of ``log_probs`` may
    grow in the next step.

    Returns:
        The tokens that began here; they are in ``state.tokens`` too.
    """
    if len(log_probs) == 0:
        return []
    ids = log_probs.argmax(axis=1)
    # A run is a stretch of frames with the same id. Only runs are visited in Python: spikes are
    # few, frames are many.
    begins = np.concatenate([[0], np.flatnonzero(np.diff(ids)) + 1])
    peaks = np.maximum.reduceat(log_probs.max(axis=1), begins).tolist()
    ends = [*begins[1:].tolist(), len(ids)]
    began = []
    for unit, begin, end, peak in zip(
        ids[begins].tolist(), begins.tolist(), ends, peaks, strict=True
    ):
        token = Token(unit, state.frames + begin, state.frames + end, peak)
        goes_on = begin == 0 and unit == state.last_id
        if unit == blank:
            continue
        if not goes_on:
            began.append(token)
        elif state.tokens and state.tokens[-1].end == token.start:
            before = state.tokens[-1]
            state.tokens[-1] = before._replace(
                end=token.end, log_prob=max(before.log_prob, token.log_prob)
            )
    state.tokens += began
    state.frames += len(ids)
    state.last_id = int(ids[-1])
    return began


def greedy(log_probs: npt.NDArray[np.float32], blank: int) -> list[Token]:
    """The tokens of a whole utterance (T', V)."""
    state = GreedyState()
    greedy_step(log_probs, state, blank)
    return state.tokens
