"""Files of weights that are not what they should be: an error, and never a crash."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_asr.errors import BackendError
from edge_asr.native.library import operator_counts
from tests.edge_asr.native.weights_file import (
    ATTENTION,
    CONVOLUTION,
    FEED_FORWARD,
    LINEAR,
    SILU,
    SUBSAMPLING,
    Layer,
    Maker,
    load,
    pack_file,
)

FIELDS = (
    "kind", "activation", "dim_in", "hidden", "dim_out", "experts", "top_k", "bits", "group",
    "heads", "kernel", "flags", "residual", "slot",
)  # fmt: skip
OPERATORS = {
    LINEAR: "linear",
    FEED_FORWARD: "moe_ffn",
    SUBSAMPLING: "subsampling",
    ATTENTION: "attention",
    CONVOLUTION: "convolution",
}
LAYERS: dict[int, Callable[[Maker], Layer]] = {
    LINEAR: lambda maker: maker.linear(20, 40)[0],
    FEED_FORWARD: lambda maker: maker.feed_forward(16, 24, 16, SILU, 3, 2)[0],
    SUBSAMPLING: lambda maker: maker.subsampling(11, 4, 12),
    ATTENTION: lambda maker: maker.attention(12, 3),
    CONVOLUTION: lambda maker: maker.convolution(12, 5, True),
}


def file_of(*kinds: int, bits: int = 8, group: int = 0) -> bytes:
    maker = Maker(np.random.default_rng(0), bits, group)
    return pack_file([LAYERS[kind](maker) for kind in kinds])


def damaged(data: bytes, field: str, value: int) -> bytes:
    """With another number in the first layer's header."""
    at = 64 + 4 * FIELDS.index(field)
    return data[:at] + struct.pack("<I", value) + data[at + 4 :]


def is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BackendError, match=f"^native weights: .*{reason}.*; export the package"):
        load(data)


BAD_FIELDS = [
    (LINEAR, "kind", 0, "kind 0 is unknown"),
    (LINEAR, "kind", 6, "kind 6 is unknown"),
    (LINEAR, "activation", 3, "activation 3 is unknown"),
    (LINEAR, "dim_in", 0, "a size of 0"),
    (LINEAR, "dim_in", 1 << 31, "a size of 2147483648"),
    (LINEAR, "dim_in", 12, "longer than its sizes say"),
    (LINEAR, "dim_in", 21 + 8, "ends early"),
    (LINEAR, "dim_out", 0, "a size of 0"),
    (LINEAR, "dim_out", 65537, "a size of 65537"),
    (LINEAR, "dim_out", 65, "ends early"),
    (LINEAR, "experts", 1, "1 experts"),
    (LINEAR, "top_k", 1, "top-1 of 0"),
    (LINEAR, "bits", 16, "16 bits"),
    (LINEAR, "bits", 4, "groups of 0"),
    (LINEAR, "group", 32, "groups of 32"),
    (LINEAR, "flags", 4, "flags 4 are unknown"),
    (LINEAR, "flags", 1, "a residual"),
    (SUBSAMPLING, "flags", 1, "a residual"),
    (LINEAR, "slot", 1 << 31, "slot 2147483648"),
    (FEED_FORWARD, "hidden", 0, "a size of 0"),
    (FEED_FORWARD, "hidden", 65, "ends early"),
    (FEED_FORWARD, "experts", 65, "65 experts"),
    (FEED_FORWARD, "experts", 4, "ends early"),
    (FEED_FORWARD, "experts", 2, "longer than"),
    (FEED_FORWARD, "experts", 0, "top-2 of 0"),
    (FEED_FORWARD, "top_k", 0, "top-0 of 3"),
    (FEED_FORWARD, "top_k", 4, "top-4 of 3"),
    (SUBSAMPLING, "dim_in", 6, "a subsampling of 6 bins"),
    (SUBSAMPLING, "hidden", 65535, "to 65535 channels"),
    (ATTENTION, "heads", 0, "0 heads"),
    (ATTENTION, "heads", 5, "5 heads of 12"),
    (ATTENTION, "dim_out", 13, "differ in size"),
    (CONVOLUTION, "kernel", 0, "a kernel of 0"),
    (CONVOLUTION, "kernel", 257, "a kernel of 257"),
    (CONVOLUTION, "dim_out", 13, "differ in size"),
]


