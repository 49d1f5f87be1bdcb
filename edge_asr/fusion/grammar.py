"""Which phrases a recogniser may hear: a grammar as an ``Automaton`` over the units of a model.

A sequence of units is allowed if it writes an allowed phrase, whatever units spell it: whole words,
pieces or letters, in any mixture. What it must write is exact: one "▁" between two words and at
most one before the first. A "▁" before a sign of a script without spaces may be left out
everywhere. Units in angle brackets are forbidden.

A segment is one phrase; a grammar that allows several says so with ``+``. The search may stay in
the start state as long as nothing is said, but ``finish`` allows an end there only if the grammar
allows the empty phrase.

From text to arrays: rules become a network of letters, its sets of nodes become states, and a walk
of the units' spellings through them gives the arcs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_asr.errors import UsageError
from edge_asr.fusion import Scores, States, UnitIds
from edge_asr.fusion.grammar_header import is_jsgf
from edge_asr.fusion.grammar_text import (
    ALLOW_LESS,
    MAX_TEXT_CHARS,
    Letter,
    Network,
    Rules,
    parse_jsgf,
    parse_phrases,
    too_large,
)
from edge_asr.fusion.text_file import read_text
from edge_asr.package.units import SPACE, Units, is_unspaced

MAX_STATES = 200_000
_MAX_ARCS = 1_000_000
_MAX_STEPS = 5_000_000  # of the compiler: seconds
_MAX_TEXT_BYTES = 4 * MAX_TEXT_CHARS  # with more there are more characters, whatever they are


@dataclass(frozen=True, eq=False)
class Grammar:
    """The compiled phrases; the last state is the one that nothing leads out of."""

    units: Units = field(repr=False)
    keys: States = field(repr=False)  # sorted: state * V + unit of each arc, then a sentinel
    targets: States = field(repr=False)  # where each arc leads
    endings: Scores = field(repr=False)  # (states,) 0 where a phrase may end, else -inf
    start: int = 0

    @classmethod
    def phrases(cls, lines: Iterable[str], units: Units, where: str = "grammar") -> Grammar:
        """Allow each of ``lines``; ``where`` names them in errors.

        Raises:
            UsageError: no phrase, one that ``units`` cannot spell, or more than fits.
        """
        return _compiled(parse_phrases(lines, where), units)

    @classmethod
    def jsgf(cls, text: str, units: Units, where: str = "grammar") -> Grammar:
        """Allow what a grammar in JSGF does; ``grammar_text`` says how much of JSGF.

        Raises:
            UsageError: a mistake in ``text`` or nothing allowed, a word that ``units`` cannot
                spell, or more than fits.
        """
        return _compiled(parse_jsgf(text, where), units)

    @classmethod
    def read(cls, path: Path, units: Units) -> Grammar:
        """Read JSGF if the file has its header or its rules, else one phrase a line.

        Raises:
            InputMissingError: no such file, or it may not be read.
            UsageError: not UTF-8, or what ``phrases`` and ``jsgf`` refuse.
        """
        text = read_text(
            path,
            str(path),
            wanted="a file of phrases or JSGF",
            max_bytes=_MAX_TEXT_BYTES,
            too_large=f"more than {MAX_TEXT_CHARS} characters; {ALLOW_LESS}",
        )
        if is_jsgf(text):
            return cls.jsgf(text, units, str(path))
        return cls.phrases(text.split("\n"), units, str(path))

    def __deepcopy__(self, memo: dict[int, object]) -> Grammar:
        return self

    def advance(self, states: States, units: UnitIds) -> tuple[Scores, States]:
        """Scores 0 where units (N,) are allowed after states (N,), else -inf; next states (N,)."""
        wanted = states * len(self.units) + units
        at = np.searchsorted(self.keys, wanted)
        is_allowed = self.keys[at] == wanted
        scores = np.where(is_allowed, 0.0, -np.inf)
        return scores, np.where(is_allowed, self.targets[at], self.targets[-1])

    def finish(self, states: States) -> Scores:
        """Scores 0 where a phrase may end in states (N,), else -inf."""
        return self.endings[states]

    def allows(self, text: str) -> bool:
        """Whether ``text`` is an allowed phrase."""
        spelling = _Spelling(self.units)
        try:
            chars = [letter for word in text.split() for letter in spelling.chars(word, "")]
        except UsageError:  # no units write it
            return False
        return any(
            self.endings[state] == 0 for state in spelling.walk(chars, self.start, self._step)
        )

    def _step(self, state: int, unit: int) -> int:
        return int(self.advance(np.array([state]), np.array([unit]))[1][0])


class _Spelling:
    """The symbols of units as a tree of letters: node 0 is its root."""

    def __init__(self, units: Units) -> None:
        self.children: list[dict[str, int]] = [{}]
        self.unit: list[int] = [-1]  # the unit that each node completes, or -1
        for unit, symbol in enumerate(units.symbols):
            if not units.text([unit]) and symbol.strip(SPACE):
                continue  # in angle brackets: it writes nothing
            node = 0
            for char in symbol:
                if char not in self.children[node]:
                    self.children[node][char] = len(self.children)
                    self.children.append({})
                    self.unit.append(-1)
                node = self.children[node][char]
            self.unit[node] = unit
        self._letters = {char for node in self.children for char in node}
        self._fold = units.fold_case

    def chars(self, word: str, where: str) -> list[Letter]:
        """The letters of ``word`` with a "▁" before it and before each unspaced sign.

        Raises:
            UsageError: no units spell it; begins with ``where``.
        """
        # A file may hold é as two characters and the units as one, or the other way round.
        for text in (word, unicodedata.normalize("NFC", word), unicodedata.normalize("NFD", word)):
            chars: list[Letter] = []
            for char in self._fold(text):
                if is_unspaced(char):
                    chars.append((SPACE, True))
                elif not chars:
                    chars.append((SPACE, False))
                chars.append((char, False))
            if SPACE not in text and self.walk(chars, 0, lambda state, unit: 0):
                return chars
        missing = [char for char in self._fold(word) if char not in self._letters]
        why = f" ({missing[0]!r} is in none of them)" if missing else ""
        raise UsageError(
            f"{where}: the units of the model cannot spell {word[:80]!r}{why}; "
            "write it in other letters, or remove it"
        )

    def walk(
        self, chars: Iterable[Letter], start: int, step: Callable[[int, int], int]
    ) -> set[int]:
        """States in which units that spell ``chars`` end, where ``step`` leads from ``start``."""
        active = {(0, start)}  # nodes of the tree, and states at the begin of the unit there
        for char, may_miss in chars:
            before = active if may_miss else set()
            active = {
                (self.children[node][char], state)
                for node, state in active
                if char in self.children[node]
            }
            active |= {(0, step(s, self.unit[node])) for node, s in active if self.unit[node] >= 0}
            active |= before
        return {state for node, state in active if node == 0}


class _Subsets:
    """Sets of nodes of a network that the same letters lead to; made as they are asked for."""

    def __init__(self, network: Network, where: str) -> None:
        self._arcs, self._end, self._where = network.arcs, network.end, where
        self._ids: dict[frozenset[int], int] = {}
        self._sets: list[frozenset[int]] = []
        self._moves: list[dict[str, int] | None] = []
        self._steps = 0
        first = self._closure([network.start])
        spaced = [to for node in first for char, to in self._arcs[node] if char == SPACE]
        self.start = self._id(first | self._closure(spaced))

    def is_end(self, subset: int) -> bool:
        return self._end in self._sets[subset]

    def moves(self, subset: int) -> dict[str, int]:
        """The next set for each letter that goes on from ``subset``."""
        known = self._moves[subset]
        if known is None:
            by_char: dict[str, list[int]] = {}
            for node in self._sets[subset]:
                for char, to in self._arcs[node]:
                    if char:
                        by_char.setdefault(char, []).append(to)
            known = {char: self._id(self._closure(nodes)) for char, nodes in by_char.items()}
            self._moves[subset] = known
        self.count(len(known) + 1)
        return known

    def count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise too_large(self._where, f"{_MAX_STEPS} steps of work, as its phrases overlap")

    def _id(self, nodes: frozenset[int]) -> int:
        subset = self._ids.setdefault(nodes, len(self._sets))
        if subset == len(self._sets):
            self._sets.append(nodes)
            self._moves.append(None)
        return subset

    def _closure(self, nodes: Iterable[int]) -> frozenset[int]:
        """What ``nodes`` reach without a letter; only those that go on with one, or are the end."""
        seen = set(nodes)
        stack = list(seen)
        kept: list[int] = []
        while stack:
            node = stack.pop()
            self.count(1 + len(self._arcs[node]))
            if node == self._end:
                kept.append(node)
                continue
            if any(char for char, _ in self._arcs[node]):
                kept.append(node)
            fresh = {to for char, to in self._arcs[node] if not char} - seen
            seen |= fresh
            stack += fresh
        return frozenset(kept)


def _compiled(rules: Rules, units: Units) -> Grammar:
    spelling = _Spelling(units)
    subsets = _Subsets(Network(rules, spelling.chars), rules.where)
    found = [subsets.start]  # sets that units lead to
    states = {subsets.start: 0}
    arcs: list[tuple[int, int, int]] = []
    for source, begin in enumerate(found):  # grows meanwhile
        stack = [(0, begin)]
        while stack:
            node, subset = stack.pop()
            children = spelling.children[node]
            for char, after in subsets.moves(subset).items():
                child = children.get(char)
                if child is None:
                    continue
                stack.append((child, after))
                if spelling.unit[child] >= 0:
                    target = states.setdefault(after, len(states))
                    if target == len(found):
                        found.append(after)
                    arcs.append((source, spelling.unit[child], target))
        if len(found) > MAX_STATES or len(arcs) > _MAX_ARCS:
            raise too_large(rules.where, f"{MAX_STATES} states or {_MAX_ARCS} arcs of units")
    ends = np.array([subsets.is_end(subset) for subset in found], np.bool_)
    return _trimmed(np.array(arcs, np.int64).reshape(-1, 3), ends, units, rules.where)


def _trimmed(
    arcs: npt.NDArray[np.int64], ends: npt.NDArray[np.bool_], units: Units, where: str
) -> Grammar:
    """Without the states that no units lead out of to an end, so that no search runs into them."""
    into = arcs[np.argsort(arcs[:, 2], kind="stable")]
    bounds = np.searchsorted(into[:, 2], np.arange(len(ends) + 1)).tolist()
    sources = into[:, 0].tolist()
    useful = ends.copy()
    stack = np.flatnonzero(ends).tolist()
    while stack:
        state = stack.pop()
        for source in sources[bounds[state] : bounds[state + 1]]:
            if not useful[source]:
                useful[source] = True
                stack.append(source)
    if not useful[0]:
        raise UsageError(f"{where}: no phrase is allowed; give each public rule a way to its end")
    number = np.cumsum(useful) - 1
    arcs = arcs[useful[arcs[:, 2]]]
    keys = number[arcs[:, 0]] * len(units) + arcs[:, 1]
    order = np.argsort(keys)
    dead = int(useful.sum())
    arrays = (
        np.append(keys[order], np.iinfo(np.int64).max),
        np.append(number[arcs[order, 2]], dead),
        np.append(np.where(ends[useful], 0.0, -np.inf), -np.inf),
    )
    for array in arrays:
        array.flags.writeable = False  # shared by streams
    return Grammar(units, *arrays)
