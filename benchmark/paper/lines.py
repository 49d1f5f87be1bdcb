"""How the orchestrator and its workers talk: one JSON object per line, one answer per request.

A worker is a process that has loaded one variant and waits. It answers on a copy of its standard
output and sends everything that libraries print to standard error, so that no line is mistaken.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_asr.errors import EdgeAsrError
from edge_asr.machine import python_environment

Request = dict[str, Any]
Answer = dict[str, Any]
Handler = Callable[[Request], Answer]


class WorkerError(EdgeAsrError):
    """A worker that ended, or answered that it cannot do what was asked."""


def serve(load: Callable[[], tuple[Answer, Mapping[str, Handler]]]) -> int:
    """The worker's side: load, say so, answer until standard input ends.

    ``load`` gives what to tell about loading and a handler for each task. An exception of a
    handler is an answer, ``{"error": ...}``; one of ``load`` is too, and ends the process.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)

        def answer(content: Answer) -> None:
            answers.write(json.dumps(content) + "\n")
            answers.flush()

        try:
            loaded, handlers = load()
        except Exception as error:
            answer({"error": _line(error)})
            return 1
        answer(loaded)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer(handlers[request["task"]](request))
            except Exception as error:
                answer({"error": _line(error)})
    return 0


def timed(run: Callable[[], object], count: int) -> list[float]:
    """Seconds that each of ``count`` runs takes."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


class Worker:
    """The orchestrator's side of one worker, in a process of its own."""

    def __init__(self, command: Sequence[str], threads: int) -> None:
        """Start it and wait until it has loaded.

        Raises:
            WorkerError: it did not.
        """
        # Libraries read these before main() runs; a second pool would steal the cores.
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=python_environment() | limits,
            text=True,
        )
        try:
            self.loaded = self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, task: str, **arguments: Any) -> Answer:
        """One task, done.

        Raises:
            WorkerError: it cannot be done; the worker may have ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"task": task, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError(f"the worker ended with {self._process.wait()}") from error
        return self._answer()

    def close(self) -> None:
        """Let it end."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"the worker ended with {self._process.wait()}; see its messages")
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
