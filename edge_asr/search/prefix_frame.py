"""One frame of a prefix beam search: how the texts of a beam go on.

Each of the B texts may stay as it is, in blank or in its last unit, or grow by one of the K units
that may be heard in the frame. A text that grows into another one of the beam becomes part of that.

The candidates are numbered: the B texts as they stay, then each text with each unit. Their totals
are one array; of those that grow only the texts that remain in the beam are made.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_asr.fusion import Fusion
from edge_asr.search import Token
from edge_asr.search.prefix_beam import Beam, Text, Tokens, extended_key, log_add

Doubles = npt.NDArray[np.float64]
_IMPOSSIBLE = -sys.float_info.max  # no log-probability but -inf is below


class Frame(NamedTuple):
    """What may be heard in a frame."""

    number: int
    units: list[int]  # (K,) without blank
    log_probs: list[float]  # (K,)
    columns: dict[int, int]  # where a unit is among them
    blank: float  # log-probability of blank, -inf where it may not be heard


def next_beam(
    beam: Beam, frame: Frame, fusion: Fusion, limit: int, score_beam: float
) -> Beam | None:
    """The beam after ``frame``: at most ``limit`` texts, best first, none of which is
    more than ``score_beam`` below the best. None where nothing is possible."""
    texts, states = beam.texts, beam.states
    parents = rows_of_parents(texts)
    stays = [
        stay(text, None if row is None else texts[row], frame)
        for text, row in zip(texts, parents, strict=True)
    ]
    totals = grow(texts, parents, frame)
    added = None
    if fusion:
        added, grown = advance(beam, frame, fusion)
        totals += added
        states = np.concatenate([states, grown], axis=1)
    stay_totals = [text.score + text.fusion for text in stays]
    chosen = select(np.concatenate([stay_totals, totals]), limit, score_beam)
    if not chosen:
        return None
    count = len(texts)
    survivors = [
        stays[number] if number < count else grown_text(texts, frame, number - count, added)
        for number in chosen
    ]
    return Beam(survivors, states[:, chosen] if fusion else fusion.start(len(chosen)))


def rows_of_parents(texts: Sequence[Text]) -> list[int | None]:
    """(B,) where each text's beginning without its last unit is among ``texts``, if it is."""
    rows = {text.key: row for row, text in enumerate(texts)}
    return [rows.get(text.parent) for text in texts]


def stay(text: Text, parent: Text | None, frame: Frame) -> Text:
    """``text`` with nothing added, and what ``parent`` becomes by growing into it."""
    (last, key, parent_key, score, _, in_unit, best_in_blank, best_in_unit, blank_tokens,
     unit_tokens, fusion) = text  # fmt: skip
    in_blank = score + frame.blank
    if best_in_unit >= best_in_blank:
        best_in_blank, blank_tokens = best_in_unit, unit_tokens
    column = frame.columns.get(last)
    if column is None:
        return Text(
            last, key, parent_key, in_blank, in_blank, -math.inf, best_in_blank + frame.blank,
            -math.inf, blank_tokens, unit_tokens, fusion,
        )  # fmt: skip
    log_prob = frame.log_probs[column]
    in_unit += log_prob
    best_in_unit += log_prob
    grown, grown_tokens = -math.inf, unit_tokens
    if parent is not None:
        grown_score, grown, grown_tokens = _before(parent, last)
        in_unit = log_add(in_unit, grown_score + log_prob)
        grown += log_prob
    if grown > best_in_unit:
        best_in_unit = grown
        unit_tokens = (*grown_tokens, Token(last, frame.number, frame.number + 1, log_prob))
    else:
        unit_tokens = _sounding_on(unit_tokens, frame.number, log_prob)
    return Text(
        last, key, parent_key, log_add(in_blank, in_unit), in_blank, in_unit,
        best_in_blank + frame.blank, best_in_unit, blank_tokens, unit_tokens, fusion,
    )  # fmt: skip


def grow(texts: Sequence[Text], parents: Sequence[int | None], frame: Frame) -> Doubles:
    """(B * K,) log-probabilities of every text with every unit after it; -inf where that is
    another one of ``texts``, which ``stay`` added it to."""
    log_probs = np.array(frame.log_probs)
    scores = np.array([text.score for text in texts])[:, None] + log_probs
    columns = [frame.columns.get(text.last) for text in texts]
    for row, column in enumerate(columns):
        if column is not None:
            scores[row, column] = texts[row].in_blank + frame.log_probs[column]
    for parent, column in zip(parents, columns, strict=True):
        if parent is not None and column is not None:
            scores[parent, column] = -math.inf
    grown: Doubles = scores.ravel()
    return grown


def advance(beam: Beam, frame: Frame, fusion: Fusion) -> tuple[Doubles, npt.NDArray[np.int64]]:
    """What automata add to every text with every unit after it (B * K,), and their states after
    those (A, B * K)."""
    units = np.array(frame.units, np.int64)
    before = np.repeat([text.fusion for text in beam.texts], len(units))
    states = np.repeat(beam.states, len(units), axis=1)
    added, states = fusion.advance(states, np.tile(units, len(beam.texts)))
    return before + added, states


def select(totals: Doubles, limit: int, score_beam: float) -> list[int]:
    """The numbers of the candidates that stay in the beam, by their totals (N,); best first, and
    of equals the first."""
    order = (-totals).argsort(kind="stable")[:limit]
    lowest = max(_IMPOSSIBLE, totals[order[0]] - score_beam)  # the best stays, however narrow
    chosen: list[int] = order[totals[order] >= lowest].tolist()
    return chosen


def grown_text(texts: Sequence[Text], frame: Frame, place: int, added: Doubles | None) -> Text:
    """The text at ``place`` of what ``grow`` gave; ``added`` as ``advance`` gave it."""
    row, column = divmod(place, len(frame.units))
    text, unit, log_prob = texts[row], frame.units[column], frame.log_probs[column]
    score, best, tokens = _before(text, unit)
    score += log_prob
    tokens = (*tokens, Token(unit, frame.number, frame.number + 1, log_prob))
    return Text(
        unit, extended_key(text.key, unit), text.key, score, -math.inf, score, -math.inf,
        best + log_prob, tokens, tokens, text.fusion if added is None else float(added[place]),
    )  # fmt: skip


def _before(text: Text, unit: int) -> tuple[float, float, Tokens]:
    """What ``text`` grows from by ``unit``, its last unit again needing blank between: the sum,
    and the best alignment."""
    if unit == text.last:
        return text.in_blank, text.best_in_blank, text.blank_tokens
    if text.best_in_unit >= text.best_in_blank:
        return text.score, text.best_in_unit, text.unit_tokens
    return text.score, text.best_in_blank, text.blank_tokens


def _sounding_on(tokens: Tokens, frame: int, log_prob: float) -> Tokens:
    """``tokens``, the last going on through ``frame``."""
    unit, start, _, peak = tokens[-1]
    return (*tokens[:-1], Token(unit, start, frame + 1, peak if peak >= log_prob else log_prob))
