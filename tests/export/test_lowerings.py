"""Every program equals the eager network of its precision, whatever the chunks are.

Run through the runtime's own backends, from their bytes. int8 programs are compared by the
numbers that survive a moved last bit: most values are equal to rounding, few are far.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from torch import nn

from edge_asr.backends import BACKENDS, Encoder, FloatArray, open_encoder
from edge_asr.backends.state import State, zero_state
from edge_asr.package.manifest import BackendName, EncoderSpec, Precision
from export.__main__ import main
from export.build import build_programs
from export.eager import EagerEncoder
from export.lowerings import LOWERINGS, Lowering, lowering
from export.program import EncoderProgram, Interface, encoder_interface, encoder_spec
from tests.export.checkpoints import Case, feats_of, network_at, portable_cases

LEFT, MAX_CHUNK = 12, 64
CHUNKS = [4, 1, 1, 7, 16, 2, 64, 1, 3, 25, 1, 5, 8, 13, 4, 4, 1, 32, 6, 2, 9, 1]

pytestmark = pytest.mark.timeout(900)  # a program is compiled in the first test that needs it

QUICK: list[Case] = [
    ("wenet-moe", "onnx", "int8"),
    ("unusual", "onnx", "fp32"),
]
# ExecuTorch compiles for long, so it gets one dense program and the smallest sparse ones.
COMPILED_LONG: list[Case] = [
    ("wenet-dense", "executorch", "fp32"),
    ("unusual", "executorch", "fp32"),
    ("unusual", "executorch", "int8"),
    ("whisper", "executorch", "int8"),
]


def test_what_is_lowered_can_be_run() -> None:
    assert LOWERINGS.keys() <= BACKENDS.keys()


def test_a_fourth_lowering_is_one_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What makes its programs run: tests/edge_asr/backends/test_fourth_backend.py."""
    record = Lowering("export.to_fourth", "4th", ("numpy",))
    module = ModuleType(record.module)
    module.lower = lambda program, interface: b"lowered"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, record.module, module)
    monkeypatch.setitem(LOWERINGS, "fourth", record)
    interface = Interface("encoder", (), (), {}, {}, ())
    (built,) = build_programs(nn.Identity(), interface, "fp32", ["fourth"], ["portable"])
    assert (built.program.file, built.program.data) == ("encoder.fp32.4th", b"lowered")
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "comma-separated list of onnx, executorch, torchscript, fourth" in said


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_as_before_however_lowering_ends(
    monkeypatch: pytest.MonkeyPatch, collects: bool
) -> None:
    seen = []

    def fail(program: nn.Module, interface: Interface) -> bytes:
        seen.append(gc.isenabled())
        raise RuntimeError("cannot be lowered")

    module = ModuleType("export.to_fourth")
    module.lower = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(LOWERINGS, "fourth", Lowering(module.__name__, "4th"))
    was_enabled = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with pytest.raises(RuntimeError):
            lowering("fourth")[0](nn.Identity(), Interface("encoder", (), (), {}, {}, ()))
        assert seen == [False] and gc.isenabled() is collects
    finally:
        (gc.enable if was_enabled else gc.disable)()


@dataclass(frozen=True)
class Lowered:
    """A program, what it was made from, and how far single values may move."""

    encoder: Encoder
    eager: EagerEncoder
    spec: EncoderSpec
    precision: Precision
    backend: BackendName

    def assert_stream_close(self, found: FloatArray, expected: FloatArray) -> None:
        """Where each chunk goes on from the program's own state."""
        if self.precision == "fp32":
            self.assert_close(found, expected)
        else:
            assert found.shape == expected.shape and found.dtype == np.float32
            scale = float(np.abs(expected).std()) + 1e-6
            assert np.abs(found - expected).mean() <= 0.01 * scale

    def assert_close(self, found: FloatArray, expected: FloatArray) -> None:
        assert found.shape == expected.shape and found.dtype == np.float32
        errors = np.abs(found - expected)
        scale = float(np.abs(expected).std()) + 1e-6
        if self.precision == "fp32":
            assert errors.max() <= 2e-4 * max(1.0, scale)
        else:
            # An integer that moves in one layer moves a little of all frames that see it. That
            # no layer moves integers by itself is shown in test_to_onnx.py.
            assert np.quantile(errors, 0.9) <= 1e-3 * max(1.0, scale)
            assert errors.mean() <= 0.01 * scale


