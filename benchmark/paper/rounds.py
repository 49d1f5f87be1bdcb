"""Runs workers in turns, so that a machine that slows down slows all of them alike.

In a round every worker does every task once; the next round begins with another worker. Ratios are
of two workers within a round, and what is reported is the median of the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from benchmark.paper.lines import Answer, WorkerError
from benchmark.paper.variants import Counted, Group, Variant
from benchmark.paper.workload import CHUNK_FRAMES, LEFT_FRAMES, SWEEP_FRAMES

Say = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """What a worker is asked for in a round: ``count`` calls."""

    name: str
    kind: str  # stream, whole or second
    count: int
    chunk: int = CHUNK_FRAMES

    @property
    def arguments(self) -> dict[str, Any]:
        """What goes with the request."""
        chunk = {"chunk": self.chunk} if self.kind == "stream" else {}
        return {"count": self.count, **chunk}


STREAM = Task("stream", "stream", 6)
WHOLE = Task("whole", "whole", 1)
SECOND = Task("second", "second", 2)
TASKS = (STREAM, WHOLE, SECOND)
SWEEP = tuple(Task(f"chunk {n}", "stream", 4 if n <= LEFT_FRAMES else 1, n) for n in SWEEP_FRAMES)


class Asked(Protocol):
    """A worker, as ``benchmark.paper.lines`` has it."""

    loaded: Answer

    def ask(self, task: str, **arguments: Any) -> Answer: ...
    def close(self) -> None: ...


Start = Callable[[Variant], Asked]


@dataclass(frozen=True)
class Figure:
    """Seconds of one task of one variant: the calls of each round; and what its expert layers did,
    if it counts that."""

    rounds: tuple[tuple[float, ...], ...]
    counted: Counted | None = None

    @property
    def median_s(self) -> float:
        """Of all calls."""
        return median(seconds for calls in self.rounds for seconds in calls)

    @property
    def min_s(self) -> float:
        """The fastest call."""
        return min(seconds for calls in self.rounds for seconds in calls)


@dataclass(frozen=True)
class Ratio:
    """How many times the time of another variant: the median of the rounds, and their range."""

    median: float
    low: float
    high: float


@dataclass
class GroupResult:
    """What a group's workers did. ``failures`` says which variant could not do what, and why."""

    group: Group
    figures: dict[tuple[str, str], Figure] = field(default_factory=dict)  # by variant and task
    loads: dict[str, Answer] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def ratio(self, variant: Variant, other: Variant, task: str) -> Ratio | None:
        """``variant`` over ``other``, or None where one of them was not measured."""
        ours, theirs = (self.figures.get((v.key, task)) for v in (variant, other))
        if ours is None or theirs is None:
            return None
        return ratio_of(ours, theirs)


def ratio_of(figure: Figure, other: Figure) -> Ratio:
    """The medians of each round, divided."""
    pairs = zip(figure.rounds, other.rounds, strict=True)
    ratios = [median(ours) / median(theirs) for ours, theirs in pairs]
    return Ratio(median(ratios), min(ratios), max(ratios))


class _Running:
    """The workers of a group, and what they have done so far."""

    def __init__(self, group: Group) -> None:
        self.result = GroupResult(group)
        self.workers: dict[str, Asked] = {}
        self._times: dict[tuple[str, str], list[tuple[float, ...]]] = {}
        self._counted: dict[tuple[str, str], Counted] = {}

    def load(self, variant: Variant, start: Start, say: Say) -> None:
        """Start a worker; without it, if it fails."""
        say(f"loading {variant.key}")
        try:
            self.workers[variant.key] = start(variant)
            self.result.loads[variant.key] = dict(self.workers[variant.key].loaded)
        except WorkerError as error:
            self.result.failures[variant.key, "load"] = str(error)
            say(f"{variant.key} is left out: {error}")

    def ask(self, key: str, task: Task) -> None:
        """One worker's turn at a task, unless it has failed at it."""
        name = key, task.name
        if name in self.result.failures:
            return
        try:
            answer = self.workers[key].ask(task.kind, **task.arguments)
        except WorkerError as error:
            self.result.failures[name] = str(error)
            self._times.pop(name, None)
            return
        self._times.setdefault(name, []).append(tuple(answer["times_s"]))
        if "experts_per_call" in answer:
            self._counted[name] = Counted(answer["experts_per_call"], answer["experts_per_frame"])

    def ask_memory(self, key: str) -> None:
        """The memory of a worker, and its outputs for a fixed input."""
        try:
            self.result.loads[key] |= self.workers[key].ask("memory")
            self.result.loads[key]["probe"] = self.workers[key].ask("probe")["log_probs"]
        except WorkerError as error:
            self.result.failures[key, "memory"] = str(error)

    def finish(self) -> GroupResult:
        """Figures of the times."""
        self.result.figures = {
            name: Figure(tuple(calls), self._counted.get(name))
            for name, calls in self._times.items()
        }
        return self.result


def run_group(
    group: Group,
    start: Start,
    tasks: Sequence[Task],
    rounds: int,
    say: Say = lambda line: None,
    between: Callable[[], None] = lambda: None,
) -> GroupResult:
    """Load every variant, run the rounds, ask for the memory.

    A variant that fails at a task is left out of that task from then on, and its times of it are
    thrown away, so that rounds stay comparable.

    Args:
        between: called once in every round while all workers wait.
    """
    running = _Running(group)
    try:
        for variant in group.variants:
            running.load(variant, start, say)
        keys = list(running.workers)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            between()
            turn = number % max(len(keys), 1)
            for task in tasks:
                for key in keys[turn:] + keys[:turn]:
                    running.ask(key, task)
        for key in keys:
            running.ask_memory(key)
    finally:
        for worker in running.workers.values():
            worker.close()
    return running.finish()
