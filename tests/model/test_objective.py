"""model.objective: what a step lowers, and in which precision."""

from __future__ import annotations

import pytest
import torch

from model.objective import View, mixed_precision, objective
from tests.model.networks import network
from tests.model.recipes import recipe


@pytest.mark.parametrize(
    ("offered", "bf16", "expected"),
    [
        ({"avx512_bf16": True}, True, True),
        ({"bf16": True}, True, True),
        ({"avx512_bf16": False, "avx2": True}, True, False),
        ({}, True, False),
        ({"amx_bf16": True}, False, False),
    ],
)
def test_bf16_is_for_processors_that_have_it(
    offered: dict[str, bool], bf16: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: offered)
    with mixed_precision(recipe(bf16=bf16)):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (product.dtype == torch.bfloat16) == expected


@pytest.mark.parametrize("weights", [{"chunk_weight": 3.0}, {"balance_weight": 3.0}])
def test_router_terms_reach_the_routers(weights: dict[str, float]) -> None:
    """Utterances of unequal lengths: chunks of the shorter one are padding alone."""
    ours = network().requires_grad_(True)
    drawn = [(torch.randn(frames, 80), [3, 4]) for frames in (300, 60)]
    plain = objective(ours, recipe(), drawn, View())
    with_terms = objective(ours, recipe(**weights), drawn, View())
    assert with_terms > plain
    (with_terms - plain).backward()
    grads = {name: p.grad for name, p in ours.encoder.named_parameters() if "gate" in name}
    assert grads
    for name, grad in grads.items():
        assert grad is not None and torch.isfinite(grad).all() and grad.any(), name
