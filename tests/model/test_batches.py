"""The plan of an epoch and what is drawn from it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.batches import NOISE_FRAMES, Batch, draw, endless, join, plan_epoch, prefetch
from model.data import Data, Example
from model.tokenizer import Tokenizer, build_units
from tests.model.recipes import recipe


def data(lengths: list[int], noises: int = 2) -> Data:
    rng = np.random.default_rng(0)
    examples = [
        Example((rng.normal(10, 2, (length, 4)).astype(np.float16),), [index])
        for index, length in enumerate(lengths)
    ]
    noise = [rng.normal(5, 2, (50, 4)).astype(np.float16) for _ in range(noises)]
    return Data(examples, {}, noise, Tokenizer(build_units([], 1)), len(lengths))


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(20, 400), min_size=1, max_size=40),
    joined=st.integers(1, 4),
    epoch=st.integers(0, 5),
)
def test_plan_holds_each_utterance_once(lengths: list[int], joined: int, epoch: int) -> None:
    conf = recipe(max_joined=joined, easy_epochs=2, noise_only=0.2)
    plan = plan_epoch(data(lengths), conf, epoch)
    items = [item for batch in plan for item in batch]
    assert sorted(index for item in items for index in item) == list(range(len(lengths)))
    most = joined if epoch >= conf.easy_epochs else 1
    for item in items:
        assert len(item) <= most
        if len(item) > 1:
            assert sum(lengths[index] for index in item) <= conf.max_joined_frames
    assert plan == plan_epoch(data(lengths), conf, epoch)


def test_a_share_of_the_synthetic_ones_is_planned_another_in_each_epoch() -> None:
    conf = recipe(synthetic_share=0.25)
    given_data = dataclasses.replace(data([100] * 50), recorded=10)
    said = []
    for epoch in range(3):
        plan = plan_epoch(given_data, conf, epoch)
        indices = [index for batch in plan for item in batch for index in item]
        assert len(indices) == len(set(indices)) == 10 + 10
        assert set(range(10)) <= set(indices)
        said.append(set(indices) - set(range(10)))
    assert said[0] != said[1] != said[2]


def test_epochs_differ_and_noise_is_planned_where_there_is_some() -> None:
    conf = recipe(noise_only=1.0)
    plans = [plan_epoch(data([100] * 30), conf, epoch) for epoch in (0, 1)]
    assert plans[0] != plans[1]
    assert sum(item == [] for batch in plans[0] for item in batch) == 30
    silent = plan_epoch(data([100] * 30, noises=0), conf, 0)
    assert [] not in [item for batch in silent for item in batch]


def test_draw_joins_speech_and_labels_in_order() -> None:
    given_data = data([60, 80, 40])
    frames, label = draw([2, 0], given_data, recipe(), [1, 2], easy=True)
    assert label == [2, 0] and frames.shape == (100, 4)
    first = torch.from_numpy(given_data.train[2].frames[0].astype(np.float32))
    torch.testing.assert_close(frames[:40], first, atol=0, rtol=0)
    again, _ = draw([2, 0], given_data, recipe(), [1, 2], easy=False)
    other, _ = draw([2, 0], given_data, recipe(), [1, 2], easy=False)
    different, _ = draw([2, 0], given_data, recipe(), [1, 3], easy=False)
    torch.testing.assert_close(again, other, atol=0, rtol=0)
    assert again.shape != different.shape or not torch.equal(again, different)


def test_a_share_of_the_items_is_augmented() -> None:
    given_data = data([60])
    plain, _ = draw([0], given_data, recipe(), [0], easy=True)
    kept = [
        torch.equal(draw([0], given_data, recipe(augmented=0.3), [seed], easy=False)[0], plain)
        for seed in range(200)
    ]
    assert 115 <= sum(kept) <= 165
    assert not torch.equal(draw([0], given_data, recipe(), [0], easy=False)[0], plain)


def test_draw_of_nothing_is_noise_without_a_label() -> None:
    given_data = data([60])
    frames, label = draw([], given_data, recipe(), [1], easy=True)
    assert label == [] and len(frames) == 50
    assert any(np.array_equal(frames.numpy(), n.astype(np.float32)) for n in given_data.noises)
    long = dataclasses.replace(given_data, noises=[np.zeros((999, 4), np.float16)])
    assert len(draw([], long, recipe(), [1], easy=True)[0]) == NOISE_FRAMES


def test_join_brings_recordings_nearer_to_the_first_ones_level() -> None:
    loud, quiet = np.full((5, 4), 10.0, np.float32), np.full((7, 4), 5.0, np.float32)
    joined = join([loud, quiet, loud])
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined[:5], 10.0)
    np.testing.assert_allclose(joined[5:12], 9.0, rtol=1e-6)
    np.testing.assert_allclose(joined[12:], 10.0)


def take(batches: list[Batch]) -> list[tuple[int, int, list[list[int]]]]:
    return [(b.epoch, b.index, [label for _, label in b.drawn]) for b in batches]


def test_resumed_batches_are_those_that_would_have_come() -> None:
    given_data, conf = data([100, 150, 200, 120, 90, 180]), recipe()
    stream = list(itertools.islice(endless(given_data, conf, 0, 0, 0, 1), 20))
    assert {batch.epoch for batch in stream} >= {0, 1, 2}
    for place in (1, 7, 12):
        before = stream[place - 1]
        resumed = endless(given_data, conf, before.epoch, before.index + 1, 0, 1)
        found = list(itertools.islice(resumed, 20 - place))
        assert take(found) == take(stream[place:])
        for ours, expected in zip(found, stream[place:], strict=True):
            for (left, _), (right, _) in zip(ours.drawn, expected.drawn, strict=True):
                torch.testing.assert_close(left, right, atol=0, rtol=0)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_batch(world: int) -> None:
    given_data, conf = data([100, 150, 200, 120, 90, 180]), recipe()
    alone = list(itertools.islice(endless(given_data, conf, 0, 0, 0, 1), 12))
    shares = [
        list(itertools.islice(endless(given_data, conf, 0, 0, rank, world), 12))
        for rank in range(world)
    ]
    for whole, *parts in zip(alone, *shares, strict=True):
        assert {part.size for part in parts} == {whole.size} == {len(whole.drawn)}
        ours = [item for part in parts for item in part.drawn]
        assert sorted(label for _, label in ours) == sorted(label for _, label in whole.drawn)
        lengths = sorted(len(frames) for frames, _ in ours)
        assert lengths == sorted(len(frames) for frames, _ in whole.drawn)


def test_prefetch_keeps_order_and_passes_errors_on() -> None:
    def source() -> itertools.chain[Batch]:
        def fail() -> Batch:
            raise ValueError("broken recording")

        good = [Batch(0, index, [], 0) for index in range(7)]
        return itertools.chain(good, (fail() for _ in range(1)))

    found = []
    with pytest.raises(ValueError, match="broken recording"):
        for batch in prefetch(source()):
            found.append(batch.index)
    assert found == list(range(7))
