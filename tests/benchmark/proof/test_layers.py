"""Where the numbers of a file of native weights are."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.proof.layers import floats, put_header, read_layers, square
from edge_asr.errors import BackendError
from tests.benchmark.proof.programs import KINDS, tiny_weights
from tests.edge_asr.native.weights_file import load


def test_the_layers_are_read_to_their_ends() -> None:
    layers = read_layers(tiny_weights())
    assert tuple(layer.header.kind for layer in layers) == KINDS
    assert [len(layer.matrices) for layer in layers] == [8, 3, 2, 1, 2, 2]
    assert layers[0].header.residual == 0.5 and layers[1].header.slot == 1
    assert set(layers[1].vectors) == {"norm scale", "norm shift", "u", "v"}


def test_experts_of_int4_are_read_too() -> None:
    layers = read_layers(tiny_weights(bits=4))
    assert [matrix.bits for matrix in layers[0].matrices] == [4] * 8
    assert layers[0].expert(3).stop == layers[0].place.stop


def test_what_is_changed_is_written_through() -> None:
    data = bytearray(tiny_weights())
    layers = read_layers(data)
    floats(data, layers[0].vectors["norm scale"])[:] = 3.0
    square(data, layers[3].matrices[0])[:] = 1
    put_header(data, layers[1], residual=1.0)
    again = read_layers(bytes(data))
    assert again[1].header.residual == 1.0
    place = again[0].vectors["norm scale"]
    assert np.all(np.frombuffer(data[place], np.float32) == 3.0)
    matrix = again[3].matrices[0]
    assert set(data[matrix.panels : matrix.end]) == {1}
    with pytest.raises(BackendError, match="layer 3: its integers do not add up"):
        load(bytes(data))
