"""A worker answers each line with one line, whatever else it or a library prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from benchmark.paper.lines import Worker, WorkerError

PROGRAM = """
import os, sys
from benchmark.paper.lines import serve

def load():
    print("by a library that is loaded")
    if "--fail" in sys.argv:
        raise ValueError("no such\\nmodel")
    def double(request):
        print("by Python"); os.write(1, b"by C\\n")
        return {"double": 2 * request["number"], "threads": os.environ["OMP_NUM_THREADS"]}
    def end(request):
        os._exit(3)
    return {"load_s": 1.0}, {"double": double, "end": end}

sys.exit(serve(load))
"""


def start(*arguments: str, threads: int = 1) -> Worker:
    return Worker([sys.executable, "-c", PROGRAM, *arguments], threads)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = start(threads=2)
    yield worker
    worker.close()


def test_answers_and_goes_on_after_an_error(worker: Worker) -> None:
    assert worker.loaded == {"load_s": 1.0}
    assert worker.ask("double", number=4) == {"double": 8, "threads": "2"}
    with pytest.raises(WorkerError, match="KeyError: 'number'"):
        worker.ask("double")
    with pytest.raises(WorkerError, match="KeyError: 'unknown'"):
        worker.ask("unknown")
    assert worker.ask("double", number=5)["double"] == 10


def test_says_that_the_worker_ended(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="ended with 3"):
        worker.ask("end")
    with pytest.raises(WorkerError, match="ended with 3"):
        worker.ask("double", number=1)


def test_loading_that_fails_is_one_line() -> None:
    with pytest.raises(WorkerError, match=r"^ValueError: no such model$"):
        start("--fail")


def test_a_program_that_never_answers_is_named() -> None:
    with pytest.raises(WorkerError, match="ended with 5"):
        Worker([sys.executable, "-c", "raise SystemExit(5)"], 1)
