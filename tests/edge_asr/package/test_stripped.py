"""Programs come back byte for byte from what is left of them and the file of weights."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import PackageError
from edge_asr.package.stripped import Insert, Matrix, found_in, restore, strip

WEIGHTS = np.random.default_rng(5).bytes(4096)
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
PLAIN = Insert(3, 100, 64)
MATRIX = Insert(200, 7 * 10, 128, Matrix(columns=10, first=30, rows=7))


def panels(weight: np.ndarray) -> bytes:
    """As edge_asr/native/src/weights.h describes them, number by number."""
    rows, columns = weight.shape
    out = np.zeros((-(-rows // 32), -(-columns // 8) * 2, 32, 4), np.int8)
    for o in range(rows):
        for i in range(columns):
            out[o // 32, i // 4, o % 32, i % 4] = weight[o, i]
    return out.tobytes()


def program(*inserts: Insert) -> bytes:
    """Random bytes, and those of ``inserts`` at their places."""
    random, whole = np.random.default_rng(1), b""
    for insert in inserts:
        whole += random.bytes(insert.at - len(whole)) + found_in(WEIGHTS, insert)
    return whole + random.bytes(50)


@settings(deadline=None, max_examples=50)
@given(
    rows=st.integers(1, 70),
    channels=st.integers(1, 9),
    bins=st.integers(1, 4),
    transposed=st.booleans(),
    data=st.data(),
)
def test_matrices_come_out_of_their_panels(
    rows: int, channels: int, bins: int, transposed: bool, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, rows - 1))
    count = data.draw(st.integers(1, rows - first))
    weight = np.random.default_rng(rows).integers(-128, 128, (rows, bins * channels), np.int8)
    by_bin = weight.reshape(rows, channels, bins).swapaxes(1, 2).reshape(weight.shape)
    wanted = weight[first : first + count]
    layout = Matrix(bins * channels, first, count, bins, transposed)
    found = found_in(b"x" * 64 + panels(by_bin), Insert(0, wanted.size, 64, layout))
    assert found == (wanted.T if transposed else wanted).tobytes()


@pytest.mark.parametrize("inserts", [[], [PLAIN], [MATRIX], [PLAIN, MATRIX]])
def test_what_was_stripped_comes_back(inserts: list[Insert]) -> None:
    whole = program(*inserts)
    stripped = strip(whole, inserts, DIGEST)
    assert restore(stripped, WEIGHTS, DIGEST, "p") == whole
    for insert in inserts:
        assert found_in(WEIGHTS, insert) not in stripped


def test_inserts_may_follow_one_another() -> None:
    inserts = [Insert(0, 64, 0), Insert(64, 64, 640)]
    whole = WEIGHTS[:64] + WEIGHTS[640:704]
    assert restore(strip(whole, inserts, DIGEST), WEIGHTS, DIGEST, "p") == whole


def refused(stripped: bytes, weights: bytes = WEIGHTS, digest: str = DIGEST) -> str:
    with pytest.raises(PackageError) as caught:
        restore(stripped, weights, digest, "p.onnx")
    assert str(caught.value).startswith("p.onnx: not a program without weights that fits")
    return str(caught.value)


def test_other_weights_are_refused() -> None:
    stripped = strip(program(PLAIN), [PLAIN], DIGEST)
    assert "in another file" in refused(stripped, digest="0" * 64)


@pytest.mark.parametrize(
    "insert",
    [
        Insert(3, 100, 4000),
        Insert(3, 100, 1 << 33),
        Insert(300, 10, 0),
        Insert(3, 1 << 29, 0),
        Insert(3, 100, 0, Matrix(10, 0, 11)),
        Insert(3, 100, 4000, Matrix(10, 0, 10)),
        Insert(3, 1 << 30, 0, Matrix(1 << 15, 1 << 30, 1 << 15)),
        Insert(3, 100, 0, Matrix(10, 0, 10, 3)),
    ],
    ids=range(8),
)
def test_places_outside_are_refused(insert: Insert) -> None:
    table = msgspec.json.encode([insert])
    head = struct.pack("<8s8sI", b"EDGEASRS", bytes.fromhex(DIGEST[:16]), len(table))
    refused(head + table + bytes(200))


def test_overlap_is_refused() -> None:
    table = msgspec.json.encode([PLAIN, Insert(50, 10, 0)])
    head = struct.pack("<8s8sI", b"EDGEASRS", bytes.fromhex(DIGEST[:16]), len(table))
    assert "out of place" in refused(head + table + bytes(200))


@pytest.mark.parametrize(
    "table", [b"", b"null", b"[1]", b"[[-1,2,3]]", b"[[0,0,0]]", b'[[0,1,"0"]]', b"[" * 99999]
)
def test_other_tables_are_refused(table: bytes) -> None:
    head = struct.pack("<8s8sI", b"EDGEASRS", bytes.fromhex(DIGEST[:16]), len(table))
    refused(head + table)


def test_other_files_are_refused() -> None:
    stripped = strip(program(PLAIN), [PLAIN], DIGEST)
    for data in (b"", b"EDGE", stripped[:19], b"X" + stripped[1:], stripped[:30]):
        refused(data)
