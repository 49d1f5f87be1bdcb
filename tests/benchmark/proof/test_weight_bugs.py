"""Bugs of a file of weights: the kernels read it, and it holds other numbers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.proof.layers import read_layers
from benchmark.proof.weight_bugs import WEIGHT_BUGS, put_bug
from edge_asr.errors import BackendError
from tests.benchmark.proof.programs import tiny_weights
from tests.edge_asr.native.weights_file import load

ELSEWHERE = {"the decoders' directions are swapped"}  # no attention of its own
ONLY_INT4 = {"halves of int4 bytes are swapped"}
REFUSED = {  # by their sums, when they are loaded
    "a bit of an integer",
    "a matrix is transposed",
    "a matrix without its sums",
    "halves of int4 bytes are swapped",
}


@pytest.mark.parametrize("kind", sorted(set(WEIGHT_BUGS) - ELSEWHERE))
def test_every_kind_changes_bytes_that_the_kernels_accept_if_sums_fit(kind: str) -> None:
    data = tiny_weights(4 if kind in ONLY_INT4 else 8)
    found = put_bug(kind, data, read_layers(data), np.random.default_rng(5))
    assert found is not None
    assert len(found[1]) == len(data) and found[1] != data
    if kind in REFUSED:
        with pytest.raises(BackendError, match="do not add up to the sums"):
            load(found[1])
    else:
        load(found[1])
    assert found == put_bug(kind, data, read_layers(data), np.random.default_rng(5))


def test_a_file_without_such_a_layer_cannot_have_the_bug() -> None:
    data = tiny_weights()
    for kind in ELSEWHERE | ONLY_INT4:
        assert put_bug(kind, data, read_layers(data), np.random.default_rng(0)) is None


def test_a_zeroed_expert_is_one_of_them() -> None:
    data = tiny_weights()
    found = put_bug("an expert is zero", data, read_layers(data), np.random.default_rng(1))
    assert found is not None
    before, after = (np.frombuffer(part, np.uint8) for part in (data, found[1]))
    places = np.flatnonzero(before != after)
    layer = read_layers(data)[0]
    inside = [
        expert
        for expert in range(4)
        if layer.expert(expert).start <= places[0] and places[-1] < layer.expert(expert).stop
    ]
    assert len(inside) == 1 and f"expert {inside[0]}" in found[0]


def test_a_transposed_matrix_is_the_same_twice_transposed() -> None:
    data = tiny_weights()
    layers = read_layers(data)[3:4]  # the linear layer alone
    once = put_bug("a matrix is transposed", data, layers, np.random.default_rng(0))
    assert once is not None
    twice = put_bug("a matrix is transposed", once[1], layers, np.random.default_rng(0))
    assert twice is not None and twice[1] == data
