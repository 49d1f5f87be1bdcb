"""Which bytes of a portable program are in the file of weights too.

Every backend writes its tensors as plain bytes, so they are looked for as such: what is not found
in one of two orders stays in the program, and what is put back gives the same bytes.
"""

from __future__ import annotations

import bisect

import msgspec

from edge_asr.package.stripped import Insert, found_in
from export.native_weights import WeightsFile

SMALLEST_BYTES = 256  # shorter ones would cost more in the table than they save


def find_inserts(program: bytes, file: WeightsFile) -> list[Insert]:
    """What ``strip`` cuts out of ``program``, in order, and without overlap."""
    found: list[Insert] = []
    transposed = True  # what was found last: a program has its matrices in one order
    for place in file.places:
        if place.count < SMALLEST_BYTES:
            continue
        for tried in (transposed, not transposed) if place.matrix else (False,):
            insert = _ordered(place, tried)
            places = _find_all(program, found_in(file.data, insert))
            for at in places:
                _add(found, msgspec.structs.replace(insert, at=at))
            if places:
                transposed = tried if place.matrix else transposed
                break
    return found


def _ordered(place: Insert, transposed: bool) -> Insert:
    if place.matrix is None:
        return place
    matrix = msgspec.structs.replace(place.matrix, transposed=transposed)
    return msgspec.structs.replace(place, matrix=matrix)


def _find_all(program: bytes, wanted: bytes) -> list[int]:
    places, at = [], program.find(wanted)
    while at >= 0:
        places.append(at)
        at = program.find(wanted, at + len(wanted))
    return places


def _add(found: list[Insert], insert: Insert) -> None:
    """Keep the order, and leave out what would overlap: equal numbers are found more than once."""
    index = bisect.bisect(found, insert.at, key=lambda one: one.at)
    after_one = index == 0 or found[index - 1].at + found[index - 1].count <= insert.at
    before_next = index == len(found) or insert.at + insert.count <= found[index].at
    if after_one and before_next:
        found.insert(index, insert)
