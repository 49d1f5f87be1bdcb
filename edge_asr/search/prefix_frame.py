"""One frame of a prefix beam search: how the texts of a beam go on.

Each of the B texts may stay as it is, in blank or in its last unit, or grow by one of the K units
that may be heard in the frame. A text that grows into another one of the beam becomes part of that.

The candidates are numbered: the B texts as they stay, then each text with each unit. Their totals
are one array; of those that grow only the texts that remain in the beam are made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edge_asr.fusion import Fusion
from edge_asr.search import Token
from edge_asr.search.prefix_beam import Alignment, Beam, Text, extended_key, log_add

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """What may be heard in a frame."""

    number: int
    units: Sequence[int]  # (K,) without blank
    log_probs: Sequence[float]  # (K,)
    blank: float  # log-probability of blank, -inf where it may not be heard

    @cached_property
    def columns(self) -> dict[int, int]:
        """Where a unit is among ``units``."""
        return {unit: column for column, unit in enumerate(self.units)}


def next_beam(
    beam: Beam, frame: Frame, fusion: Fusion, limit: int, score_beam: float
) -> Beam | None:
    """The beam after ``frame``: at most ``limit`` texts, best first, none of which is
    ``score_beam`` below the best. None where nothing is possible."""
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
    survivors = [
        stays[number]
        if number < len(texts)
        else grown_text(texts, frame, number - len(texts), added)
        for number in chosen
    ]
    return Beam(survivors, states[:, chosen] if fusion else states[:, [0] * len(chosen)])


def rows_of_parents(texts: Sequence[Text]) -> list[int | None]:
    """(B,) where each text's beginning without its last unit is among ``texts``, if it is."""
    rows = {text.key: row for row, text in enumerate(texts)}
    return [rows.get(text.parent) for text in texts]


def stay(text: Text, parent: Text | None, frame: Frame) -> Text:
    """``text`` with nothing added, and what ``parent`` becomes by growing into it."""
    best = text.best
    in_blank = text.score + frame.blank
    in_unit, best_in_unit = -math.inf, Alignment(-math.inf, text.best_in_unit.tokens)
    column = frame.columns.get(text.last)
    if column is not None:
        log_prob = frame.log_probs[column]
        in_unit = text.in_unit + log_prob
        best_in_unit = _sounding_on(text.best_in_unit, frame.number, log_prob)
        if parent is not None:
            score, before = _before(parent, text.last)
            in_unit = log_add(in_unit, score + log_prob)
            if before.log_prob + log_prob > best_in_unit.log_prob:
                best_in_unit = _begun(before, frame.number, text.last, log_prob)
    return Text(
        text.last,
        text.key,
        text.parent,
        log_add(in_blank, in_unit),
        in_blank,
        in_unit,
        Alignment(best.log_prob + frame.blank, best.tokens),
        best_in_unit,
        text.fusion,
    )


def grow(texts: Sequence[Text], parents: Sequence[int | None], frame: Frame) -> Doubles:
    """(B * K,) log-probabilities of every text with every unit after it; -inf where that is
    another one of ``texts``, which ``stay`` added it to."""
    log_probs = np.array(frame.log_probs)
    scores = np.array([text.score for text in texts])[:, None] + log_probs
    columns = [frame.columns.get(text.last) for text in texts]
    for row, column in enumerate(columns):
        if column is not None:
            scores[row, column] = texts[row].in_blank + log_probs[column]
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
    lowest = max(-math.inf, totals[order[0]] - score_beam)
    chosen: list[int] = order[totals[order] > lowest].tolist()
    return chosen


def grown_text(texts: Sequence[Text], frame: Frame, place: int, added: Doubles | None) -> Text:
    """The text at ``place`` of what ``grow`` gave; ``added`` as ``advance`` gave it."""
    row, column = divmod(place, len(frame.units))
    text, unit, log_prob = texts[row], frame.units[column], frame.log_probs[column]
    score, before = _before(text, unit)
    best = _begun(before, frame.number, unit, log_prob)
    return Text(
        unit,
        extended_key(text.key, unit),
        text.key,
        score + log_prob,
        -math.inf,
        score + log_prob,
        Alignment(-math.inf, best.tokens),
        best,
        text.fusion if added is None else float(added[place]),
    )


def _before(text: Text, unit: int) -> tuple[float, Alignment]:
    """What ``text`` grows from by ``unit``: its last unit again needs blank between."""
    if unit == text.last:
        return text.in_blank, text.best_in_blank
    return text.score, text.best


def _begun(before: Alignment, frame: int, unit: int, log_prob: float) -> Alignment:
    """``before``, and a token that begins in ``frame``."""
    token = Token(unit, frame, frame + 1, log_prob)
    return Alignment(before.log_prob + log_prob, (*before.tokens, token))


def _sounding_on(alignment: Alignment, frame: int, log_prob: float) -> Alignment:
    """``alignment``, its last token going on through ``frame``."""
    unit, start, _, peak = alignment.tokens[-1]
    token = Token(unit, start, frame + 1, peak if peak >= log_prob else log_prob)
    return Alignment(alignment.log_prob + log_prob, (*alignment.tokens[:-1], token))
