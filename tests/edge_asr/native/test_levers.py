"""Experts, the levers that use fewer of them, and the counters, beside a model in numpy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge_asr.errors import UsageError
from edge_asr.native.library import Counters, Levers, NativeWeights, library
from tests.edge_asr.native.layers import makers, run_on
from tests.edge_asr.native.weights_file import RELU, Floats, Maker, Matrix, load, pack_file

CLEAR = 1e-4  # what decides a choice must differ by so much, or rounding may decide it
Choice = list[tuple[int, float]]  # experts with their gates


@st.composite
def levers(draw: st.DrawFn) -> Levers:
    return Levers(
        draw(st.integers(0, 4)),
        draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9])),
        draw(st.integers(0, 9)),
    )


def choose(logits: Floats, k: int, min_weight: float, allowed: list[int]) -> Choice:
    """The experts of one row (E,), best first."""
    order = sorted(allowed, key=lambda expert: (-logits[expert], expert))
    for better, worse in itertools.pairwise(order[: k + 1]):
        assume(logits[better] - logits[worse] > CLEAR)
    order = order[:k]
    gates = np.exp(logits[order] - logits[order].max())
    gates /= gates.sum()
    if min_weight > 0:
        assume((np.abs(gates - min_weight) > CLEAR).all())
        kept = [i for i in range(len(order)) if i == 0 or gates[i] >= min_weight]
        order, gates = [order[i] for i in kept], gates[kept] / gates[kept].sum()
    return list(zip(order, gates, strict=True))


def choose_all(logits: Floats, top_k: int, levers: Levers) -> list[Choice]:
    """Of all rows (T, E)."""
    k = min(levers.top_k, top_k) if levers.top_k else top_k
    experts = list(range(logits.shape[1]))
    chosen = [choose(row, k, levers.min_weight, experts) for row in logits]
    if 0 < levers.max_experts < len(experts):
        total = [sum(dict(row).get(expert, 0.0) for row in chosen) for expert in experts]
        order = sorted(experts, key=lambda expert: (-total[expert], expert))
        edge = total[order[levers.max_experts - 1]] - total[order[levers.max_experts]]
        assume(edge > CLEAR or edge == total[order[levers.max_experts]] == 0.0)
        kept = sorted(order[: levers.max_experts])
        chosen = [choose(row, k, levers.min_weight, kept) for row in logits]
    return chosen


def expected(
    x: Floats, chosen: list[Choice], experts: list[tuple[Matrix, Matrix]]
) -> tuple[Floats, Counters]:
    """What the layer gives for x (T, D), and what it counts."""
    results = [second.apply(np.maximum(first.apply(x), 0)) for first, second in experts]
    y = np.zeros_like(results[0])
    for row, choice in enumerate(chosen):
        for expert, gate in sorted(choice):
            y[row] += np.float32(gate) * results[expert][row]
    touched = {expert for choice in chosen for expert, _ in choice}
    return y, Counters(1, len(x), sum(map(len, chosen)), len(touched))


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(makers(), st.integers(1, 8), st.integers(1, 3), st.integers(1, 20), levers())
def test_experts_are_chosen_weighed_and_counted_as_told(
    kernels: list[str], maker: Maker, experts: int, top_k: int, rows: int, levers: Levers
) -> None:
    top_k = min(top_k, experts)
    layer, router, pairs = maker.feed_forward(48, 40, 33, RELU, experts, top_k)
    x = maker.vector(rows, 48)
    chosen = choose_all(x.astype(np.float64) @ router.T.astype(np.float64), top_k, levers)
    y, counters = expected(x, chosen, pairs)
    weights = load(pack_file([layer]))
    weights.set_levers(levers)
    for kernel in kernels:
        (found,) = run_on(kernel, weights, [x], 1)
        np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4, err_msg=kernel)
        assert weights.counters() == counters, kernel
        assert weights.counters() == Counters(0, 0, 0, 0)


def moe() -> NativeWeights:
    maker = Maker(np.random.default_rng(1))
    return load(pack_file([maker.feed_forward(8, 8, 8, RELU, 4, 2)[0]]))


def test_of_equal_experts_the_first_are_taken(kernels: list[str]) -> None:
    maker = Maker(np.random.default_rng(0))
    layer, _, pairs = maker.feed_forward(8, 16, 8, RELU, 4, 2)
    layer.parts[0] = np.zeros((4, 8), np.float32).tobytes()
    weights, x = load(pack_file([layer])), maker.vector(3, 8)
    y, _ = expected(x, [[(0, 0.5), (1, 0.5)]] * 3, pairs)
    for kernel in kernels:
        np.testing.assert_allclose(run_on(kernel, weights, [x], 1)[0], y, rtol=1e-5, atol=1e-5)


def test_levers_can_be_taken_back(kernels: list[str]) -> None:
    weights, x = moe(), Maker(np.random.default_rng(2)).vector(6, 8)
    (before,) = run_on(kernels[0], weights, [x], 1)
    weights.set_levers(Levers(1, 0.3, 1))
    (less,) = run_on(kernels[0], weights, [x], 1)
    weights.set_levers(Levers())
    (after,) = run_on(kernels[0], weights, [x], 1)
    assert not np.array_equal(before, less)
    np.testing.assert_array_equal(before, after)


def test_levers_are_as_they_were_after_a_check(kernels: list[str]) -> None:
    weights, x = moe(), Maker(np.random.default_rng(2)).vector(6, 8)
    (trained,) = run_on(kernels[0], weights, [x], 1)
    weights.set_levers(Levers(1, 0.3, 1))
    (less,) = run_on(kernels[0], weights, [x], 1)
    with pytest.raises(UsageError, match="it fails"), weights.as_trained():
        np.testing.assert_array_equal(run_on(kernels[0], weights, [x], 1)[0], trained)
        raise UsageError("it fails")
    np.testing.assert_array_equal(run_on(kernels[0], weights, [x], 1)[0], less)


@pytest.mark.parametrize(
    "wrong",
    [(-1, 0.0, 0), (0, -0.1, 0), (0, 1.0, 0), (0, float("nan"), 0), (0, 0.0, -1)],
)
def test_levers_out_of_their_range_are_refused(
    kernels: list[str], wrong: tuple[int, float, int]
) -> None:
    weights, x = moe(), Maker(np.random.default_rng(2)).vector(6, 8)
    (before,) = run_on(kernels[0], weights, [x], 1)
    with pytest.raises(UsageError, match="allowed are 0 to"):
        Levers(*wrong)
    assert library().edge_asr_set_levers(weights.number, *wrong) != 0
    assert b"are 0 or more" in library().edge_asr_error()
    np.testing.assert_array_equal(run_on(kernels[0], weights, [x], 1)[0], before)


@pytest.mark.parametrize(
    "wrong",
    [(2.5, 0.0, 0), (1 << 32, 0.0, 0), (True, 0.0, 0), (0, "0.3", 0), (0, 1 - 1e-9, 0), (0, 0, 65)],
)
def test_levers_of_another_kind_are_refused(wrong: tuple[Any, Any, Any]) -> None:
    with pytest.raises(UsageError, match="allowed are"):
        Levers(*wrong)


def test_dense_layers_count_nothing(kernels: list[str]) -> None:
    maker = Maker(np.random.default_rng(0))
    weights = load(pack_file([maker.feed_forward(8, 8, 8, RELU, 0, 0)[0]]))
    run_on(kernels[0], weights, [maker.vector(5, 8)], 1)
    assert weights.counters() == Counters(0, 0, 0, 0)
