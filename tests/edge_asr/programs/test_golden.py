"""The golden vector refuses a program that computes something else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr.backends import Encoder, EncoderStep, open_encoder
from edge_asr.backends.state import State
from edge_asr.errors import PackageError
from edge_asr.package.files import GOLDEN, PARITY, Package
from edge_asr.programs.golden import check_golden, is_near
from edge_asr.streams.recognizer import load
from tests.tiny import (
    BOUNDS,
    ENCODER,
    Samples,
    tiny_onnx,
    write_tiny_package,
)


def encoder_of(package: Package) -> Encoder:
    return open_encoder("onnx", package.read(package.program("encoder", "onnx").file), ENCODER)


def refused(package: Package, encoder: Encoder, steps: int | None = 2) -> str:
    with pytest.raises(PackageError) as caught:
        check_golden(package, encoder, package.manifest.programs[0], steps)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Changed:
    """An encoder whose results are changed on their way."""

    def __init__(self, encoder: Encoder, change: Any) -> None:
        self.encoder, self.change = encoder, change

    def step(self, feats: Samples, offset: int, state: State) -> EncoderStep:
        result = self.encoder.step(feats, offset, state)
        log_probs, next_state = self.change(result.log_probs.copy(), result.state)
        return EncoderStep(result.encoder_out, log_probs, next_state)


def with_golden(directory: Path, **changes: Any) -> Package:
    """A package with other arrays in its golden.npz; None takes one away."""
    original = write_tiny_package(directory / "original").golden()
    arrays = {n: array for n, array in (original | changes).items() if array is not None}
    data = io.BytesIO()
    np.savez(data, **arrays)
    return write_tiny_package(directory / "changed", files={GOLDEN: data.getvalue()})


def test_the_program_itself_passes(tiny_package: Package) -> None:
    encoder, program = encoder_of(tiny_package), tiny_package.manifest.programs[0]
    quick = check_golden(tiny_package, encoder, program)
    assert (quick.frames, quick.text, quick.max_abs) == (32, None, 0.0)
    whole = check_golden(tiny_package, encoder, program, steps=None)
    assert whole.text == "one twos onety two"
    assert whole.frames == len(tiny_package.golden()["log_probs_fp32"]) > quick.frames
    assert whole.bound == tiny_package.parity[program.file]["golden_max_abs"]


def test_a_wrong_program_with_right_checksums_is_refused(tmp_path: Path) -> None:
    # One weight is another: checksums are right, loading works, the text could be wrong.
    bias = np.array([22, -100, -100, 0, 0, 0, 0], np.float32)
    changed = np.array([22.05, -100, -100, 0, 0, 0, 0], np.float32)
    assert tiny_onnx().count(bias.tobytes()) == 1
    other = tiny_onnx().replace(bias.tobytes(), changed.tobytes())
    package = write_tiny_package(tmp_path / "wrong", program=other)
    with pytest.raises(PackageError, match=r"golden log-probabilities within 0\.001"):
        load(package.root)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lp, state: (lp * np.nan, state), "differences of nan"),
        (lambda lp, state: (np.full_like(lp, -np.inf), state), "differences of inf"),
        (lambda lp, state: (lp + 0.0011, state), "differences of 0.0011"),
        (lambda lp, state: (lp, tuple(np.zeros_like(s) for s in state)), "differences of"),
        (lambda lp, state: (lp[:, :-1], state), "shapes"),
        (lambda lp, state: (lp[:, :, :-1], state), "shapes"),
        (lambda lp, state: (lp[0], state), "shapes"),
        (lambda lp, state: (lp, ()), "shapes"),
        (lambda lp, state: (lp, (state[0][0],)), "shapes"),
    ],
)
def test_an_encoder_that_gives_something_else(
    tiny_package: Package, change: Any, reason: str
) -> None:
    assert reason in refused(tiny_package, Changed(encoder_of(tiny_package), change))


def test_a_fault_behind_the_first_steps_is_seen_by_the_whole_run(tiny_package: Package) -> None:
    encoder, calls = encoder_of(tiny_package), iter(range(100))

    def late(log_probs: Samples, state: State) -> tuple[Samples, State]:
        return (log_probs if next(calls) != 3 else log_probs[:, ::-1]), state

    message = refused(tiny_package, Changed(encoder, late), steps=None)
    assert "difference" in message


def test_the_text_is_compared(tmp_path: Path) -> None:
    package = with_golden(tmp_path, text_fp32=np.array("one two"))
    check_golden(package, encoder_of(package), package.manifest.programs[0])
    message = refused(package, encoder_of(package), steps=None)
    assert "'one two'" in message and "'one twos onety two'" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": None},
        {"log_probs_fp32": None},
        {"text_fp32": None},
        {"samples": np.zeros(0, np.float32)},
        {"samples": np.zeros((100, 2), np.float32)},
        {"samples": np.zeros(100, np.float64)},
        {"samples": np.full(16000, np.nan, np.float32)},
        {"samples": np.full(16000, 1e30, np.float32)},
        {"log_probs_fp32": np.zeros((99, 6), np.float32)},
        {"log_probs_fp32": np.zeros((99, 7), np.float64)},
        {"log_probs_fp32": np.float32(0)},
        {"log_probs_fp32": np.zeros((0, 7), np.float32)},
        {"log_probs_fp32": np.full((99, 7), np.nan, np.float32)},
        {"log_probs_fp32": np.full((99, 7), -np.inf, np.float32)},
    ],
    ids=range(14),
)
def test_a_bad_vector_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    package = with_golden(tmp_path, **changes)
    refused(package, encoder_of(package))


@pytest.mark.parametrize("more", [-1, 1])
def test_a_vector_of_another_length_is_refused(tmp_path: Path, more: int) -> None:
    expected = write_tiny_package(tmp_path / "good").golden()["log_probs_fp32"]
    other = expected[:-1] if more < 0 else np.concatenate([expected, expected[-1:]])
    package = with_golden(tmp_path, log_probs_fp32=other)
    assert "frames" in refused(package, encoder_of(package), steps=None)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("bound", ["", "null", "-1", "1e999", '"1"', "[]"])
def test_a_bound_that_bounds_nothing_is_refused(tmp_path: Path, name: str, bound: str) -> None:
    bounds = {other: "0.001" for other in BOUNDS} | {name: bound}
    items = ", ".join(f'"{key}": {value}' for key, value in bounds.items() if value)
    table = '{"programs": {"encoder.fp32.onnx": {%s}}}' % items  # noqa: UP031
    package = write_tiny_package(tmp_path / "unbounded", files={PARITY: table.encode()})
    assert PARITY in refused(package, encoder_of(package))


def test_a_small_error_everywhere_is_refused(tmp_path: Path) -> None:
    bounds = {"golden_max_abs": 0.5, "golden_mean_abs": 0.01}
    table = json.dumps({"programs": {"encoder.fp32.onnx": bounds}})
    package = write_tiny_package(tmp_path / "bounded", files={PARITY: table.encode()})

    calls = 0

    def once(log_probs: Samples, state: State) -> tuple[Samples, State]:
        nonlocal calls
        log_probs[0, 0, 0] += 0.4 * (calls == 0)
        calls += 1
        return log_probs, state

    program, encoder = package.manifest.programs[0], encoder_of(package)
    check_golden(package, Changed(encoder, once), program)
    message = refused(package, Changed(encoder, lambda p, state: (p + np.float32(0.1), state)))
    assert "0.01 in the mean" in message


def test_texts_may_differ_where_units_are_equally_probable() -> None:
    expected = np.log(np.array([[0.5, 0.3, 0.2], [0.4, 0.39, 0.21]], np.float32))
    near, wrong = expected.copy(), expected.copy()
    near[1, 1] = expected[1, 0] + 0.001
    wrong[0, 1] = expected[0, 0] + 0.001
    assert is_near(expected, expected, 0.0) and is_near(near, expected, 0.1)
    assert not is_near(wrong, expected, 0.1) and not is_near(near, expected, 0.01)
