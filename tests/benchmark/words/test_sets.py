"""benchmark.words.sets: as many as there are, with bounds in their order."""

from __future__ import annotations

from benchmark.words.sets import ADULTS, DIGITS, KEYWORDS, TASKS


def test_the_sets_of_the_project() -> None:
    assert len(KEYWORDS) == 10 == len(DIGITS) and len(ADULTS) == 61
    assert all(task.aim < task.must for task in TASKS)
    assert {task.model for task in TASKS} == {"commands", "english"}