@pytest.fixture(
    scope="module",
    params=portable_cases(QUICK, COMPILED_LONG),
    ids="-".join,
)
def lowered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    name, backend, precision = request.param
    network = network_at(name, precision, tmp_path_factory.mktemp("checkpoint"))
    spec = encoder_spec(network, LEFT, 4, MAX_CHUNK)
    lower, _ = lowering(backend)
    program = lower(EncoderProgram(network).eval(), encoder_interface(network, spec))
    encoder = open_encoder(backend, program, spec)
    return Lowered(encoder, EagerEncoder(network), spec, precision, backend)


def stream(encoder: Encoder, spec: EncoderSpec, chunks: list[int], seed: int) -> list[Any]:
    """Result of each chunk: (encoder_out, log_probs, *state)."""
    state: State = zero_state(spec)
    offset, results = 0, []
    for index, chunk in enumerate(chunks):
        result = encoder.step(feats_of(spec, chunk, seed + index), offset, state)
        assert [array.shape for array in result.state] == [tensor.shape for tensor in spec.state]
        results.append((result.encoder_out, result.log_probs, *result.state))
        state, offset = result.state, offset + chunk
    return results


def parts(results: list[Any]) -> list[FloatArray]:
    """Over all chunks: encoder_out, log_probs, and each part of the state."""
    return [
        np.concatenate([result[part] for result in results], 1 if part < 2 else 0)
        for part in range(len(results[0]))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1000])
def test_chunks_of_every_size(lowered: Lowered, seed: int) -> None:
    assert len(CHUNKS) >= 20 and min(CHUNKS) == 1 and max(CHUNKS) == MAX_CHUNK
    spec = lowered.spec
    ours = stream(lowered.encoder, spec, CHUNKS, seed)
    theirs = stream(lowered.eager, spec, CHUNKS, seed)
    for chunk, found in zip(CHUNKS, ours, strict=True):
        assert found[1].shape == (1, chunk, spec.vocab_size)
        np.testing.assert_allclose(np.exp(found[1]).sum(-1), 1, rtol=1e-4)
    for found, expected in zip(parts(ours), parts(theirs), strict=True):
        lowered.assert_stream_close(found, expected)
    # Each chunk from the state that eager torch has there, so that an integer that moved in one
    # chunk does not count in all that come after it.
    states: list[State] = [zero_state(spec), *(result[2:] for result in theirs[:-1])]
    offsets = [sum(CHUNKS[:index]) for index in range(len(CHUNKS))]
    steps = []
    for index, (chunk, offset, state) in enumerate(zip(CHUNKS, offsets, states, strict=True)):
        result = lowered.encoder.step(feats_of(spec, chunk, seed + index), offset, state)
        steps.append((result.encoder_out, result.log_probs, *result.state))
    for found, expected in zip(parts(steps), parts(theirs), strict=True):
        lowered.assert_close(found, expected)


@pytest.mark.slow
def test_interleaved_streams_do_not_disturb_each_other(lowered: Lowered) -> None:
    spec, encoder = lowered.spec, lowered.encoder
    chunks = [4, 16, 1, 4, 7, 4]
    alone = [stream(encoder, spec, chunks, seed) for seed in (7, 70)]
    states, offset = [zero_state(spec), zero_state(spec)], 0
    for index, chunk in enumerate(chunks):
        for which, seed in enumerate((7, 70)):
            given = [array.copy() for array in states[which]]
            feats = feats_of(spec, chunk, seed + index)
            result = encoder.step(feats, offset, states[which])
            for before, after in zip(given, states[which], strict=True):
                np.testing.assert_array_equal(before, after)  # what was given stays
            np.testing.assert_array_equal(result.log_probs, alone[which][index][1])
            states[which] = result.state
        offset += chunk


@pytest.mark.slow
def test_state_matters(lowered: Lowered) -> None:
    """The comparison above would not pass for a program that forgets."""
    spec = lowered.spec
    state = lowered.encoder.step(feats_of(spec, 16, 0), 0, zero_state(spec)).state
    feats = feats_of(spec, 4, 1)
    remembered = lowered.encoder.step(feats, 16, state).log_probs
    forgotten = lowered.encoder.step(feats, 16, zero_state(spec)).log_probs
    with pytest.raises(AssertionError):
        lowered.assert_close(forgotten, remembered)


@pytest.mark.slow
def test_streams_go_on_past_200_seconds(lowered: Lowered) -> None:
    spec = lowered.spec
    state = lowered.encoder.step(feats_of(spec, 16, 0), 4984, zero_state(spec)).state
    for offset in (5000, 123_456_789):
        ours, theirs = (
            encoder.step(feats_of(spec, 9, 1), offset, state)
            for encoder in (lowered.encoder, lowered.eager)
        )
        lowered.assert_close(ours.log_probs, theirs.log_probs)
