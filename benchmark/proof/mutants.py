"""Mutants of programs, each with one bug, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.proof.graph import Graph, Rng
from benchmark.proof.graph_bugs import GRAPH_BUGS
from benchmark.proof.layers import read_layers
from benchmark.proof.tensor_bugs import TENSOR_BUGS
from benchmark.proof.weight_bugs import WEIGHT_BUGS, put_bug


@dataclass(frozen=True)
class Mutant:
    """A changed program or file of weights, and how it was changed."""

    kind: str
    where: str
    program: bytes | None = None
    weights: bytes | None = None


def _tries() -> Iterator[Rng]:
    """A bug may change nothing at one place, and something at another."""
    return (np.random.default_rng(seed) for seed in range(5))


@dataclass(frozen=True)
class Target:
    """What is changed: a program and the file of weights that a native one reads."""

    name: str
    program: bytes
    weights: bytes | None

    @cached_property
    def kinds(self) -> list[str]:
        """The kinds of bugs that it can have, in turn."""
        return [kind for kind in self._bugs if any(map(self._bugs[kind], _tries()))]

    def mutant(self, number: int, seed: int) -> Mutant:
        """Its mutant of that number, of all kinds in turn."""
        kind = self.kinds[number % len(self.kinds)]
        rng = np.random.default_rng(seed)
        while (found := self._bugs[kind](rng)) is None:
            pass  # the bug changes nothing there: another place
        return found

    @cached_property
    def _bugs(self) -> dict[str, Callable[[Rng], Mutant | None]]:
        bugs: dict[str, Callable[[Rng], Mutant | None]] = {}
        if self.weights is not None:
            layers = read_layers(self.weights)
            for kind in WEIGHT_BUGS:
                bugs[kind] = self._weight_bug(kind, layers)
        tables = (GRAPH_BUGS,) if self.weights is not None else (TENSOR_BUGS, GRAPH_BUGS)
        for table in tables:
            for kind, bug in table.items():
                bugs.setdefault(kind, self._graph_bug(kind, bug))
        return bugs

    def _weight_bug(self, kind: str, layers: list) -> Callable[[Rng], Mutant | None]:
        def put(rng: Rng) -> Mutant | None:
            assert self.weights is not None
            found = put_bug(kind, self.weights, layers, rng)
            return None if found is None else Mutant(kind, found[0], weights=found[1])

        return put

    def _graph_bug(self, kind: str, bug: Callable) -> Callable[[Rng], Mutant | None]:
        def put(rng: Rng) -> Mutant | None:
            graph = Graph(self.program)
            what = bug(graph, rng)
            changed = graph.program()
            same = what is None or changed == self._serialized
            return None if same else Mutant(kind, what or "", program=changed)

        return put

    @cached_property
    def _serialized(self) -> bytes:
        return Graph(self.program).program()
