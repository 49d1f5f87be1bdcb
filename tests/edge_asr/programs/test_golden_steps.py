"""Golden steps accept integers that moved, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edge_asr.backends import open_encoder
from edge_asr.errors import PackageError
from edge_asr.programs.golden_steps import (
    PROJECTIONS,
    RESOLUTION,
    GoldenSteps,
    complaint,
    deviation,
    read_steps,
    sketch,
)
from tests.tiny import ENCODER, tiny_onnx, tiny_steps

CHAINS, STEPS, LAYERS, EXPERTS = 12, 2, 3, 4
STAGES = LAYERS + 2
FLOOR, CAP = 1e-4, 0.3


def golden() -> GoldenSteps:
    """One expert layer for each layer, which shows in the stage after it; each step visits one."""
    size = (CHAINS, STEPS)
    experts = np.arange(CHAINS * STEPS * LAYERS).reshape(*size, LAYERS, 1) % EXPERTS
    return GoldenSteps(
        np.zeros((*size, 7, 16), np.float32),
        np.ones((*size, STAGES, PROJECTIONS), np.float32),
        np.full((*size, STAGES), FLOOR, np.float32),
        np.full(STAGES, CAP, np.float32),
        experts,
        np.arange(1, LAYERS + 1),
    )


def good() -> Any:
    return np.full((CHAINS, STEPS, STAGES), 1e-6, np.float32)


def test_last_bits_are_no_complaint() -> None:
    assert complaint(good(), golden()) is None


def test_integers_that_moved_in_a_few_steps_are_none() -> None:
    found = good()
    found[7, 1, 2:] = 0.01
    found[9, :, 3:] = 0.01
    assert complaint(found, golden()) is None


@pytest.mark.parametrize("wrong", [CAP * 1.01, np.nan, np.inf])
def test_more_than_an_integer_can_do_is_refused(wrong: float) -> None:
    found = good()
    found[7, 1, 3] = wrong
    assert "encoder_out is" in (complaint(found, golden()) or "")


def test_a_layer_that_is_off_in_most_steps_is_named() -> None:
    found = good()
    found[:, :, 1:] = 0.01
    assert "most from layer 1 on" in (complaint(found, golden()) or "")


def test_an_expert_that_is_off_whenever_it_is_visited_is_named() -> None:
    found, steps = good(), golden()
    experts = np.where(steps.experts == 3, 0, steps.experts)
    experts[7::2, 1, 1] = 3
    steps = dataclasses.replace(steps, experts=experts)
    found[7::2, 1, 2:] = 2 * FLOOR
    assert (
        complaint(found, steps) == "expert 3 of expert layer 1: 3 of 3 steps that visit it differ"
    )
    found[9, 1, 2:] = FLOOR
    assert complaint(found, steps) is None


def test_one_number_of_any_layer_shows_in_a_sketch() -> None:
    rng = np.random.default_rng(0)
    state = tuple(rng.standard_normal((LAYERS, 1, 8, 5)).astype(np.float32) for _ in range(2))
    outputs = [rng.standard_normal((1, 1, size)).astype(np.float32) for size in (6, 9)]
    before = sketch(*outputs, state)
    assert before.shape == (1, STAGES, 2 * PROJECTIONS)
    state[1][1, 0, 7, 4] += 0.1
    off = deviation(sketch(*outputs, state), before)[0]
    assert off[1] > 0.01 and not off[[0, 2, 3, 4]].any()
    outputs[1][0, 0, 8] += 0.1
    assert deviation(sketch(*outputs, state), before)[0, -1] > 0.01


def test_steps_are_consecutive_frames() -> None:
    arrays = tiny_steps(open_encoder("onnx", tiny_onnx(), ENCODER))
    feats = read_steps(arrays, "fp32", ENCODER, "golden.npz").feats
    shift = ENCODER.subsampling_rate
    assert feats.shape[2] == ENCODER.input_frames(1) and feats.dtype == np.float32
    np.testing.assert_array_equal(feats[:, 0, shift:], feats[:, 1, :-shift])
    np.testing.assert_array_equal(feats[0, 0] / RESOLUTION, arrays["steps_frames_fp32"][0, :7])


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("frames", None, "holds no 'steps_frames_fp32'"),
        ("expected", lambda a: a[:, :, 1:], "do not fit"),
        ("bound", lambda a: a * np.float32(np.nan), "do not fit"),
        ("frames", lambda a: np.concatenate([a, a], 1), "do not fit"),
        ("frames", lambda a: a[:, :3], "do not fit"),
        ("frames", lambda a: a.astype(np.float32), "do not fit"),
        ("shown", lambda a: np.array([9]), "do not fit"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, change: Any, word: str) -> None:
    arrays = tiny_steps(open_encoder("onnx", tiny_onnx(), ENCODER))
    read_steps(arrays, "fp32", ENCODER, "golden.npz")
    key = f"steps_{name}_fp32"
    array = arrays.pop(key)
    if change is not None:
        arrays[key] = change(array)
    with pytest.raises(PackageError, match=word) as caught:
        read_steps(arrays, "fp32", ENCODER, "golden.npz")
    assert "export the package again" in str(caught.value)
