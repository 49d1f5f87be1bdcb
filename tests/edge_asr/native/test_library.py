"""The kernels' library in Python: weights that are shared, shapes that do not fit, threads."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr.errors import BackendError
from edge_asr.native import library
from edge_asr.native.library import NativeWeights, share_weights
from tests.child import in_child
from tests.edge_asr.native.layers import run_on
from tests.edge_asr.native.weights_file import RELU, Floats, Maker, load, pack_file

DIM = 12
UNKNOWN = "weights are not loaded; open it through edge_asr"


def linear_file(seed: int = 0) -> bytes:
    maker = Maker(np.random.default_rng(seed))
    return pack_file([maker.linear(DIM, 8)[0]])


def x(*shape: int) -> Floats:
    return np.ones((*shape, DIM), np.float32)


class Reader:
    """Gives a file, and counts how often."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.count = 0

    def __call__(self, memory: memoryview) -> None:
        self.count += 1
        memory[:] = self.data


@pytest.mark.slow
def test_weights_are_read_once_and_unloaded_after_their_last_user(kernels: list[str]) -> None:
    reader = Reader(linear_file())
    first = share_weights(77, len(reader.data), reader)
    second = share_weights(77, len(reader.data), reader)
    assert first is second and reader.count == 1
    del first
    gc.collect()
    assert library.output_shapes(77, 0, [(5, DIM)], 1) == [(5, 8)]
    del second
    gc.collect()
    with pytest.raises(BackendError, match=UNKNOWN):
        library.output_shapes(77, 0, [(5, DIM)], 1)
    assert share_weights(77, len(reader.data), reader).number == 77
    assert reader.count == 2


