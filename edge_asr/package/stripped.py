"""Programs without their integers: a package carries each set of them once.

The file of weights (edge_asr/native/src/weights.h) is what native kernels read. A portable program
holds the same integers, in the order of its own format. In the package they are cut out of its
file, which says where they belong and where they are found; ``restore`` gives the program byte for
byte as the exporter verified it. The format of the program does not matter.

A stripped file is: magic, the first 8 bytes of the SHA-256 of the file of weights, uint32 length of
the table, the table (a JSON list of ``Insert``), and what is left of the program.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np

from edge_asr.errors import PackageError

_MAGIC = b"EDGEASRS"
_HEADER = struct.Struct("<8s8sI")
# How the kernels keep int8 matrices.
PANEL = 32  # output channels
DEPTH_MULTIPLE = 8  # input channels are padded to it
_GROUP = 4  # input channels that follow one another

_MOST_TIMES = 4  # a program may hold its weights more than once, and must not fill the memory

_Place = Annotated[int, msgspec.Meta(ge=0, le=1 << 34)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 30)]


class Matrix(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Which int8 numbers are meant of a matrix in panels, and in what order.

    Attributes:
        columns: its input channels, without padding.
        first, rows: its output channels that are meant; several layers may be one matrix.
        bins: the columns are (bins, channels) in panels and (channels, bins) in the program.
        transposed: the program has (columns, rows) in place of (rows, columns).
    """

    columns: _Count
    first: _Place
    rows: _Count
    bins: _Count = 1
    transposed: bool = False


class Insert(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """``count`` bytes that belong into the program.

    Attributes:
        at: their place in the whole program.
        offset: where they are in the file of weights, or where the panels of their matrix begin.
        matrix: None: they stand there as they are.
    """

    at: _Place
    count: _Count
    offset: _Place
    matrix: Matrix | None = None


def strip(program: bytes, inserts: Sequence[Insert], weights_sha256: str) -> bytes:
    """The stripped file of ``program``, without the bytes of ``inserts``, which are in order and do
    not overlap."""
    digest = bytes.fromhex(weights_sha256[:16])
    table, rest, done = msgspec.json.encode(inserts), [], 0
    for insert in inserts:
        rest.append(program[done : insert.at])
        done = insert.at + insert.count
    return b"".join([_HEADER.pack(_MAGIC, digest, len(table)), table, *rest, program[done:]])


def restore(stripped: bytes, weights: bytes, weights_sha256: str, where: str) -> bytes:
    """The whole program.

    Raises:
        PackageError: it is no stripped file, or one of other weights.
    """
    try:
        magic, digest, length = _HEADER.unpack_from(stripped)
        if magic != _MAGIC:
            raise ValueError("no such file")
        if digest.hex() != weights_sha256[:16]:
            raise ValueError("its integers are in another file")
        begin = _HEADER.size + length
        inserts = msgspec.json.decode(stripped[_HEADER.size : begin], type=list[Insert])
        if sum(insert.count for insert in inserts) > _MOST_TIMES * len(weights):
            raise ValueError("more is inserted than there is")
        parts, done = [], 0  # done: bytes of the whole program
        for insert in inserts:
            gap = insert.at - done
            if gap < 0 or begin + gap > len(stripped):
                raise ValueError(f"byte {insert.at} is out of place")
            parts += [stripped[begin : begin + gap], found_in(weights, insert)]
            begin, done = begin + gap, insert.at + insert.count
        return b"".join([*parts, stripped[begin:]])
    except (struct.error, ValueError, RecursionError) as error:  # msgspec's are among them
        raise PackageError(
            f"{where}: not a program without weights that fits ({error}); export the package again"
        ) from error


def found_in(weights: bytes, insert: Insert) -> bytes:
    """The bytes of ``insert``.

    Raises:
        ValueError: ``weights`` has no such place.
    """
    if insert.matrix is None:
        part = weights[insert.offset : insert.offset + insert.count]
    else:
        part = _unpacked(weights, insert.offset, insert.matrix)
    if len(part) != insert.count:
        raise ValueError(f"{insert.count} bytes are expected at {insert.offset}")
    return part


def _unpacked(weights: bytes, offset: int, matrix: Matrix) -> bytes:
    depth = matrix.columns + -matrix.columns % DEPTH_MULTIPLE
    skip = matrix.first % PANEL
    panels = -(-(skip + matrix.rows) // PANEL)
    begin = offset + matrix.first // PANEL * PANEL * depth
    if begin + panels * PANEL * depth > len(weights) or matrix.columns % matrix.bins:
        raise ValueError(f"no matrix like {matrix} begins at {offset}")
    packed = np.frombuffer(weights, np.int8, panels * PANEL * depth, begin)
    channels = packed.reshape(panels, depth // _GROUP, PANEL, _GROUP).transpose(0, 2, 1, 3)
    rows = channels.reshape(-1, depth)[skip : skip + matrix.rows, : matrix.columns]
    if matrix.bins > 1:
        rows = rows.reshape(matrix.rows, matrix.bins, -1).swapaxes(1, 2).reshape(rows.shape)
    return (rows.T if matrix.transposed else rows).tobytes()
