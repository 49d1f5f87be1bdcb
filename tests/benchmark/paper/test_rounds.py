"""Workers take turns; who fails is left out of that task and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.paper.lines import Answer, WorkerError
from benchmark.paper.rounds import SECOND, STREAM, WHOLE, Figure, ratio_of, run_group
from benchmark.paper.variants import Counted, Group, Variant

A, B, C = (Variant(model) for model in ("a", "b", "c"))
GROUP = Group("three", (A, B, C))


class FakeWorker:
    """Takes a time that grows with each call; tells a common log who was asked for what."""

    def __init__(self, variant: Variant, log: list[str], seconds: float) -> None:
        self.loaded: Answer = {"load_s": 0.5}
        self.variant, self.log, self.seconds = variant, log, seconds
        self.closed = False
        self.fails_from: dict[str, int] = {}

    def ask(self, task: str, **arguments: Any) -> Answer:
        self.log.append(f"{self.variant.model} {task}")
        asked = self.log.count(f"{self.variant.model} {task}")
        if asked >= self.fails_from.get(task, 1 << 30):
            raise WorkerError("cannot")
        if task == "memory":
            return {"peak_bytes": 7}
        if task == "probe":
            return {"log_probs": [[0.0]]}
        counted = {"experts_per_call": 3.0, "experts_per_frame": 2.0} if task == "whole" else {}
        return {"times_s": [self.seconds * asked] * arguments["count"], **counted}

    def close(self) -> None:
        self.closed = True


def workers(log: list[str]) -> dict[str, FakeWorker]:
    return {v.key: FakeWorker(v, log, s) for v, s in ((A, 1.0), (B, 2.0), (C, 3.0))}


def test_every_round_begins_with_another() -> None:
    log: list[str] = []
    made = workers(log)
    between: list[int] = []
    result = run_group(
        GROUP, lambda v: made[v.key], [STREAM], 3, between=lambda: between.append(len(log))
    )
    order = [entry.split()[0] for entry in log if "stream" in entry]
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert between == [0, 3, 6]
    assert result.figures[A.key, "stream"].rounds == tuple(
        (float(n),) * STREAM.count for n in (1, 2, 3)
    )
    assert result.loads[A.key] == {"load_s": 0.5, "peak_bytes": 7, "probe": [[0.0]]}
    assert all(worker.closed for worker in made.values())
    # The machine slows down threefold in these rounds, and the ratio does not.
    ratio = result.ratio(B, A, "stream")
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_a_failure_leaves_out_that_task_only() -> None:
    made = workers([])
    made[B.key].fails_from = {"second": 2}
    result = run_group(GROUP, lambda v: made[v.key], [STREAM, SECOND], 3)
    assert result.failures == {(B.key, "second"): "cannot"}
    assert (B.key, "second") not in result.figures
    assert len(result.figures[B.key, "stream"].rounds) == 3
    assert result.ratio(B, A, "second") is None
    assert result.ratio(C, A, "second") is not None


def test_what_does_not_load_is_left_out() -> None:
    made = workers([])

    def start(variant: Variant) -> FakeWorker:
        if variant is C:
            raise WorkerError("no such program")
        return made[variant.key]

    result = run_group(GROUP, start, [STREAM], 1)
    assert result.failures == {(C.key, "load"): "no such program"}
    assert {key for key, _ in result.figures} == {A.key, B.key}


def test_workers_are_closed_when_something_breaks() -> None:
    made = workers([])

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_group(GROUP, lambda v: made[v.key], [STREAM], 1, between=interrupt)
    assert all(worker.closed for worker in made.values())


def test_keeps_what_expert_layers_counted() -> None:
    made = workers([])
    result = run_group(GROUP, lambda v: made[v.key], [STREAM, WHOLE], 1)
    assert result.figures[A.key, "whole"].counted == Counted(3.0, 2.0)
    assert result.figures[A.key, "stream"].counted is None


def test_figures_are_of_all_calls_and_ratios_of_rounds() -> None:
    ours = Figure(((1.0, 3.0, 2.0), (4.0, 5.0, 6.0)))
    theirs = Figure(((4.0, 4.0, 4.0), (10.0, 0.1, 10.0)))
    assert (ours.median_s, ours.min_s) == (3.5, 1.0)
    ratio = ratio_of(ours, theirs)
    assert (ratio.median, ratio.low, ratio.high) == (0.5, 0.5, 0.5)
