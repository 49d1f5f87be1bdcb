"""A program with room for 12 frames of left context, of which it is shown fewer, equals the eager
network that has room for no more.

What is hidden must not matter at all, so other numbers in its place give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import pytest
import torch

from edge_asr.backends import Encoder, FloatArray, open_encoder
from edge_asr.backends.state import State, limit_left_context, zero_state
from edge_asr.package.manifest import BackendName, Dispatch, EncoderSpec, Precision
from edge_asr.programs.loading import missing_library
from export.build import build_programs
from export.eager import EagerEncoder
from export.program import STATE_NAMES, EncoderProgram, encoder_interface, encoder_spec
from export.verify import BOUNDS
from model.network import Network
from tests.export.checkpoints import feats_of, network_at

LEFT = 12
CHUNKS = [4, 1, 1, 7, 16, 2, 30, 1, 3, 25, 1, 5, 8, 13, 4, 4, 1, 32, 6, 2, 9, 1]
# What log-probabilities may differ by in the mean, far inside the bounds of a package: rounding,
# and with int8 the rare integer that moves and moves a little of all frames after it. Other left
# context changes these networks by 1e-2 and more.
MEAN = {"fp32": 1e-6, "int8": 1e-3}

pytestmark = pytest.mark.timeout(900)  # a program is compiled in the first test that needs it

Row = tuple[str, BackendName | Literal["eager"], Precision, Dispatch | Literal[""]]
QUICK: list[Row] = [
    ("wenet-moe", "eager", "fp32", ""),
    ("wenet-moe", "onnx", "int8", "native"),
    ("unusual", "onnx", "fp32", "portable"),
]
SLOW: list[Row] = [
    ("wenet-moe", "eager", "int8", ""),
    ("wenet-moe", "onnx", "int8", "portable"),
    ("wenet-moe", "onnx", "fp32", "portable"),
    ("wenet-moe", "torchscript", "fp32", "portable"),
    ("wenet-moe", "torchscript", "int8", "portable"),
    ("wenet-moe", "torchscript", "int8", "native"),
    ("wenet-moe", "executorch", "int8", "native"),
    ("unusual", "executorch", "fp32", "portable"),
    ("unusual", "executorch", "int8", "portable"),
    ("whisper", "onnx", "int8", "portable"),
    ("whisper", "onnx", "int8", "native"),
]


@dataclass(frozen=True)
class Made:
    """An encoder with room for ``LEFT`` frames, and the network it was made from."""

    encoder: Encoder
    network: Network
    spec: EncoderSpec
    precision: Precision


@pytest.fixture(
    scope="module",
    params=[*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)],
    ids=lambda row: "-".join(row).strip("-"),
)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    name, backend, precision, dispatch = request.param
    network = network_at(name, precision, tmp_path_factory.mktemp("checkpoint"))
    spec = encoder_spec(network, LEFT, 4, max(CHUNKS))
    if backend == "eager":
        yield Made(EagerEncoder(network), network, spec, precision)
        return
    if dispatch == "native" and (missing_library(backend) or missing_library("torchscript")):
        pytest.skip("the native libraries are not built; run: make native")
    interface = encoder_interface(network, spec)
    (built,) = build_programs(
        EncoderProgram(network), interface, precision, [backend], [dispatch]
    )  # it keeps its weights in memory
    yield Made(open_encoder(backend, built.data, spec), network, spec, precision)


def stream(encoder: Encoder, spec: EncoderSpec, limits: list[int]) -> list[FloatArray]:
    """log_probs (1, T', V) of the chunks, each with its limit of left context."""
    state, offset, rows = zero_state(spec), 0, []
    for index, (chunk, limit) in enumerate(zip(CHUNKS, limits, strict=True)):
        state = limit_left_context(state, spec, limit)
        result = encoder.step(feats_of(spec, chunk, index), offset, state)
        state, offset = result.state, offset + chunk
        rows.append(result.log_probs)
    return rows


def eager_stream(network: Network, spec: EncoderSpec, limits: list[int]) -> list[FloatArray]:
    """The same by a mask of the eager network's own. What is hidden once stays hidden."""
    state, offset, seen, rows = network.encoder.zero_state(LEFT), 0, 0, []
    for index, (chunk, limit) in enumerate(zip(CHUNKS, limits, strict=True)):
        seen = min(seen, limit)
        mask = (torch.arange(LEFT + chunk) >= LEFT - seen).reshape(1, 1, 1, -1)
        feats = torch.from_numpy(feats_of(spec, chunk, index))
        with torch.inference_mode():
            out, state = network.encoder(feats, torch.tensor([offset]), state, mask)
            rows.append(network.ctc(out).numpy())
        seen, offset = min(LEFT, seen + chunk), offset + chunk
    return rows


def assert_close(ours: list[FloatArray], theirs: list[FloatArray], precision: Precision) -> None:
    found, expected = np.concatenate(ours, 1), np.concatenate(theirs, 1)
    assert found.shape == expected.shape and np.isfinite(found).all()
    errors = np.abs(found - expected)
    assert errors.max() <= BOUNDS[precision].max_abs and errors.mean() <= MEAN[precision]


@pytest.mark.slow
@pytest.mark.parametrize("frames", [0, 1, 5, LEFT])
def test_it_equals_the_network_with_less_room(made: Made, frames: int) -> None:
    ours = stream(made.encoder, made.spec, [frames] * len(CHUNKS))
    small = encoder_spec(made.network, frames, 4, max(CHUNKS))
    eager = stream(EagerEncoder(made.network), small, [frames] * len(CHUNKS))
    assert_close(ours, eager, made.precision)
    if frames < LEFT:
        whole = stream(made.encoder, made.spec, [LEFT] * len(CHUNKS))
        with pytest.raises(AssertionError):  # or the comparison would say nothing
            assert_close(whole, eager, made.precision)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_it_may_change_while_a_stream_runs(made: Made, seed: int) -> None:
    limits = np.random.default_rng(seed).integers(0, LEFT, len(CHUNKS), endpoint=True).tolist()
    ours = stream(made.encoder, made.spec, limits)
    assert_close(ours, eager_stream(made.network, made.spec, limits), made.precision)


def with_noise(state: State, slots: slice, seed: int) -> State:
    """The state with other keys and values in some slots of its cache."""
    changed = [array.copy() for array in state]
    rng = np.random.default_rng(seed)
    for name in ("key", "value"):
        part = changed[STATE_NAMES.index(name)][:, :, :, slots]
        part[...] = 3 * rng.standard_normal(part.shape)
    return tuple(changed)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4, 17])
