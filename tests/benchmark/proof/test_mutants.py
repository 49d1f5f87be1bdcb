"""Mutants of a file of weights: readable by the kernels, and another function."""

from __future__ import annotations

import numpy as np

from benchmark.proof.mutants import CHANGES, mutants, read_layers
from tests.edge_asr.native.weights_file import SILU, Maker, load, pack_file

LAYERS = (2, 4, 5, 1, 3)


def weights() -> bytes:
    """A layer of each kind."""
    maker = Maker(np.random.default_rng(0), 8, 0)
    experts, _, _ = maker.feed_forward(32, 40, 32, SILU, 4, 2)
    blocks = [experts, maker.attention(32, 4, 1), maker.convolution(32, 5, True, 1)]
    blocks = [block.with_residual(0.5, maker.vector(32), maker.vector(32)) for block in blocks]
    return pack_file([*blocks, maker.linear(32, 40)[0], maker.subsampling(16, 8, 32)])


def test_the_layers_are_read_to_their_ends() -> None:
    layers = read_layers(weights())
    assert tuple(layer.header.kind for layer in layers) == LAYERS
    assert [len(layer.matrices) for layer in layers] == [8, 3, 2, 1, 2]
    assert layers[0].header.residual == 0.5 and layers[1].header.slot == 1


def test_every_kind_of_bug_changes_bytes_that_the_kernels_accept() -> None:
    data = weights()
    found = list(mutants(data, range(3 * len(CHANGES))))
    assert {mutant.kind for mutant in found} == set(CHANGES)
    for mutant in found:
        assert len(mutant.data) == len(data) and mutant.data != data, mutant.where
        load(mutant.data)
    again = next(mutants(data, range(7, 8)))
    assert again == found[7]


def test_a_zeroed_expert_is_one_of_them() -> None:
    data = weights()
    mutant = next(mutants(data, range(1)))
    before, after = (np.frombuffer(part, np.uint8) for part in (data, mutant.data))
    places = np.flatnonzero(before != after)
    layer = read_layers(data)[0]
    ends = [layer.matrices[2 * e].scale for e in range(4)] + [layer.matrices[-1].end]
    first, last = np.searchsorted(ends, [places[0], places[-1]], side="right")
    assert mutant.kind == "an expert is zero" and first == last
