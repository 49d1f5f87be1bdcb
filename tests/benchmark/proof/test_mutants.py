"""Mutants: of all kinds in turn, the same for the same seed, and never the program itself."""

from __future__ import annotations

from benchmark.proof.mutants import Target
from tests.benchmark.proof.programs import tiny_decoder, tiny_weights


def test_every_kind_in_turn_and_the_same_again() -> None:
    target = Target("decoder portable int8", tiny_decoder(), None)
    kinds = target.kinds
    assert "another unit for sos" in kinds and "an expert is zero" in kinds
    assert [target.mutant(n, n).kind for n in range(3)] == kinds[:3]
    assert target.mutant(4, 9) == target.mutant(4, 9)


def test_a_native_program_has_bugs_of_its_weights_and_of_its_operators() -> None:
    target = Target("encoder native int8", tiny_decoder(), tiny_weights())
    mutants = [target.mutant(n, n) for n in range(len(target.kinds))]
    assert any(mutant.weights is not None for mutant in mutants)
    assert any(mutant.program is not None for mutant in mutants)
    for mutant in mutants:
        assert (mutant.weights is None) != (mutant.program is None)
        assert mutant.weights != tiny_weights() and mutant.program != tiny_decoder()
