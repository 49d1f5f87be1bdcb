"""How units spell the words of a vocabulary: whichever of them write a word lead to it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_asr.fusion.trie import NONE, Ints, Trie, char_node, char_trie
from edge_asr.package.units import Units

MAX_WORD_CHARS = 64  # nobody says longer ones
_UNREACHED = -1


@dataclass(frozen=True, eq=False)
class Spelling:
    """Places inside a word, as integers: 0 where nothing of it is written yet.

    All that is in no word of the vocabulary leads to one place, the last.
    """

    places: int
    words: Ints  # (places,) the word that is complete at each place; ``unknown`` where none is
    _tree: Trie  # of the words' characters; its nodes are all places but the last
    _units: int
    _goes_on: Ints  # (V,) 1 for units that go on with a word, 0 for those that begin one
    _silent: npt.NDArray[np.bool_]  # (V,) units that write nothing
    _keys: Ints  # sorted: place * V + unit; at the end one that nothing equals
    _targets: Ints  # the place behind each key

    @classmethod
    def build(cls, words: Sequence[str], ids: Ints, unknown: int, units: Units) -> Spelling:
        """Args:
        words: spelled as the units write; a later one replaces an equal earlier one.
        ids: (N,) what ``words`` of the result says of each.
        unknown: what it says where no word is complete.
        """
        written = [units.text([unit]) for unit in range(len(units))]
        lengths = np.array([len(word) for word in words], np.int64)
        said = np.flatnonzero((lengths > 0) & (lengths <= MAX_WORD_CHARS))
        tree, ends = char_trie([words[row] for row in said.tolist()])
        elsewhere = tree.nodes
        word_at = np.full(elsewhere + 1, unknown)
        word_at[ends] = ids[said]
        begins = np.flatnonzero(units.starts_word)
        from_root = [char_node(tree, written[unit]) for unit in begins]
        known = [node is not None for node in from_root]
        starts, middle, targets = _inner_steps(tree, _inner_units(units, written))
        keys = np.concatenate([begins[known], starts * len(units) + middle])
        reached = np.array([node for node in from_root if node is not None], np.int64)
        targets = np.concatenate([reached, targets])
        order = keys.argsort()
        return cls(
            places=elsewhere + 1,
            words=word_at,
            _tree=tree,
            _units=len(units),
            _goes_on=(~units.starts_word).astype(np.int64),
            _silent=np.array([not text for text in written]) & ~units.starts_word,
            _keys=np.append(keys[order], np.iinfo(np.int64).max),
            _targets=np.append(targets[order], 0),
        )

    def advance(self, places: Ints, units: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Each of places (N,) by its own of units (N,).

        Returns:
            Where a word ended (N,), and the next places (N,).
        """
        goes_on = self._goes_on[units]
        origins = places * goes_on
        wanted = origins * self._units + units
        at = self._keys.searchsorted(wanted)
        after = np.where(self._keys[at] == wanted, self._targets[at], self.places - 1)
        silent = self._silent[units]
        if silent.any():
            after = np.where(silent, places, after)
        return origins != places, after

    def best_ahead(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Of values (places,) for the words that are complete there: the best one among those of
        the words that can still come of each place, its own where none can; (places,)."""
        unknown = self.words[-1]
        best = np.where(self.words == unknown, -np.inf, values)
        best[-1] = values[-1]
        parents = self._tree.parents()
        # A deeper level's nodes come later, so each is settled before what is above it.
        for begin, end in reversed(list(itertools.pairwise(self._tree.levels[1:]))):
            np.maximum.at(best, parents[begin:end], best[begin:end])
        return best


def _inner_units(units: Units, written: list[str]) -> dict[str, int]:
    """The units that can go on with a word. One that writes a space inside is in no word."""
    return {
        symbol: unit
        for unit, symbol in enumerate(units.symbols)
        if not units.starts_word[unit] and written[unit] == symbol
    }


def _inner_steps(tree: Trie, units: dict[str, int]) -> tuple[Ints, Ints, Ints]:
    """All (node, unit, node behind it) where ``units`` go on inside a word of ``tree``.

    Each node of the tree is seen from all its ancestors at once: from the one ``length`` levels
    above, at most one unit of that length leads to it.
    """
    symbols = list(units)
    pieces, ends = char_trie(symbols)
    unit_at = np.full(pieces.nodes, _UNREACHED)
    unit_at[ends] = list(units.values())
    parents, chars = tree.parents(), tree.last_labels()
    origins = np.arange(tree.nodes)  # of the piece that each node is the end of
    piece = np.zeros(tree.nodes, np.int64)  # its node in ``pieces``
    steps: list[tuple[Ints, Ints, Ints]] = []
    for _ in range(1, len(pieces.levels) - 1):
        above = piece[parents]
        above[0] = _UNREACHED  # nothing is above the root
        alive = np.flatnonzero(above != _UNREACHED)
        found = pieces.child(above[alive], chars[alive])
        piece = np.full(tree.nodes, _UNREACHED)
        piece[alive] = np.where(found == NONE, _UNREACHED, found)
        origins = origins[parents]
        unit = unit_at[found]
        whole = unit != _UNREACHED
        steps.append((origins[alive[whole]], unit[whole], alive[whole]))
    empty = np.zeros(0, np.int64)
    return (
        np.concatenate([empty, *(step[0] for step in steps)]),
        np.concatenate([empty, *(step[1] for step in steps)]),
        np.concatenate([empty, *(step[2] for step in steps)]),
    )
