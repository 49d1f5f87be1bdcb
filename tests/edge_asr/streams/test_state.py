"""What a stream knows: its position, and what a run hands on to the next."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from edge_asr.audio.windows import Windows
from edge_asr.backends.state import zero_state
from edge_asr.fusion import Fusion
from edge_asr.search.greedy import GreedySearch
from edge_asr.search.segments import SegmentState
from edge_asr.streams.state import StreamState
from tests.tiny import ENCODER, FEATURES, RATE

CHUNK = 4


def new_state() -> StreamState:
    text = SegmentState(GreedySearch(0))
    return StreamState(Windows(ENCODER, CHUNK), zero_state(ENCODER), text, Fusion(), left_context=1)


def noise(count: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, channels)).astype(np.float32) * 0.1


@pytest.mark.parametrize("count", [1, 399, 400, 6800, 6801, 20_000])
def test_steps_are_cut_as_soon_as_they_are_complete(count: int) -> None:
    # (T - 1) shifts and a window of samples make T frames.
    frames = ENCODER.input_frames(CHUNK)
    needed = (frames - 1) * FEATURES.shift_samples + FEATURES.window_samples
    state = new_state()
    state.add_block(noise(count), RATE, FEATURES)
    state.cut_steps(FEATURES)
    shift = CHUNK * ENCODER.subsampling_rate * FEATURES.shift_samples
    assert len(state.steps) == (1 + (count - needed) // shift if count >= needed else 0)
    assert all(step.feats.shape == (1, frames, FEATURES.num_mel_bins) for step in state.steps)


def test_no_more_steps_are_cut_while_one_is_left() -> None:
    state = new_state()
    for _ in range(2):
        state.add_block(noise(20_000), RATE, FEATURES)
        state.cut_steps(FEATURES)
    assert state.waiting_samples == 20_000


def test_the_position_counts_intakes_of_all_formats() -> None:
    state = new_state()
    state.add_block(noise(1000), RATE, FEATURES)
    state.add_block(noise(44_100, 2), 44_100, FEATURES)
    state.add_block(noise(500), RATE, FEATURES)
    assert state.samples_of_closed_intakes == 1000 + RATE
    assert state.position_samples == 1500 + RATE
    state.cut_last_steps(FEATURES)
    assert (state.intake, state.position_samples) == (None, 1500 + RATE)
    frames = -(-(1500 + RATE - FEATURES.window_samples) // FEATURES.shift_samples) + 1
    assert sum(step.keep for step in state.steps) == -(-frames // ENCODER.subsampling_rate)


def test_the_next_run_keeps_what_was_chosen_and_nothing_that_was_heard() -> None:
    state = new_state()
    state.left_context, state.windows.chunk_frames, state.text.segment = 0, 7, 3
    state.add_block(noise(9000), RATE, FEATURES)
    state.cut_steps(FEATURES)
    following = state.next_run(GreedySearch(0), lost_samples=50)
    assert (following.left_context, following.windows.chunk_frames) == (0, 7)
    assert following.text.segment == 3
    assert (following.origin_samples, following.position_samples) == (9050, 9050)
    assert (following.steps, following.waiting, following.end_ms) == ([], [], None)
    assert state.position_samples == 9000


def test_a_restarted_encoder_has_seen_nothing() -> None:
    state = new_state()
    state.encoder = tuple(np.ones_like(array) for array in state.encoder)
    state.frames_seen_by_encoder = 5
    before = copy.deepcopy(state)
    state.restart_encoder()
    assert state.frames_seen_by_encoder == 0
    assert not any(array.any() for array in state.encoder)
    assert all(array.all() for array in before.encoder)
