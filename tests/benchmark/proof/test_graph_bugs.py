"""Bugs in operators: every kind is possible in an encoder or a decoder."""

from __future__ import annotations

from collections import Counter

import numpy as np

from benchmark.proof.graph import Graph
from benchmark.proof.graph_bugs import GRAPH_BUGS
from tests.benchmark.proof.bugs import assert_all_are_possible
from tests.benchmark.proof.programs import tiny_decoder, tiny_encoder


def test_every_kind_is_possible() -> None:
    # Blocks that are one operator are those of native programs.
    assert_all_are_possible(GRAPH_BUGS, but={"another layer's operator"})


def test_an_activation_is_exchanged_for_another() -> None:
    changes = set()
    for seed in range(8):
        graph = Graph(tiny_encoder())
        before = Counter(node.op_type for node in graph.graph.node)
        GRAPH_BUGS["another activation"](graph, np.random.default_rng(seed))
        after = Counter(node.op_type for node in graph.graph.node)
        changes.add((*(before - after).items(), *(after - before).items()))
    assert changes == {(("Mul", 1), ("Relu", 1)), (("Relu", 1), ("Elu", 1))}


def test_scores_change_their_names() -> None:
    graph = Graph(tiny_decoder())
    left = graph.maker["left_scores"].name
    GRAPH_BUGS["scores of the directions are swapped"](graph, np.random.default_rng(0))
    assert Graph(graph.program()).maker["right_scores"].name == left
