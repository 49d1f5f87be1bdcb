"""A file of weights is read back, and every number of it is the network's."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from edge_asr.package.manifest import Precision
from edge_asr.package.stripped import found_in
from export.native import pack
from export.native_reader import read_layers
from export.native_weights import WeightsFile
from export.parity import ParityError
from export.program import DecoderProgram, EncoderProgram
from export.stripping import find_inserts
from export.verify_weights import verify_inserts, verify_weights
from tests.export.checkpoints import network_at

_ROLES: dict[str, type[nn.Module]] = {"encoder": EncoderProgram, "decoder": DecoderProgram}


def file_of(name: str, precision: Precision, role: str, folder: Path) -> WeightsFile:
    return pack(_ROLES[role](network_at(name, precision, folder)).eval()).file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> WeightsFile:
    return file_of("wenet-moe", "int8", "encoder", tmp_path_factory.mktemp("network"))


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("wenet-moe", "int8"),
        ("wenet-moe", "int4"),
        ("wenet-dense", "int8"),
        ("unusual", "int8"),
        ("whisper", "int8"),
    ],
)
def test_a_file_is_the_network(name: str, precision: Precision, role: str, tmp_path: Path) -> None:
    file = file_of(name, precision, role, tmp_path)
    verify_weights(file.data, file.layers, "weights")
    assert len(read_layers(file.data)) == len(file.layers) > 0


@pytest.mark.parametrize(("precision", "role"), [("int8", "encoder"), ("int4", "encoder"),
                                                 ("int8", "decoder")])  # fmt: skip
def test_any_bit_is_found(precision: Precision, role: str, tmp_path: Path) -> None:
    file = file_of("wenet-moe", precision, role, tmp_path)
    rng = np.random.default_rng(0)
    for place in rng.choice(_used_bytes(file), 200):
        changed = bytearray(file.data)
        changed[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ParityError, match="no package was written"):
            verify_weights(bytes(changed), file.layers, "weights")


def _used_bytes(file: WeightsFile) -> np.ndarray:
    """Those of tensors; between these are up to 63 that nothing reads."""
    inside = np.zeros(len(file.data), bool)
    for place in file.places:
        count, matrix = place.count, place.matrix
        if matrix is not None:
            count = (matrix.first + matrix.rows) * (matrix.columns + -matrix.columns % 8)
        inside[place.offset : place.offset + count] = True
    return np.flatnonzero(inside)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        (1, 1, "the activation"),
        (6, 3, "the number of chosen experts"),
        (12, 1.0, "the residual"),
        (13, 1, "the number of its state"),
        (9, 4, "the number of heads"),
    ],
)
def test_another_setting_of_a_layer_is_found(
    file: WeightsFile, field: int, value: float, word: str
) -> None:
    kind = 4 if word.endswith("heads") else 2
    layers = [layer.header for layer in read_layers(file.data)]
    index = next(i for i, header in enumerate(layers) if (header.kind, header.slot) == (kind, 0))
    fields = [*layers[index]]
    assert fields[field] != value
    fields[field] = value
    changed = bytearray(file.data)
    struct.pack_into("<12IfIQQ", changed, 64 + 128 * index, *fields)
    with pytest.raises(ParityError, match=f"{word} of layer {index} is not the network's"):
        verify_weights(bytes(changed), file.layers, "weights")


def test_layers_in_another_order_are_found(file: WeightsFile) -> None:
    wrong = (*file.layers[:-2], file.layers[-1], file.layers[-2])
    with pytest.raises(ParityError):
        verify_weights(file.data, wrong, "weights")
    with pytest.raises(ParityError, match="layers, expected"):
        verify_weights(file.data, file.layers[1:], "weights")


@pytest.mark.parametrize("size", [0, 10, 64, 4000])
def test_a_file_that_ends_early_is_refused(file: WeightsFile, size: int) -> None:
    with pytest.raises(ParityError, match="cannot be read back"):
        verify_weights(file.data[:size], file.layers, "weights")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("halves", [False, True])
def test_every_matrix_of_a_portable_program_is_looked_for(
    file: WeightsFile, transposed: bool, halves: bool
) -> None:
    parts = [b"program"]
    for place in (place for place in file.places if place.matrix):
        rows = np.frombuffer(found_in(file.data, place), np.int8).reshape(-1, place.matrix.columns)
        cut = np.split(rows, 2) if halves and len(rows) % 2 == 0 else [rows]
        parts += [(part.T if transposed else part).tobytes() + b"..." for part in cut]
    program = b"".join(parts)
    found = find_inserts(program, file)
    verify_inserts(program, found, file, "encoder.int8.pte")
    wrong = bytearray(program)
    wrong[len(program) // 2] ^= 1
    with pytest.raises(ParityError, match=r"encoder.int8.pte: \d+ of \d+ matrices are not those"):
        verify_inserts(bytes(wrong), find_inserts(bytes(wrong), file), file, "encoder.int8.pte")
