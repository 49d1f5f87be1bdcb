"""Hotwords: phrases that a search should prefer, as an ``Automaton`` over units.

The rule. A phrase is one or more whole words. Each of its occurrences in the text of a segment
counts once, with its total: the bonus times the number of units in its shortest spelling. However
a model spells the phrase, in whole words, pieces or letters, the total is the same. Nested and
overlapping phrases all count: with NEW and NEW YORK listed, "NEW YORK" earns both totals. An
occurrence begins where a word begins ("▁", a sign of a script without spaces, or the start of
the segment, even where the model leaves out "▁" there). It ends with a unit, and is final when the
next unit begins a word or the segment ends, so TEN earns nothing inside TENTH. Units that write
nothing are passed over.

How. The characters of all phrases form an Aho-Corasick automaton: its state is the longest end of
the text that begins a phrase. A unit takes it as many characters further as it writes. While a
match grows, a search needs part of the bonus early, or the beam drops the hypothesis. So each state
lends what its best match has earned so far, equal parts per character; each step pays back what
the state before lent. What stays at last is the rule alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_asr.errors import UsageError
from edge_asr.fusion import Scores, States, UnitIds
from edge_asr.fusion.hotword_text import (
    DEFAULT_BONUS,
    MAX_CHARS,
    Phrase,
    as_written,
    bonuses_of,
    texts_of,
)
from edge_asr.fusion.trie import NONE, Ints, Trie, char_node, char_trie
from edge_asr.package.units import SPACE, Units

__all__ = ["DEFAULT_BONUS", "Hotwords", "LeftOut", "Phrase"]

_NEVER = 1 << 30  # units to a place that they cannot write

_Flags = npt.NDArray[np.bool_]


class LeftOut(NamedTuple):
    """A phrase that the units of the model cannot write, and why."""

    phrase: str
    reason: str


@dataclass(frozen=True, eq=False)
class Hotwords:
    """Phrases to prefer. An ``Automaton``; states are the nodes of a trie, 0 is its root."""

    start: int
    _steps: _Steps
    _earned: Scores  # (states,) totals of the phrases that end in a state, if the word ends too
    _lent: Scores  # (states,) provisional, 0 for start and root
    _starts_word: _Flags  # (V,)
    _silent: _Flags  # (V,) which units write nothing

    @classmethod
    def build(
        cls, phrases: Iterable[Phrase], units: Units, bonus: float = DEFAULT_BONUS
    ) -> tuple[Hotwords, tuple[LeftOut, ...]]:
        """Compile ``phrases`` for a model that writes ``units``.

        A phrase may bring its own bonus per unit: ("EDGE", 3.0). Of a phrase given twice the larger
        bonus counts. Case is folded where the units have one case only; several spaces are one.

        Returns:
            The automaton, and the phrases that it had to leave out.

        Raises:
            UsageError: too many phrases, one that is empty or too long, a bonus out of range.
        """
        bonuses = bonuses_of(phrases, bonus)
        words = as_written(bonuses, units)
        spellings = [texts_of(phrase) for phrase in words]
        silent = _silent_units(units)
        symbols = {s: unit for unit, s in enumerate(units.symbols) if not silent[unit]}
        tree, ends = _spelling_tree(spellings)
        shorter = _shorter(tree)
        steps, fewest = _unit_steps(tree, shorter, symbols, len(units))

        # Of each spelling its phrase, and of each phrase the units of its shortest spelling.
        owners = np.repeat(np.arange(len(spellings)), [len(texts) for texts in spellings])
        needed = np.full(len(spellings), _NEVER)
        np.minimum.at(needed, owners, fewest[ends])
        totals = np.array(list(bonuses.values()), np.float64) * needed
        can_be_spelled = fewest[ends] < _NEVER
        # A segment starts as if after "▁". Every word may follow, so that it lends nothing.
        start = int(tree.child(np.array([0]), np.array([ord(SPACE)]))[0])
        earned, lent = _scores(
            tree, shorter, ends[can_be_spelled], totals[owners][can_be_spelled], start
        )
        hotwords = cls(start, steps, earned, lent, units.starts_word.copy(), silent)
        chars = set("".join(symbols))
        left_out = tuple(
            LeftOut(phrase, _refusal(phrase_words, chars, tree, fewest))
            for phrase, phrase_words, count in zip(bonuses, words, needed.tolist(), strict=True)
            if count == _NEVER
        )
        return hotwords, left_out

    def __post_init__(self) -> None:
        _make_read_only(self)

    def advance(self, states: States, units: UnitIds) -> tuple[Scores, States]:
        """Each of states (N,) by its own of units (N,): scores (N,) to add, next states (N,)."""
        following = self._steps.after(states, units)
        silent = self._silent.take(units)
        if silent.any():
            following = np.where(silent, states, following)
        scores = self._earned.take(states)
        scores *= self._starts_word.take(units)
        scores -= self._lent.take(states)
        scores += self._lent.take(following)
        return scores, following

    def finish(self, states: States) -> Scores:
        """Where a segment ends in states (N,), complete phrases become final, partial ones go."""
        ending: Scores = self._earned.take(states) - self._lent.take(states)
        return ending

    def __deepcopy__(self, memo: dict[int, Any]) -> Hotwords:
        return self


@dataclass(frozen=True, eq=False)
class _Steps:
    """Where each unit leads from each node, over as many characters as it writes."""

    size: int  # V
    keys: Ints  # sorted: node * V + unit; the last is never wanted
    targets: Ints  # the node behind each key
    links: Ints  # (nodes,) the next shorter match that may go on where this one does not
    roots: Ints  # (V,) the longest match that begins inside the unit

    def __post_init__(self) -> None:
        _make_read_only(self)

    def after(self, nodes: Ints, units: Ints) -> Ints:
        """The longest matches (N,) when ``units`` (N,) follow ``nodes`` (N,)."""
        wanted = nodes * self.size + units
        places = self.keys.searchsorted(wanted)
        goes_on = self.keys.take(places) == wanted
        following = np.where(goes_on, self.targets.take(places), self.roots.take(units))
        shorter = self.links.take(nodes)
        shorter[goes_on] = 0
        left = shorter.nonzero()[0]
        if len(left):
            following[left] = self.after(shorter.take(left), units.take(left))
        return following


def _make_read_only(record: Hotwords | _Steps) -> None:
    """Streams share the arrays of a record."""
    for array in vars(record).values():
        if isinstance(array, np.ndarray):
            array.setflags(write=False)


def _silent_units(units: Units) -> _Flags:
    """(V,) which units write nothing."""
    silent = np.array([not units.text([unit]) for unit in range(len(units))], np.bool_)
    return silent & ~units.starts_word  # "▁" alone has no text either, but writes a space


def _spelling_tree(spellings: Sequence[Sequence[str]]) -> tuple[Trie, Ints]:
    """The characters of all texts in ``spellings``, and the node that each ends at."""
    texts = [text for of_phrase in spellings for text in of_phrase]
    if sum(map(len, texts)) > MAX_CHARS:
        raise UsageError(f"hotwords: more than {MAX_CHARS} characters in all; give fewer")
    return char_trie(texts)


def _unit_steps(
    tree: Trie, shorter: Ints, symbols: dict[str, int], size: int
) -> tuple[_Steps, Ints]:
    """All steps of units, and (nodes,) how few units write the text of each node."""
    heads, units, tails = _fits(tree, symbols)
    roots = np.zeros(size, np.int64)
    fewest = np.full(tree.nodes, _NEVER)
    fewest[0] = 0
    for symbol, unit in symbols.items():
        for begin in range(len(symbol)):
            if node := char_node(tree, symbol[begin:]):
                roots[unit] = node
                if symbol[:begin] == SPACE:
                    fewest[node] = 1
                break
    order = tails.argsort(kind="stable")
    borders = tails[order].searchsorted(tree.levels)
    for begin, end in pairwise(borders.tolist()):
        at = order[begin:end]
        np.minimum.at(fewest, tails[at], fewest[heads[at]] + 1)

    keys = heads * size + units
    order = keys.argsort()
    steps = _Steps(
        size,
        np.append(keys[order], np.iinfo(np.int64).max),
        np.append(tails[order], 0),
        _links(tree, shorter, heads, units),
        roots,
    )
    return steps, fewest


def _fits(tree: Trie, symbols: dict[str, int]) -> tuple[Ints, Ints, Ints]:
    """All (node, unit, node behind it) where a whole unit fits into ``tree``."""
    pieces, ends = char_trie(list(symbols))
    unit_at = np.full(pieces.nodes + 1, -1)
    unit_at[ends] = list(symbols.values())
    parents, chars = tree.parents(), tree.last_labels()
    # Of each node, its last characters, one more each time: the place of them in pieces, -1 where
    # nowhere, and the node before them.
    piece, before = np.zeros(tree.nodes, np.int64), np.arange(tree.nodes)
    fits = [np.zeros((3, 0), np.int64)]
    for _ in range(len(pieces.levels) - 2):
        piece = pieces.child(piece[parents], chars)
        piece[piece == NONE] = -1
        before = before[parents]
        unit = unit_at[piece]
        tails = np.flatnonzero(unit >= 0)
        fits.append(np.stack([before[tails], unit[tails], tails]))
    heads, units, tails = np.concatenate(fits, axis=1)
    return heads, units, tails


def _shorter(tree: Trie) -> Ints:
    """(nodes,) the longest other node whose text ends the text of each; 0 where none."""
    shorter = np.zeros(tree.nodes, np.int64)
    parents, chars = tree.parents(), tree.last_labels()
    for begin, end in pairwise(tree.levels[2:]):
        match, following = parents[begin:end], np.zeros(end - begin, np.int64)
        left = np.arange(end - begin)
        while len(left):
            match = shorter[match]
            following[left] = tree.child(match, chars[begin:end][left])
            goes_on = (following[left] == NONE) & (match != 0)
            left, match = left[goes_on], match[goes_on]
        shorter[begin:end] = following
    return shorter


def _links(tree: Trie, shorter: Ints, heads: Ints, units: Ints) -> Ints:
    """(nodes,) the next of the shorter matches that may go on where a node does not."""
    steps = np.bincount(heads, minlength=tree.nodes)
    only = np.full(tree.nodes, -1)
    only[heads] = units
    only[steps != 1] = -1
    links = np.zeros(tree.nodes, np.int64)
    for begin, end in pairwise(tree.levels[1:]):
        match = shorter[begin:end]
        same = (only[match] == only[begin:end]) & (only[match] >= 0)
        links[begin:end] = np.where((steps[match] == 0) | same, links[match], match)
    return links


def _scores(
    tree: Trie, shorter: Ints, ends: Ints, totals: Scores, start: int
) -> tuple[Scores, Scores]:
    """What is earned and lent at each node (nodes,) by the texts that end at ``ends`` (N,)."""
    parents = tree.parents()
    depths = np.repeat(np.arange(len(tree.levels) - 1), np.diff(tree.levels))
    earned, lent = np.zeros(tree.nodes), np.zeros(tree.nodes)
    np.maximum.at(earned, ends, totals)
    rates, nodes = totals / np.maximum(depths[ends], 1), ends
    while len(nodes):
        np.maximum.at(lent, nodes, rates * depths[nodes])
        nodes = parents[nodes]
        nodes, rates = nodes[nodes > 0], rates[nodes > 0]
    lent[start] = 0
    for begin, end in pairwise(tree.levels[1:]):
        match = shorter[begin:end]
        earned[begin:end] += earned[match]
        lent[begin:end] = np.maximum.reduce([lent[begin:end], lent[match], earned[begin:end]])
    return earned, lent


def _refusal(words: tuple[str, ...], chars: set[str], tree: Trie, fewest: Ints) -> str:
    """Why units of ``chars`` cannot write ``words``, whose text is in ``tree``."""
    for char in "".join(words):
        if char not in chars:
            return f"no unit of the model writes {char!r}"
    nodes = (char_node(tree, texts_of(words[:count])[0]) for count in range(1, len(words) + 1))
    word = next(word for word, node in zip(words, nodes, strict=True) if fewest[node] == _NEVER)
    return f"the units of the model cannot spell {word!r}"