def test_streams_that_open_together_share(kernels: list[str]) -> None:
    reader = Reader(linear_file())
    found: list[NativeWeights] = []
    threads = [
        threading.Thread(target=lambda: found.append(share_weights(78, len(reader.data), reader)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reader.count == 1 and len({id(weights) for weights in found}) == 1


def test_a_forked_process_waits_for_no_lock_of_another_thread(kernels: list[str]) -> None:
    reader = Reader(linear_file())
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with library._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    rows = in_child(lambda: len(share_weights(82, len(reader.data), reader).run(0, x(2))[0]))
    done.set()
    thread.join()
    assert rows == 2


def test_the_end_of_weights_leaves_those_that_took_their_number(kernels: list[str]) -> None:
    """A stream may end while another one opens."""
    old, new = Reader(linear_file(1)), Reader(linear_file(2))
    ending = NativeWeights(79, len(old.data), old)
    opening = NativeWeights(79, len(new.data), new)
    expected = opening.run(0, x(1))
    del ending
    gc.collect()
    np.testing.assert_array_equal(opening.run(0, x(1)), expected)


def test_refused_weights_leave_those_in_use(kernels: list[str]) -> None:
    reader = Reader(linear_file())
    weights = NativeWeights(80, len(reader.data), reader)
    expected = weights.run(0, x(1))
    with pytest.raises(BackendError, match="not a file of weights"):
        NativeWeights(80, 200, Reader(bytes(200)))
    np.testing.assert_array_equal(weights.run(0, x(1)), expected)
    del weights
    gc.collect()
    with pytest.raises(BackendError, match=UNKNOWN):
        library.output_shapes(80, 0, [(1, DIM)], 1)


def test_what_the_reader_raises_arrives(kernels: list[str]) -> None:
    def fail(_: memoryview) -> None:
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        share_weights(81, 100, fail)
    reader = Reader(linear_file())
    assert share_weights(81, len(reader.data), reader).run(0, x(2))[0].shape == (2, 8)


class Interrupted:
    """The kernels, and an interrupt that comes as soon as they have the weights."""

    def __init__(self) -> None:
        self._opened = library.library()
        self.freed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    def edge_asr_load(self, *arguments: Any) -> int:
        assert self._opened.edge_asr_load(*arguments) == 0
        raise KeyboardInterrupt

    def edge_asr_free(self, *_: Any) -> None:
        self.freed += 1


def test_an_interrupt_frees_no_memory_that_the_kernels_have(
    kernels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, interrupted = Reader(linear_file()), Interrupted()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(library, "library", lambda: interrupted)
        NativeWeights(83, len(reader.data), reader)
    assert not interrupted.freed
    again = NativeWeights(83, len(reader.data), reader)
    assert again.run(0, x(2))[0].shape == (2, 8)


def test_numbers_that_nobody_loaded(kernels: list[str]) -> None:
    weights = load(linear_file())
    weights.number += 1 << 20
    with pytest.raises(BackendError, match=UNKNOWN):
        weights.run(0, x(1))
    with pytest.raises(BackendError, match=UNKNOWN):
        weights.counters()
    with pytest.raises(BackendError, match=UNKNOWN):
        weights.set_levers(library.Levers())


@pytest.mark.parametrize("layer", [-1, 1, 2**40])
def test_layers_that_are_not_there(kernels: list[str], layer: int) -> None:
    with pytest.raises(BackendError, match=f"no layer {layer}, there are 1"):
        load(linear_file()).run(layer, x(1))


@pytest.mark.parametrize(
    "shape", [(DIM,), (0, DIM), (3, DIM), (2, 0, DIM), (1, 2, 3, 1, 1, 1, 2, DIM)]
)
def test_rows_in_any_dimensions(kernels: list[str], shape: tuple[int, ...]) -> None:
    weights = load(linear_file())
    (y,) = weights.run(0, np.ones(shape, np.float32))
    assert y.shape == (*shape[:-1], 8)
    np.testing.assert_array_equal(y.reshape(-1, 8), weights.run(0, x(1))[0].repeat(y.size // 8, 0))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((3, DIM + 1), f"rows of {DIM} numbers expected, found 13"),
        ((1,) * 8 + (DIM,), "1 to 8 dimensions expected, found 9"),
        ((), "1 to 8 dimensions expected, found 0"),
        ((-1, DIM), "0 to 16777216 rows expected"),
        ((-1, -1, DIM), "0 to 16777216 rows expected"),
        ((1 << 24, 2, DIM), "0 to 16777216 rows expected"),
        ((1 << 62, 1 << 62, 4, DIM), "0 to 16777216 rows expected"),
    ],
)
def test_shapes_that_do_not_fit(kernels: list[str], shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(BackendError, match=f"edge_asr::linear: {reason}.*; export the package"):
        load(linear_file()).shapes(0, [shape], 1)


ATTENTION = [(1, 4, DIM), (1, 4, DIM), (1,), (2, 1, 3, 5, 4), (2, 1, 3, 5, 4), (2, 1, 3, 5)]
CONVOLUTION = [(1, 4, DIM), (2, 1, 6, DIM)]
SUBSAMPLING = [(1, 7, 9)]


@pytest.mark.parametrize(
    ("layer", "place", "shape"),
    [
        (0, 0, (2, 4, DIM)),
        (0, 0, (4, DIM)),
        (0, 1, (1, 3, DIM)),
        (0, 2, (2,)),
        (0, 3, (2, 1, 4, 5, 3)),
        (0, 3, (1, 1, 3, 5, 4)),
        (0, 3, (1, 3, 5, 4)),
        (0, 4, (2, 1, 3, 6, 4)),
        (0, 4, (1, 1, 3, 5, 4)),
        (0, 5, (2, 1, 3, 4)),
        (0, 5, (2, 1, 3, 5, 4)),
        (1, 0, (1, 4, DIM + 1)),
        (1, 0, (1, -4, DIM)),
        (1, 1, (2, 1, 5, DIM)),
        (1, 1, (1, 1, 6, DIM)),
        (1, 1, (1, 6, DIM)),
        (2, 0, (1, 6, 9)),
        (2, 0, (1, 7, 10)),
        (2, 0, (2, 7, 9)),
    ],
)
def test_blocks_refuse_other_shapes(
    kernels: list[str], layer: int, place: int, shape: tuple[int, ...]
) -> None:
    maker = Maker(np.random.default_rng(0))
    attention, convolution = maker.attention(DIM, 3, 1), maker.convolution(DIM, 7, False, 1)
    weights = load(pack_file([attention, convolution, maker.subsampling(9, 2, 6)]))
    shapes: list[tuple[int, ...]] = [*(ATTENTION, CONVOLUTION, SUBSAMPLING)[layer]]
    outputs = (4, 2, 1)[layer]
    assert len(weights.shapes(layer, shapes, outputs)) == outputs
    shapes[place] = shape
    with pytest.raises(BackendError, match="expected, found"):
        weights.shapes(layer, shapes, outputs)


@pytest.mark.parametrize(("inputs", "outputs"), [(0, 1), (2, 1), (9, 1), (1, 0), (1, 2), (1, 9)])
def test_other_numbers_of_tensors(kernels: list[str], inputs: int, outputs: int) -> None:
    with pytest.raises(BackendError, match="1 inputs and 1 outputs expected, found"):
        load(linear_file()).run(0, *[x(1)] * inputs, outputs=outputs)


def test_operators(kernels: list[str]) -> None:
    assert library.operator_counts("attention") == (6, 4)
    with pytest.raises(BackendError, match="edge_asr::nothing is not an operator"):
        library.operator_counts("nothing")


def test_kernels_that_cannot_run_are_refused(kernels: list[str]) -> None:
    opened = library.library()
    before = opened.edge_asr_kernel()
    for name in (b"mmx", *(n.encode() for n, can in library.kernels().items() if not can)):
        assert opened.edge_asr_set_kernel(name) == -1
        assert b"not in this build, or not for this processor" in opened.edge_asr_error()
        assert opened.edge_asr_kernel() == before


def test_threads_stay_in_their_bounds(kernels: list[str]) -> None:
    opened = library.library()
    for wanted, given in ((0, 1), (-5, 1), (3, 3), (1000, 64), (1, 1)):
        opened.edge_asr_set_threads(wanted)
        assert opened.edge_asr_threads() == given


def test_streams_of_several_threads_do_not_meet(kernels: list[str]) -> None:
    maker = Maker(np.random.default_rng(0))
    weights = load(pack_file([maker.feed_forward(DIM, 40, DIM, RELU, 4, 2)[0]]))
    rows = [maker.vector(n, DIM) for n in (1, 5, 17, 40)]
    expected = [run_on(kernels[0], weights, [array], 1)[0] for array in rows]
    library.library().edge_asr_set_threads(2)
    wrong: list[int] = []

    def stream(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(weights.run(0, rows[i])[0], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=stream, args=(i,)) for i in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    assert not library.built()
    opened = library.library.__wrapped__
    with pytest.raises(BackendError, match="the native kernels are not built; build them with"):
        opened()
    (tmp_path / "libedge_asr_kernels.so").write_bytes(b"no library")
    with pytest.raises(BackendError, match="the native kernels cannot be opened"):
        opened()
