"""The kernels where the system gives no more memory or threads: a result or an error, never the end
of the process. And what they keep of the memory that they got."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from edge_asr.errors import BackendError
from edge_asr.native.library import NativeWeights, library
from tests.child import in_child
from tests.edge_asr.native.layers import same
from tests.edge_asr.native.weights_file import Floats, Maker, load, pack_file

DIM, HEADS, FRAMES = 24, 3, 9
STACK_BYTES = 8 << 20  # of a thread, at least
NOBODY = 65534
M_ARENA_MAX = -8


def attention(cached: int) -> tuple[NativeWeights, list[Floats]]:
    """A layer whose threads need memory of their own, the more the more is cached; its inputs."""
    maker = Maker(np.random.default_rng(0))
    cache = (1, 1, HEADS, cached, DIM // HEADS)
    state = [maker.vector(*cache), maker.vector(*cache), maker.vector(*cache[:-1])]
    x = [maker.vector(1, FRAMES, DIM), maker.vector(1, FRAMES, DIM)]
    return load(pack_file([maker.attention(DIM, HEADS)])), [*x, np.zeros(1, np.float32), *state]


def used_bytes() -> int:
    """Of this process, as its limit of memory counts."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def limit_memory(most_bytes: int) -> None:
    """From now on the process has no more than so many bytes."""
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, resource.RLIM_INFINITY))


def take_what_is_free(used: int) -> list[Floats]:
    """Memory that the process has and does not use, in ever smaller pieces. It stays limited."""
    limit_memory(used)
    pieces: list[Floats] = []
    for numbers in (1 << 18, 1 << 14, 1 << 10):
        with contextlib.suppress(MemoryError):
            while True:
                pieces.append(np.empty(numbers, np.float32))
    return pieces


def threads_and_result(limit: Callable[[], None]) -> tuple[int, bool]:
    """How many of 16 threads there are under a limit, and whether they compute what one does."""
    weights, inputs = attention(cached=7)
    library().edge_asr_set_threads(1)
    expected = weights.run(0, *inputs, outputs=4)

    def run() -> tuple[int, bool]:
        limit()
        library().edge_asr_set_threads(16)
        count = library().edge_asr_threads()
        return count, same(weights.run(0, *inputs, outputs=4), expected)

    return in_child(run)


def test_as_many_threads_as_memory_allows(kernels: list[str]) -> None:
    count, right = threads_and_result(lambda: limit_memory(used_bytes() + 5 * STACK_BYTES))
    assert 1 <= count < 16 and right


def test_no_more_threads(kernels: list[str]) -> None:
    def limit() -> None:
        if os.getuid() == 0:
            os.setuid(NOBODY)  # root has no such limit
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))

    assert threads_and_result(limit) == (1, True)


def test_memory_that_ends_anywhere(kernels: list[str]) -> None:
    weights, inputs = attention(cached=100_000)  # 5 MB for each thread
    library().edge_asr_set_threads(1)
    expected = weights.run(0, *inputs, outputs=4)

    def outcome(more_bytes: int) -> str:
        library().edge_asr_set_threads(4)
        used = used_bytes()
        taken = take_what_is_free(used)
        limit_memory(used + more_bytes)
        try:
            found = weights.run(0, *inputs, outputs=4)
        except MemoryError:
            return "numpy has no memory"
        except BackendError as error:
            return str(error)
        limit_memory(resource.RLIM_INFINITY)
        taken.clear()
        return "right" if same(found, expected) else "wrong"

    # Each in a process of its own, whose memory was not made larger by the one before.
    found = [in_child(partial(outcome, more << 20)) for more in [*range(0, 64, 4), 1024]]
    assert set(found) <= {"right", "numpy has no memory", "out of memory; use smaller chunks"}
    assert found[-1] == "right" and "out of memory; use smaller chunks" in found


def test_the_first_error_of_a_thread_without_memory(kernels: list[str]) -> None:
    """The C library ends the process where a thread cannot have its own variables."""

    set_levers, malloc = library().edge_asr_set_levers, ctypes.CDLL(None).malloc
    malloc.argtypes, malloc.restype = [ctypes.c_size_t], ctypes.c_void_p

    def fail(go: threading.Event) -> int:
        while not go.is_set():
            pass
        return int(set_levers(1, 0, 0.0, 0))

    def run() -> tuple[int, str]:
        go = threading.Event()
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)  # threads have no stock of memory of their own
        with ThreadPoolExecutor(1) as pool:
            failing = pool.submit(fail, go)
            taken = take_what_is_free(used_bytes())
            while malloc(64):
                pass
            go.set()
            result = failing.result()
            limit_memory(resource.RLIM_INFINITY)
            taken.clear()
            text = pool.submit(library().edge_asr_error).result().decode()
        return result, text

    result, text = in_child(run)
    assert result == -1
    assert text == "out of memory; use smaller chunks" or "weights are not loaded" in text


class Mallinfo(ctypes.Structure):
    _fields_ = tuple((f"field_{i}", ctypes.c_size_t) for i in range(10))


def allocated_bytes() -> int:
    """Of all threads, as the C library counts."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Mallinfo
    found = mallinfo()
    return int(found.field_7 + found.field_4)  # of its heaps, and mapped


def test_what_one_large_call_took_is_given_back(kernels: list[str]) -> None:
    maker = Maker(np.random.default_rng(0))
    bins, channels, many = 80, 32, 500
    weights = load(pack_file([maker.subsampling(bins, channels, 8)]))
    small, large = maker.vector(1, 7, bins), maker.vector(1, 4 * many + 3, bins)
    rows_bytes = 4 * many * ((bins - 1) // 2 - 1) // 2 * channels

    def took_and_kept() -> tuple[int, int]:
        weights.run(0, small)
        before = allocated_bytes()
        weights.run(0, large)
        took = allocated_bytes() - before
        for _ in range(600):
            weights.run(0, small)
        return took, allocated_bytes() - before

    # In a thread of its own, whose buffers no other test has made larger.
    with ThreadPoolExecutor(1) as pool:
        took, kept = pool.submit(took_and_kept).result()
    assert took > rows_bytes
    assert kept < rows_bytes / 8


def test_what_a_thread_took_ends_with_it(kernels: list[str]) -> None:
    maker = Maker(np.random.default_rng(0))
    weights, large = load(pack_file([maker.subsampling(80, 32, 8)])), maker.vector(1, 2000, 80)

    def run() -> int:
        weights.run(0, large)
        return allocated_bytes()

    before, threads = allocated_bytes(), len(os.listdir("/proc/self/task"))
    with ThreadPoolExecutor(1) as pool:
        took = pool.submit(run).result() - before
    while len(os.listdir("/proc/self/task")) > threads:
        time.sleep(0.01)  # Python's part of it ends first
    assert took > 1 << 20
    assert allocated_bytes() - before < took / 4
