"""Bugs in tensors: every kind is possible in an encoder or a decoder."""

from __future__ import annotations

import numpy as np

from benchmark.proof.graph import Graph
from benchmark.proof.tensor_bugs import TENSOR_BUGS
from tests.benchmark.proof.bugs import assert_all_are_possible
from tests.benchmark.proof.programs import tiny_encoder


def test_every_kind_is_possible() -> None:
    assert_all_are_possible(TENSOR_BUGS, but=set())


def test_swapped_experts_have_each_others_numbers() -> None:
    graph, right = Graph(tiny_encoder()), Graph(tiny_encoder())
    what = TENSOR_BUGS["two experts are swapped"](graph, np.random.default_rng(0))
    assert what is not None
    layer, _, numbers = what.partition(": experts ")
    one, other = numbers.split(" and ")
    for part in ("w_1", "w_2"):
        for here, there in ((one, other), (other, one)):
            found = graph.array(f"{layer}.{part}_{here}")
            assert np.array_equal(found, right.array(f"{layer}.{part}_{there}"))
        rows, wanted = graph.array(f"{layer}.{part}_scale"), right.array(f"{layer}.{part}_scale")
        wanted[[int(one), int(other)]] = wanted[[int(other), int(one)]]
        assert np.array_equal(rows, wanted)
