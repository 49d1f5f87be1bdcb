"""The ExecuTorch backend, through our binding and through the package's own with torch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_asr.backends import (
    Encoder,
    FloatArray,
    IntArray,
    executorch_binding,
    open_decoder,
    open_encoder,
)
from edge_asr.backends.executorch_binding import LoadMethod, choose_binding, open_native
from edge_asr.backends.state import zero_state
from edge_asr.errors import BackendError
from edge_asr.package.manifest import EncoderSpec, TensorSpec
from tests.edge_asr.native.programs import expected_scores, expected_sums, scores, sums
from tests.tiny import DECODER, ENCODER

ROOT = Path(__file__).parents[3]
BUILT = importlib.util.find_spec("edge_asr.native._executorch") is not None
FEATS = np.random.default_rng(0).standard_normal((1, 67, 16)).astype(np.float32)


def ours() -> LoadMethod:
    if not BUILT:
        pytest.skip("not built; run: make native")
    load = choose_binding()
    assert "stock" not in load.__module__
    return load


def stock() -> LoadMethod:
    from edge_asr.backends.executorch_stock_runtime import load

    return load


@pytest.fixture(
    params=[ours, pytest.param(stock, marks=pytest.mark.slow)],  # that imports for seconds
)
def _binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    load = request.param()
    from edge_asr.backends import executorch_runtime

    monkeypatch.setattr(executorch_runtime, "_load", load)


def opened(spec: EncoderSpec = ENCODER, threads: int = 1) -> Encoder:
    return open_encoder("executorch", sums(), spec, threads)


def hypotheses(rows: int, units: int, frames: int) -> tuple[IntArray, IntArray, FloatArray]:
    rng = np.random.default_rng(rows)
    lengths = rng.integers(0, units + 1, rows)
    return rng.integers(0, 7, (rows, units)), lengths, FEATS[:, :frames, :4]


def values(state: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [array.copy() for array in state]


@pytest.mark.usefixtures("_binding")
class TestEachBinding:
    def test_a_step_is_pure(self) -> None:
        encoder = opened()
        state = zero_state(ENCODER)
        first = encoder.step(FEATS, 0, state)
        kept = values((first.encoder_out, first.log_probs, *first.state))
        second = encoder.step(FEATS, 16, first.state)
        assert not state[0].any()
        for found, copy in zip(
            (first.encoder_out, first.log_probs, *first.state), kept, strict=True
        ):
            np.testing.assert_array_equal(found, copy)
        for found, expected in zip(
            (second.encoder_out, second.log_probs, *second.state),
            expected_sums(FEATS, 16, first.state[0]),
            strict=True,
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(encoder.step(FEATS, 0, state).log_probs, first.log_probs)

    def test_a_window_of_features_may_be_a_view(self) -> None:
        encoder = opened()
        views = (
            np.concatenate([FEATS, FEATS], axis=1)[:, 67:],
            np.repeat(FEATS, 2, axis=1)[:, ::2],
        )
        whole = encoder.step(FEATS, 0, zero_state(ENCODER)).log_probs
        for view in views:
            found = encoder.step(view, 0, zero_state(ENCODER)).log_probs
            np.testing.assert_array_equal(found, whole)

    def test_encoders_with_other_threads_live_together(self) -> None:
        """A new pool under a loaded program ended the process."""
        encoders = [opened(threads=threads) for threads in (2, 1, 2, 3)]
        steps = [encoder.step(FEATS, 0, zero_state(ENCODER)) for encoder in encoders * 3]
        for step in steps:
            np.testing.assert_array_equal(step.log_probs, steps[0].log_probs)

    @pytest.mark.parametrize("cut", [0, 5, 100, 1000, -1])
    def test_a_damaged_program_is_refused(self, cut: int) -> None:
        with pytest.raises(BackendError, match="executorch refuses the program: ") as caught:
            open_encoder("executorch", sums()[:cut], ENCODER)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"state": ()}, r"numbers of inputs and outputs: expected \[2, 2\], found \[3, 3\]"),
            (
                {"state": (TensorSpec(name="last", shape=(1, 1, 5)),)},
                r"input last: expected \['float32', 1, 1, 5\], found \['float32', 1, 1, 4\]",
            ),
            (
                {"state": (TensorSpec(name="last", shape=(1, 1, 4), dtype="int64"),)},
                r"input last: expected \['int64', .*found \['float32'",
            ),
            ({"max_chunk": 65}, r"longest feats: expected \[1, 263\], found \[1, 259\]"),
        ],
    )
    def test_a_program_of_another_form_is_refused(
        self, changes: dict[str, object], reason: str
    ) -> None:
        with pytest.raises(BackendError, match=reason):
            opened(msgspec.structs.replace(ENCODER, **changes))

    def test_a_step_that_fails_is_our_error(self) -> None:
        encoder = opened()
        for wrong in (np.zeros((1, 67, 17), np.float32), np.zeros((1, 300, 16), np.float32)):
            with pytest.raises(BackendError, match="failed in a step") as caught:
                encoder.step(wrong, 0, zero_state(ENCODER))
            assert "\n" not in str(caught.value)
        assert encoder.step(FEATS, 0, zero_state(ENCODER)).log_probs.shape == (1, 16, 7)

    @pytest.mark.parametrize(
        ("rows", "units", "frames"), [(1, 1, 1), (4, 8, 32), (3, 2, 5)], ids=str
    )
    def test_a_decoder_scores(self, rows: int, units: int, frames: int) -> None:
        decoder = open_decoder("executorch", scores(), DECODER)
        given = hypotheses(rows, units, frames)
        found, expected = decoder.score(*given), expected_scores(*given)
        kept = found.left.copy()
        np.testing.assert_allclose(found.left, expected[0], rtol=1e-6)
        np.testing.assert_allclose(found.right, expected[1], rtol=1e-6)
        decoder.score(*hypotheses(2, 7, 3))
        np.testing.assert_array_equal(found.left, kept)

    def test_more_than_a_decoder_takes_is_our_error(self) -> None:
        decoder = open_decoder("executorch", scores(), DECODER)
        for sizes in ((5, 2, 3), (4, 9, 3), (2, 2, 33)):
            with pytest.raises(BackendError, match="failed in a step") as caught:
                decoder.score(*hypotheses(*sizes))
            assert "\n" not in str(caught.value)
        assert decoder.score(*hypotheses(1, 1, 1)).left.shape == (1, 2)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"max_hyps": 5}, r"largest hyps: expected \['int64', 5, 8\], found \['int64', 4, 8\]"),
            (
                {"max_units": 9},
                r"largest hyps: expected \['int64', 4, 9\], found \['int64', 4, 8\]",
            ),
            ({"max_frames": 40}, r"largest encoder_out: expected \['float32', 1, 40\]"),
        ],
    )
    def test_a_decoder_of_another_size_is_refused(
        self, changes: dict[str, object], reason: str
    ) -> None:
        with pytest.raises(BackendError, match=reason):
            open_decoder("executorch", scores(), msgspec.structs.replace(DECODER, **changes))

    def test_encoder_and_decoder_are_not_taken_for_each_other(self) -> None:
        with pytest.raises(BackendError, match=r"expected \[3, 2\], found \[3, 3\]"):
            open_decoder("executorch", sums(), DECODER)
        with pytest.raises(BackendError, match=r"expected \[3, 3\], found \[3, 2\]"):
            open_encoder("executorch", scores(), ENCODER)


def test_without_executorch_it_is_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        choose_binding()
    assert caught.value.name == "executorch"


def test_where_ours_is_not_built_torch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executorch_binding, "_BINDING", "edge_asr.native._not_built")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        choose_binding()
    assert caught.value.name == "torch"


@pytest.mark.slow
def test_where_ours_is_not_built_the_package_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executorch_binding, "_BINDING", "edge_asr.native._not_built")
    assert choose_binding() is stock()


def test_ours_takes_only_the_executorch_it_was_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ours()
    monkeypatch.setattr(executorch_binding, "_installed_version", lambda: "1.6.0")
    with pytest.raises(ImportError, match=r"built for executorch .*, found 1\.6\.0"):
        open_native(executorch_binding.library_folder())


def test_libraries_that_cannot_be_opened_are_not_installed(tmp_path: Path) -> None:
    ours()
    (tmp_path / "libexecutorch.so").write_bytes(b"no library")
    with pytest.raises(ImportError, match="executorch cannot be opened"):
        open_native(tmp_path)


def test_the_backend_is_there_without_torch() -> None:
    ours()
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tests.edge_asr.backends.test_executorch_runtime import *\n"
        "opened().step(FEATS, 0, zero_state(ENCODER)); print('stepped')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stepped\n", "")