def test_what_is_hidden_does_not_matter_at_all(made: Made, chunk: int) -> None:
    spec, encoder = made.spec, made.encoder
    state = encoder.step(feats_of(spec, 16, 0), 0, zero_state(spec)).state
    feats = feats_of(spec, chunk, 1)
    for hidden in (1, 5, LEFT):
        limited = limit_left_context(state, spec, LEFT - hidden)
        results = [
            encoder.step(feats, 16, with_noise(limited, slice(0, hidden), seed))
            for seed in range(2)
        ]
        for name in ("encoder_out", "log_probs"):
            found, other = (getattr(result, name) for result in results)
            np.testing.assert_array_equal(found, other)
        if hidden < LEFT:
            noise = with_noise(limited, slice(hidden, hidden + 1), 0)
            assert (encoder.step(feats, 16, noise).log_probs != results[0].log_probs).any()


@pytest.mark.slow
def test_another_value_does_not_hide(made: Made) -> None:
    """Frames that are hidden by the wrong value are seen, and the comparison sees that."""
    weak = tuple(
        tensor
        if tensor.hide is None
        else msgspec.structs.replace(tensor, hide=msgspec.structs.replace(tensor.hide, value=0.0))
        for tensor in made.spec.state
    )
    spec = msgspec.structs.replace(made.spec, state=weak)
    limits = [1] * len(CHUNKS)
    with pytest.raises(AssertionError):
        assert_close(
            stream(made.encoder, spec, limits),
            eager_stream(made.network, made.spec, limits),
            made.precision,
        )
