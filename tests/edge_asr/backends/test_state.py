"""What is written into a state to hide frames. That they are hidden: tests/export."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.backends import FloatArray
from edge_asr.backends.state import State, limit_left_context, zero_state
from edge_asr.errors import UsageError
from edge_asr.package.files import open_package
from edge_asr.package.manifest import EncoderSpec, HideSpec, TensorSpec
from edge_asr.programs.loading import choose_program, load_encoder
from tests.tiny import ENCODER

LEFT = 5


def spec_of(axis: int = 1, value: float = -1e9, left: int = LEFT) -> EncoderSpec:
    shape = [3, 2, 4]
    shape[axis] = left
    state = (
        TensorSpec(name="key", shape=(left, 2)),
        TensorSpec(name="score", shape=tuple(shape), hide=HideSpec(axis=axis, value=value)),
        TensorSpec(name="conv", shape=(2,)),
    )
    return msgspec.structs.replace(ENCODER, left_context=left, state=state)


@settings(deadline=None, max_examples=40)
@given(
    axis=st.integers(0, 2),
    value=st.floats(-1e30, 1e30),
    left=st.integers(1, 6),
    data=st.data(),
)
def test_the_oldest_are_hidden_and_nothing_else_changes(
    axis: int, value: float, left: int, data: st.DataObject
) -> None:
    spec = spec_of(axis, value, left)
    frames = data.draw(st.integers(0, left))
    rng = np.random.default_rng(0)
    state = tuple(rng.standard_normal(t.shape).astype(t.dtype) for t in spec.state)
    before = [array.copy() for array in state]
    limited = limit_left_context(state, spec, frames)
    assert limited[0] is state[0] and limited[2] is state[2]
    assert limited[1].dtype == np.float32 and limited[1].shape == state[1].shape
    hidden, seen = np.split(np.moveaxis(limited[1], axis, 0), [left - frames])
    assert (hidden == np.float32(value)).all()
    np.testing.assert_array_equal(seen, np.moveaxis(before[1], axis, 0)[left - frames :])
    for array, copy in zip(state, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert (limited is state) == (frames == left), "the whole context costs nothing"
    smaller = data.draw(st.integers(0, frames))
    once, twice = (limit_left_context(one, spec, smaller) for one in (state, limited))
    np.testing.assert_array_equal(once[1], twice[1])


@pytest.mark.parametrize("frames", [-1, LEFT + 1, 1 << 40])
def test_only_what_there_is_room_for(frames: int) -> None:
    spec = spec_of()
    with pytest.raises(UsageError, match=f"left context of {frames} .* 0 to {LEFT}"):
        limit_left_context(zero_state(spec), spec, frames)


def test_a_package_that_does_not_say_how() -> None:
    state = zero_state(ENCODER)
    assert limit_left_context(state, ENCODER, ENCODER.left_context) is state
    with pytest.raises(UsageError, match="export it again"):
        limit_left_context(state, ENCODER, ENCODER.left_context - 1)


@pytest.mark.slow
def test_the_bundled_program_does_not_see_what_is_hidden() -> None:
    """Its left context is 64 frames; what stands in the oldest 48 does not matter to a bit."""
    package = open_package()
    encoder = load_encoder(package, choose_program(package, "encoder", "onnx"))
    spec, bins = package.manifest.encoder, package.manifest.features.num_mel_bins
    rng = np.random.default_rng(0)

    def feats(chunk: int) -> FloatArray:
        size = (1, spec.input_frames(chunk), bins)
        return (10 + 3 * rng.standard_normal(size)).astype(np.float32)

    state = encoder.step(feats(80), 0, zero_state(spec)).state
    limited, chunk = limit_left_context(state, spec, 16), feats(16)

    def after_noise(given: State, frames: int) -> FloatArray:
        """log_probs with other keys and values in the oldest frames."""
        noisy = [array.copy() for array in given]
        for array, tensor in zip(noisy, spec.state, strict=True):
            if tensor.name in ("key", "value"):
                array[:, :, :, :frames] += 1
        return encoder.step(chunk, 80, tuple(noisy)).log_probs

    np.testing.assert_array_equal(after_noise(limited, 48), after_noise(limited, 0))
    assert (after_noise(limited, 49) != after_noise(limited, 0)).any()
    assert (after_noise(state, 48) != after_noise(state, 0)).any()
