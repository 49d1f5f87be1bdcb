"""Terms on routers, and the count of experts that a chunk touches."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from model.routing import (
    balance_loss,
    chunk_loss,
    expert_layers,
    experts_per_chunk,
    watch_routers,
)
from tests.model.networks import network
from tests.model.test_train import trainer


def one_hot(experts: list[int], count: int, scale: float = 50.0) -> torch.Tensor:
    return scale * F.one_hot(torch.tensor([experts]), count).float()


def test_the_watch_sees_what_the_routers_decide_by() -> None:
    ours = network()
    feats, lengths = torch.randn(2, 80, ours.conf.input_dim), torch.tensor([80, 60])
    with watch_routers(ours.encoder) as routers:
        ours.whole(feats, lengths, 0, -1)
    layers = expert_layers(ours.encoder)
    assert list(routers) == list(layers) and len(layers) == 2 * ours.conf.blocks
    seen: list[torch.Tensor] = []
    name, layer = next(iter(layers.items()))
    layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    ours.whole(feats, lengths, 0, -1)
    assert all(len(calls) == 1 for calls in routers.values())  # no longer watched
    _, expert = layer.route(seen[0].flatten(0, 1))
    assert torch.equal(routers[name][0].flatten(0, 1).topk(2).indices, expert)


def test_balance_is_one_where_all_are_used_alike_and_most_where_one_is() -> None:
    valid = torch.ones(1, 8, dtype=torch.bool)
    assert balance_loss(one_hot([0, 1, 2, 3] * 2, 4), valid, 1) == pytest.approx(1.0, abs=1e-5)
    assert balance_loss(one_hot([2] * 8, 4), valid, 1) == pytest.approx(4.0, abs=1e-5)
    padded = torch.cat([one_hot([0, 1, 2, 3], 4), one_hot([2] * 4, 4)], dim=1)
    valid[0, 4:] = False
    assert balance_loss(padded, valid, 1) == pytest.approx(1.0, abs=1e-5)


def test_chunk_term_is_how_far_frames_are_from_their_chunk() -> None:
    valid = torch.ones(1, 8, dtype=torch.bool)
    logits = one_hot([0, 0, 0, 0, 1, 2, 1, 1], 4)
    assert chunk_loss(logits, valid, 4, 1) == pytest.approx(50 / 8)  # one frame of eight
    assert chunk_loss(logits, valid, 8, 1) == pytest.approx(50 * 4 / 8)
    valid[0, 4:] = False  # a chunk of padding is none
    assert chunk_loss(logits, valid, 4, 1) == pytest.approx(0.0, abs=1e-6)
    valid[0, 2:] = False  # and padding inside a chunk has no say
    padded = one_hot([0, 0, 3, 3, 3, 3, 3, 3], 4)
    assert chunk_loss(padded, valid, 4, 1) == pytest.approx(0.0, abs=1e-6)


def test_chunk_term_asks_for_as_many_experts_as_a_frame_has() -> None:
    valid = torch.ones(1, 8, dtype=torch.bool)
    first = one_hot([2] * 8, 4)
    same = first + 0.5 * one_hot([1] * 8, 4)
    other = first + 0.5 * one_hot([1, 1, 1, 1, 1, 1, 1, 3], 4)
    assert chunk_loss(same, valid, 8, 2) == pytest.approx(0.0, abs=1e-6)
    assert chunk_loss(other, valid, 8, 2) == pytest.approx(25 / 8)


@pytest.mark.parametrize("scale", [1.0, 50.0, 500.0])  # with 500 the softmax holds zeros
def test_terms_have_gradients_for_utterances_of_unequal_lengths(scale: float) -> None:
    lengths = torch.tensor([40, 5])
    valid = torch.arange(40) < lengths[:, None]  # whole chunks of padding, and a part of one
    for term in (lambda x: chunk_loss(x, valid, 8, 2), lambda x: balance_loss(x, valid, 2)):
        logits = (scale * torch.randn(2, 40, 4)).requires_grad_()
        term(logits).backward()
        assert logits.grad is not None and torch.isfinite(logits.grad).all()
        assert not logits.grad[~valid].any()


def test_experts_of_whole_chunks_are_counted() -> None:
    logits = one_hot([0, 0, 1, 0, 2, 2, 2, 2, 3, 1], 4)
    assert experts_per_chunk([logits], [10], 4, 1) == [[2, 1]]
    assert experts_per_chunk([logits], [7], 4, 1) == [[2]]
    two = logits + 0.5 * one_hot([3] * 10, 4)
    assert experts_per_chunk([two], [8], 4, 2) == [[3, 2]]


@pytest.mark.slow
def test_the_terms_change_what_is_learned(tmp_path: Path) -> None:
    found = {}
    for name, changes in {
        "plain": {}, "chunk": {"chunk_weight": 20.0}, "balance": {"balance_weight": 20.0}
    }.items():  # fmt: skip
        ours = trainer(tmp_path / name, steps=60, **changes)
        source = ours.batches()
        for _ in range(60):
            ours.train_step(next(source))
        assert not ours.skipped
        batch = next(source)
        lengths = [len(frames) for frames, _ in batch.drawn]
        padded = torch.nn.utils.rnn.pad_sequence([f for f, _ in batch.drawn], batch_first=True)
        ours.network.eval()
        with watch_routers(ours.network.encoder) as routers, torch.no_grad():
            _, sizes = ours.network.whole(padded, torch.tensor(lengths), 0, -1)
        logits = [calls[0] for calls in routers.values()]
        layers = experts_per_chunk(logits, sizes.tolist(), 8, 2)
        counts = list(itertools.chain.from_iterable(layers))
        found[name] = sum(counts) / len(counts)
    assert found["chunk"] <= found["plain"] and found["chunk"] < found["balance"]
