"""The expert layer against a loop over rows and experts in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import FeedForwardConfig
from model.feed_forward import ROWS_ROUNDED_TO, FeedForward, MoeFeedForward, build_feed_forward


def layer(experts: int, k: int, activation: str = "swish", seed: int = 0) -> MoeFeedForward:
    torch.manual_seed(seed)
    made = build_feed_forward(6, FeedForwardConfig(10, activation, experts, k))
    assert isinstance(made, MoeFeedForward)
    return made.eval().requires_grad_(False)


def naive(moe: MoeFeedForward, x: torch.Tensor) -> torch.Tensor:
    """Row by row, choice by choice, as arXiv 2404.16407 and WeNet say it, in float64."""
    result = torch.zeros_like(x, dtype=torch.float64)
    _, chosen = moe.route(x.reshape(-1, x.size(-1)))  # the choice itself is tested below
    for row, index in enumerate(torch.cartesian_prod(*map(torch.arange, x.shape[:2])).tolist()):
        vector = x[index[0], index[1]].double()
        logits = moe.gate.weight.double() @ vector
        weights = torch.softmax(logits[chosen[row]], 0)
        for weight, expert in zip(weights, chosen[row].tolist(), strict=True):
            part = moe.experts[expert]
            hidden = part.w_1.weight.double() @ vector + part.w_1.bias.double()
            hidden = hidden / (1 + torch.exp(-hidden)) if moe_is_swish(part) else hidden.clamp(0)
            out = part.w_2.weight.double() @ hidden + part.w_2.bias.double()
            result[index[0], index[1]] += weight * out
    return result


def moe_is_swish(expert: object) -> bool:
    return isinstance(expert, FeedForward) and isinstance(expert.activation, torch.nn.SiLU)


@settings(max_examples=20, deadline=None)
@given(
    experts=st.integers(1, 8),
    k=st.integers(1, 3),
    frames=st.integers(1, 9),
    batch=st.integers(1, 2),
    activation=st.sampled_from(["swish", "relu"]),
    seed=st.integers(0, 99),
)
def test_equals_the_naive_loop(
    experts: int, k: int, frames: int, batch: int, activation: str, seed: int
) -> None:
    moe = layer(experts, min(k, experts), activation, seed)
    x = 3 * torch.randn(batch, frames, 6)
    torch.testing.assert_close(moe(x).double(), naive(moe, x), atol=1e-5, rtol=1e-5)


def test_experts_without_rows() -> None:
    moe = layer(8, 2)
    moe.gate.weight.zero_()
    moe.gate.weight[2], moe.gate.weight[5] = 1.0, 0.5
    x = torch.rand(1, 7, 6)
    _, chosen = moe.route(x[0])
    assert set(chosen.flatten().tolist()) == {2, 5}
    torch.testing.assert_close(moe(x).double(), naive(moe, x), atol=1e-5, rtol=1e-5)


def test_ties_choose_as_many_as_any_other_row() -> None:
    """Equal logits: still k different experts with equal weights, the same each time."""
    moe = layer(8, 2)
    moe.gate.weight.zero_()
    x = torch.randn(1, 5, 6)
    weight, chosen = moe.route(x[0])
    torch.testing.assert_close(weight, torch.full((5, 2), 0.5))
    assert all(len(set(row)) == 2 for row in chosen.tolist())
    torch.testing.assert_close(moe(x), moe(x), atol=0, rtol=0)
    torch.testing.assert_close(moe(x).double(), naive(moe, x), atol=1e-5, rtol=1e-5)


def test_route_takes_the_largest_raw_logits() -> None:
    moe = layer(8, 2)
    x = torch.randn(50, 6)
    weight, chosen = moe.route(x)
    logits = x @ moe.gate.weight.t()
    best = logits.sort(dim=1, descending=True)
    assert torch.equal(chosen, best.indices[:, :2])
    expected = torch.exp(best.values[:, :2])
    torch.testing.assert_close(weight, expected / expected.sum(1, keepdim=True))


def test_no_row_depends_on_another() -> None:
    moe = layer(4, 2)
    x = torch.randn(1, 30, 6)
    alone = torch.cat([moe(x[:, index : index + 1]) for index in range(30)], 1)
    torch.testing.assert_close(moe(x), alone, atol=1e-6, rtol=1e-6)


def test_training_gives_the_same_and_every_gradient() -> None:
    """Rows are padded in training; neither output nor gradients may show it."""
    moe = layer(4, 2).requires_grad_(True)
    x = torch.randn(2, ROWS_ROUNDED_TO // 3, 6)

    def gradients() -> list[torch.Tensor]:
        moe.zero_grad()
        moe(x).square().sum().backward()
        return [parameter.grad.clone() for parameter in moe.parameters()]

    quiet = gradients()
    moe.train()
    for ours, expected in zip(gradients(), quiet, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_router_stays_float32_under_autocast() -> None:
    moe = layer(8, 2)
    x = torch.randn(200, 6)
    with torch.autocast("cpu", torch.bfloat16):
        weight, chosen = moe.route(x)
        out = moe(x[None])
    plain = moe.route(x)
    assert weight.dtype == torch.float32 and torch.equal(chosen, plain[1])
    torch.testing.assert_close(weight, plain[0], atol=0, rtol=0)
    # bfloat16 keeps 8 bits, and the experts were chosen alike.
    torch.testing.assert_close(out.float(), moe(x[None]), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("size", [1, 16])
def test_dense(size: int) -> None:
    torch.manual_seed(0)
    dense = build_feed_forward(6, FeedForwardConfig(10, "swish", 0, 0))
    assert isinstance(dense, FeedForward)
    x = torch.randn(1, size, 6)
    hidden = x @ dense.w_1.weight.t() + dense.w_1.bias
    hidden = hidden * torch.special.expit(hidden)
    torch.testing.assert_close(dense(x), hidden @ dense.w_2.weight.t() + dense.w_2.bias)
