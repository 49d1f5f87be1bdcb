"""Forks while calls are under way: the forked process waits for no lock that its parent holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import pytest

from edge_asr.backends import Encoder, calls, open_encoder
from edge_asr.backends.calls import library_call
from edge_asr.backends.state import zero_state
from edge_asr.errors import BackendError
from tests.child import in_child
from tests.edge_asr.native.programs import sums
from tests.tiny import ENCODER, tiny_onnx


@contextmanager
def call_under_way(lock: threading.Lock, seconds: float) -> Iterator[None]:
    """Another thread is in a call that holds a lock."""
    inside = threading.Event()

    def call() -> None:
        with library_call(), lock:
            inside.set()
            time.sleep(seconds)

    thread = threading.Thread(target=call)
    thread.start()
    assert inside.wait(60)
    yield
    thread.join()


def test_a_fork_waits_for_the_calls_of_other_threads() -> None:
    lock = threading.Lock()
    with call_under_way(lock, seconds=0.2):
        assert in_child(lambda: lock.acquire(timeout=0))
    with library_call():
        pass  # the gate is open again


def test_a_call_that_does_not_end_delays_a_fork_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_LONGEST_WAIT_S", 0.01)
    lock = threading.Lock()
    with call_under_way(lock, seconds=0.5):
        assert not in_child(lambda: lock.acquire(timeout=0))


def test_a_fork_within_a_call_of_its_own_thread() -> None:
    def work() -> bool:
        with library_call():
            return True

    with library_call():
        assert in_child(work)
        with library_call():  # and a call within a call
            assert in_child(lambda: in_child(work))
    assert in_child(work)


def test_calls_wait_for_a_fork_and_then_go_on() -> None:
    calls._gate.close()
    with ThreadPoolExecutor(1) as pool:
        try:
            waiting = pool.submit(lambda: calls._gate.enter(threading.get_ident()))
            time.sleep(0.05)
            assert not waiting.done()
        finally:
            calls._gate.open()
        waiting.result(timeout=60)
        pool.submit(lambda: calls._gate.leave(threading.get_ident())).result(timeout=60)
    assert in_child(lambda: True)


def step_bits(encoder: Encoder) -> bytes:
    feats = np.ones((1, ENCODER.input_frames(4), 16), np.float32)
    return encoder.step(feats, 0, zero_state(ENCODER)).log_probs.tobytes()


@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_forks_while_streams_run(backend: str) -> None:
    if backend == "executorch" and find_spec("edge_asr.native._executorch") is None:
        pytest.skip("not built; run: make native")
    program = tiny_onnx() if backend == "onnx" else sums()
    encoder, ended = open_encoder(backend, program, ENCODER), threading.Event()
    expected = step_bits(encoder)

    def stream() -> bool:
        right = True
        while not ended.is_set():
            right &= step_bits(encoder) == expected
        return right

    def reopened() -> bool:
        return step_bits(open_encoder(backend, program, ENCODER)) == expected

    with ThreadPoolExecutor(3) as pool:
        streams = [pool.submit(stream) for _ in range(3)]
        try:
            for _ in range(10):
                assert in_child(lambda: step_bits(encoder) == expected)
                assert in_child(reopened)
        finally:
            ended.set()
    assert all(stream.result() for stream in streams)


def test_a_call_without_memory_to_begin_with(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = open_encoder("onnx", tiny_onnx(), ENCODER)
    monkeypatch.setattr(calls, "_STEP_BYTES", 1 << 60)
    monkeypatch.setattr(calls, "_LOAD_BYTES", 1 << 60)
    with pytest.raises(
        BackendError, match="onnxruntime failed in a step: out of memory: 1099511627776 MB"
    ):
        step_bits(encoder)
    with pytest.raises(MemoryError):
        open_encoder("onnx", tiny_onnx(), ENCODER)
    monkeypatch.undo()
    step_bits(encoder)
