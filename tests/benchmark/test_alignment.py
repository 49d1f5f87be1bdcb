"""benchmark.alignment against all paths there are."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.alignment import align, score
from edge_asr.package.units import Units

UNITS = Units(("<blank>", "▁", "A", "B", "▁A", "AB"))
TEXTS = ("A", "AB", "A B", "AA", "A A", "B")


def collapsed(path: tuple[int, ...]) -> str:
    """What a CTC path writes, "▁" for spaces."""
    return "".join(UNITS.symbols[unit] for unit, _ in itertools.groupby(path) if unit)


def best_of_all(log_probs: npt.NDArray[np.float32], text: str) -> float:
    """Over every path that writes the text in any spelling."""
    written = "".join(f"▁{word}" for word in text.split())
    return max(
        (
            float(sum(log_probs[frame, unit] for frame, unit in enumerate(path)))
            for path in itertools.product(range(len(UNITS)), repeat=len(log_probs))
            if collapsed(path) == written
        ),
        default=-np.inf,
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from(TEXTS))
def test_the_best_path_of_all(seed: int, frames: int, text: str) -> None:
    raw = np.random.default_rng(seed).normal(0, 2, (frames, len(UNITS)))
    log_probs = (raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))).astype(np.float32)
    tokens, best = align(log_probs, text, UNITS), best_of_all(log_probs, text)
    if tokens is None:
        assert best == -np.inf
        return
    assert "".join(UNITS.symbols[token.id] for token in tokens) == "".join(
        f"▁{word}" for word in text.split()
    )
    assert score(log_probs, tokens) == pytest.approx(best, abs=1e-5)
    ends = [0, *(token.end for token in tokens)]
    for token, before in zip(tokens, ends, strict=False):
        assert before <= token.start < token.end <= frames
        assert token.log_prob == log_probs[token.start : token.end, token.id].max()


@pytest.mark.parametrize(("text", "frames"), [("C", 9), ("A B A B", 3), ("A", 0)])
def test_no_path(text: str, frames: int) -> None:
    assert align(np.zeros((frames, len(UNITS)), np.float32), text, UNITS) is None


def test_nothing_said_is_blank() -> None:
    assert align(np.zeros((3, len(UNITS)), np.float32), "", UNITS) == []
