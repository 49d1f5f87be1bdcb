"""Threads that share weights. ``make test-native`` runs this under ThreadSanitizer too."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from edge_asr.native.library import Counters, Levers, NativeWeights, library
from tests.child import in_child
from tests.edge_asr.native.layers import Case, run_on, same
from tests.edge_asr.native.weights_file import RELU, Floats, Maker, load, pack_file

DIM, HEADS, KERNEL, CACHED = 24, 3, 5, 7
EXPERTS, ATTENTION, CONVOLUTION = range(3)
SETTINGS = (Levers(), Levers(top_k=1))
STREAMS, RUNS = 4, 25
SOURCES = Path(__file__).parents[3] / "edge_asr" / "native" / "src"
# make test-native sets the options of a sanitizer.
SANITIZERS = {"ASAN_OPTIONS": "-fsanitize=address,undefined", "TSAN_OPTIONS": "-fsanitize=thread"}


def cases(maker: Maker) -> list[Case]:
    """One of each kind of layer that has levers or a state, in the order of the names above."""
    cache = (1, 1, HEADS, CACHED, DIM // HEADS)
    state = [maker.vector(*cache), maker.vector(*cache), maker.vector(*cache[:-1])]
    x = [maker.vector(1, 9, DIM), maker.vector(1, 9, DIM)]
    return [
        Case(maker.feed_forward(DIM, 40, DIM, RELU, 4, 2)[0], [maker.vector(9, DIM)]),
        Case(maker.attention(DIM, HEADS), [*x, np.zeros(1, np.float32), *state], 4),
        Case(maker.convolution(DIM, KERNEL, True), [x[0], maker.vector(1, 1, KERNEL - 1, DIM)], 2),
    ]


def outputs_of(weights: NativeWeights, number: int, case: Case) -> list[Floats]:
    return weights.run(number, *case.inputs, outputs=case.outputs)


def change_and_count(weights: NativeWeights, streams: list[Future[None]]) -> Iterator[Counters]:
    """Change levers and the number of threads while the streams run; give what was counted."""
    for levers, threads in cycle(zip(SETTINGS * 3, (1, 2, 3, 2, 1, 3), strict=True)):
        ended = all(stream.done() for stream in streams)
        weights.set_levers(levers)
        library().edge_asr_set_threads(threads)
        yield weights.counters()
        if ended:
            return


def test_levers_and_threads_change_while_streams_run(kernels: list[str]) -> None:
    layers = cases(Maker(np.random.default_rng(0)))
    weights = load(pack_file([case.layer for case in layers]))
    run_on(kernels[0], weights, layers[EXPERTS].inputs, 1)
    allowed = []  # results of each layer under each setting
    for levers in SETTINGS:
        weights.set_levers(levers)
        allowed.append([outputs_of(weights, i, case) for i, case in enumerate(layers)])
    assert not same(allowed[0][EXPERTS], allowed[1][EXPERTS])
    weights.counters()

    def stream() -> None:
        for i in range(RUNS * len(layers)):
            number = i % len(layers)
            found = outputs_of(weights, number, layers[number])
            assert any(same(found, results[number]) for results in allowed)

    with ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(stream) for _ in range(STREAMS)]
        counted = list(change_and_count(weights, streams))
    for ended in streams:
        ended.result()
    assert sum(counters.calls for counters in counted) == STREAMS * RUNS
    assert sum(counters.rows for counters in counted) == STREAMS * RUNS * 9


class Model:
    """Layers of each kind, and what they give."""

    def __init__(self) -> None:
        self.layers = cases(Maker(np.random.default_rng(0)))
        self.weights = load(pack_file([case.layer for case in self.layers]))
        library().edge_asr_set_threads(1)
        self.expected = self.run()

    def run(self) -> list[list[Floats]]:
        return [outputs_of(self.weights, i, case) for i, case in enumerate(self.layers)]

    def is_right(self) -> bool:
        return all(same(*pair) for pair in zip(self.run(), self.expected, strict=True))


def test_every_number_of_threads_gives_the_same(kernels: list[str]) -> None:
    model = Model()
    for threads in range(1, 65):
        library().edge_asr_set_threads(threads)
        assert library().edge_asr_threads() == threads and model.is_right()


def tasks() -> int:
    """Threads of this process."""
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("is_used", [True, False])
def test_a_forked_process_has_threads_of_its_own(
    kernels: list[str], threads: int, is_used: bool
) -> None:
    model = Model()
    library().edge_asr_set_threads(threads)
    if is_used:
        assert model.is_right()

    def more_threads() -> int:
        before = tasks()
        assert model.is_right() and model.is_right()
        assert library().edge_asr_threads() == threads
        return tasks() - before

    assert in_child(more_threads) == threads - 1
    assert in_child(lambda: in_child(more_threads)) == threads - 1, "a child of a child"
    assert model.is_right()


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_a_forked_process_may_want_another_number(kernels: list[str], wanted: int) -> None:
    model = Model()
    library().edge_asr_set_threads(2)
    assert model.is_right()

    def more_threads() -> int:
        before = tasks()
        library().edge_asr_set_threads(wanted)
        assert model.is_right() and library().edge_asr_threads() == wanted
        return tasks() - before

    assert in_child(more_threads) == wanted - 1


@pytest.mark.slow
def test_an_exception_waits_for_the_other_threads(tmp_path: Path) -> None:
    """In a program of its own: no layer throws in its parts."""
    if not (compiler := shutil.which("g++")):
        pytest.skip("no g++ to build a program of its own with")
    program, environment = tmp_path / "throwing_parts", dict(os.environ)
    environment.pop("LD_PRELOAD", None)  # the program has its sanitizer inside
    sanitizers = [flag for name, flag in SANITIZERS.items() if name in os.environ]
    sources = [Path(__file__).with_name("throwing_parts.cpp"), SOURCES / "threads.cpp"]
    flags = ["-std=c++20", "-g", "-O1", "-pthread", f"-I{SOURCES}", *sanitizers]
    subprocess.run(
        [compiler, *flags, *map(str, sources), "-o", str(program)], env=environment, check=True
    )
    subprocess.run([str(program)], env=environment, check=True, timeout=120)


def test_a_fork_while_streams_run(kernels: list[str]) -> None:
    model, ended = Model(), threading.Event()
    library().edge_asr_set_threads(3)

    def stream() -> bool:
        right = True
        while not ended.is_set():
            right &= model.is_right()
        return right

    with ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(stream) for _ in range(STREAMS)]
        try:
            assert all(in_child(model.is_right) for _ in range(10))
        finally:
            ended.set()
    assert all(stream.result() for stream in streams)
