"""Steps of the encoder: each frame once, in any blocking, padded at the end only."""

from __future__ import annotations

import copy
import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.audio.windows import Step, Windows, left_context_frames, tail_padding
from edge_asr.errors import UsageError
from edge_asr.package.manifest import EncoderSpec
from tests.tiny import ENCODER, MANIFEST


@st.composite
def specs(draw: st.DrawFn) -> EncoderSpec:
    rate = draw(st.integers(1, 8))
    return msgspec.structs.replace(
        ENCODER,
        subsampling_rate=rate,
        right_context=draw(st.integers(rate - 1, 15)),
        min_chunk=draw(st.integers(1, 3)),
    )


def numbered(count: int) -> np.ndarray:
    """(T, 2) frames that name their place, from 1."""
    return np.arange(1, count + 1, dtype=np.float32)[:, None].repeat(2, axis=1)


def cut(windows: Windows, frames: np.ndarray, cuts: list[int]) -> list[Step]:
    steps = []
    for start, end in itertools.pairwise([0, *sorted(cuts), len(frames)]):
        steps += windows.push(frames[start:end])
        assert windows.missing_frames >= 1
    return steps + windows.flush()


@settings(max_examples=150, deadline=None)
@given(
    spec=specs(),
    chunk=st.integers(3, 9),
    count=st.integers(0, 120),
    cuts=st.lists(st.integers(0, 120), max_size=8),
)
def test_each_frame_is_encoded_once(
    spec: EncoderSpec, chunk: int, count: int, cuts: list[int]
) -> None:
    frames, windows = numbered(count), Windows(spec, chunk)
    steps = cut(windows, frames, [min(cut, count) for cut in cuts])
    assert sum(step.keep for step in steps) == -(-count // spec.subsampling_rate)
    padded = np.concatenate([frames, *(tail_padding(f, 200) for f in frames[-1:])])
    offset = 0
    for index, step in enumerate(steps):
        assert 1 <= step.keep <= chunk
        start = offset * spec.subsampling_rate
        size = spec.input_frames(max(step.keep, spec.min_chunk))
        np.testing.assert_array_equal(step.feats[0], padded[start : start + size])
        assert step.feats.shape == (1, size, 2)
        if start + size <= count and index < len(steps) - 1:
            assert step.keep == chunk
        offset += step.keep
    whole = cut(Windows(spec, chunk), frames, [])
    assert [step.keep for step in whole] == [step.keep for step in steps]
    # Flushed: what follows is a new stream.
    again = cut(windows, frames, [])
    assert all(np.array_equal(a.feats, b.feats) for a, b in zip(again, whole, strict=True))


def test_a_step_comes_with_its_last_frame_and_not_earlier() -> None:
    windows = Windows(ENCODER, 4)
    needed = ENCODER.input_frames(4)
    assert windows.missing_frames == needed
    assert windows.push(numbered(needed - 1)) == []
    assert windows.missing_frames == 1
    assert len(windows.push(numbered(1))) == 1


def test_a_copy_is_a_snapshot_that_shares_nothing() -> None:
    frames, windows = numbered(40), Windows(ENCODER, 4)
    windows.push(frames[:25])
    snapshot = copy.deepcopy(windows)
    frames[:25] = -1  # the caller's array is the caller's
    first = cut(windows, frames[25:], [])
    assert min(step.feats.min() for step in first) > 0
    second = cut(snapshot, frames[25:], [])
    assert all(np.array_equal(a.feats, b.feats) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("wrong", [-40, 30, 41, 80, 1 << 40])
def test_a_left_context_is_some_frames_that_there_are(wrong: int) -> None:
    assert left_context_frames(MANIFEST, 40) == 1 == MANIFEST.encoder.left_context
    assert left_context_frames(MANIFEST, 0) == 0
    with pytest.raises(UsageError, match="multiples of 40 from 0 to 40"):
        left_context_frames(MANIFEST, wrong)