@pytest.mark.parametrize(("kind", "field", "value", "reason"), BAD_FIELDS)
def test_a_wrong_number_in_a_layer(
    kernels: list[str], kind: int, field: str, value: int, reason: str
) -> None:
    is_refused(damaged(file_of(kind), field, value), reason)


@pytest.mark.parametrize(("field", "value"), [("bits", 8), ("group", 64), ("group", 1)])
def test_a_wrong_group(kernels: list[str], field: str, value: int) -> None:
    is_refused(damaged(file_of(LINEAR, bits=4, group=32), field, value), "groups of|ends early")


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, b"EDGEASRX", "not a file of weights"),
        (8, struct.pack("<I", 2), "version 2, this edge_asr reads version 1"),
        (12, struct.pack("<I", 4000), "list of layers ends early"),
        (12, struct.pack("<I", 0xFFFFFFFF), "list of layers ends early"),
        (16, struct.pack("<Q", 1), "expected 1 bytes, found"),
        (64 + 56, struct.pack("<Q", 64 + 128 + 32), "outside the file"),
        (64 + 56, struct.pack("<Q", 1 << 63), "outside the file"),
        (64 + 64, struct.pack("<Q", (1 << 64) - 64), "outside the file"),
        (64 + 64, struct.pack("<Q", 0), "ends early"),
    ],
)
def test_a_wrong_number_in_the_file(kernels: list[str], at: int, value: bytes, reason: str) -> None:
    data = file_of(LINEAR)
    is_refused(data[:at] + value + data[at + len(value) :], reason)


def test_a_file_cut_off(kernels: list[str]) -> None:
    data = file_of(*LAYERS)
    for size in (0, 1, 8, 63, 64, 191, 192, len(data) // 2, len(data) - 1):
        is_refused(data[:size], "not a file|expected|ends early")
        # The same where the header knows of the cut.
        if size >= 64:
            short = data[:16] + struct.pack("<Q", size) + data[24:size]
            is_refused(short, "ends early|outside the file")


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(LAYERS)),
    st.sampled_from([(8, 0), (4, 32)]),
    st.lists(
        st.tuples(
            st.integers(0, 64 + 128 - 1), st.one_of(st.integers(0, 255), st.sampled_from([0, 255]))
        ),
        min_size=1,
        max_size=6,
    ),
)
@example(LINEAR, (8, 0), [(64 + 4 * FIELDS.index("activation"), 2)])
def test_damaged_headers_raise_an_error_or_describe_another_layer(
    kernels: list[str], kind: int, integers: tuple[int, int], changes: list[tuple[int, int]]
) -> None:
    data = bytearray(file_of(kind, bits=integers[0], group=integers[1]))
    for at, value in changes:
        data[at] = value
    try:
        weights = load(bytes(data))
    except BackendError:
        return
    if struct.unpack_from("<I", data, 12)[0] == 0:
        return
    numbers = dict(zip(FIELDS, struct.unpack_from("<12IfI", data, 64), strict=True))
    dim = numbers["dim_in"]
    layers, heads = numbers["slot"] + 1, max(1, numbers["heads"])
    cache = (layers, 1, heads, 3, dim // heads)
    shapes = {
        SUBSAMPLING: [(1, 9, dim)],
        ATTENTION: [(1, 2, dim), (1, 2, dim), (1,), cache, cache, cache[:-1]],
        CONVOLUTION: [(1, 2, dim), (layers, 1, numbers["kernel"] - 1, dim)],
    }.get(numbers["kind"], [(2, dim)])
    if sum(np.prod(shape) for shape in shapes) > 1 << 20:
        return
    _, outputs = operator_counts(OPERATORS[numbers["kind"]])
    weights.run(0, *(np.ones(shape, np.float32) for shape in shapes), outputs=outputs)


@pytest.mark.parametrize(
    ("bits", "group", "panels", "first"), [(8, 0, 2 * 32 * 24, 0), (4, 32, 2 * (64 + 512), 64)]
)
def test_any_bit_of_the_integers_is_missed_in_the_sums(
    kernels: list[str], bits: int, group: int, panels: int, first: int
) -> None:
    """40 channels of 20 numbers are two panels; at int4 one begins with the scales of a group."""
    whole = file_of(LINEAR, bits=bits, group=group)
    begin = len(whole) - panels + first
    rng = np.random.default_rng(bits)
    load(whole)
    for place in rng.integers(0, 512, 60):
        wrong = bytearray(whole)
        wrong[begin + int(place)] ^= 1 << int(rng.integers(8))
        is_refused(bytes(wrong), "layer 0: its integers do not add up to the sums beside them")
