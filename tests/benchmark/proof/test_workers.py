"""Which mutant a seed is; that workers work is tested with the command."""

from __future__ import annotations

from benchmark.proof.bench import NAMES
from benchmark.proof.workers import place_of


def test_the_mutants_of_a_program_are_numbered_without_holes() -> None:
    numbers: dict[str, list[int]] = {name: [] for name in NAMES}
    for seed in range(5 * len(NAMES)):
        name, number = place_of(seed)
        numbers[name].append(number)
    for name, found in numbers.items():
        assert found == list(range(5 * NAMES.count(name)))
