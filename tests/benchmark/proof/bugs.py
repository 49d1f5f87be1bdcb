"""What tests ask of a table of bugs of ONNX programs."""

from __future__ import annotations

import numpy as np

from benchmark.proof.graph import Graph
from benchmark.proof.tensor_bugs import GraphBug
from edge_asr.backends.onnx_guard import check_onnx
from tests.benchmark.proof.programs import tiny_decoder, tiny_encoder


def kinds_that_change(table: dict[str, GraphBug], program: bytes) -> set[str]:
    """Those that a program can have: of a few places one is changed, twice in the same way."""
    right = Graph(program).program()
    return {kind for kind, bug in table.items() if _changes(bug, program, right)}


def _changes(bug: GraphBug, program: bytes, right: bytes) -> bool:
    for seed in range(4):  # one may have been zero already
        one, again = (_put(bug, program, seed) for _ in range(2))
        assert one == again
        if one is not None and one != right:
            check_onnx(one)
            return True
    return False


def _put(bug: GraphBug, program: bytes, seed: int) -> bytes | None:
    graph = Graph(program)
    return None if bug(graph, np.random.default_rng(seed)) is None else graph.program()


def assert_all_are_possible(table: dict[str, GraphBug], but: set[str]) -> None:
    """In an encoder or a decoder."""
    possible = kinds_that_change(table, tiny_encoder()) | kinds_that_change(table, tiny_decoder())
    assert set(table) - possible == but
