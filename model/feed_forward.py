"""Dense and mixture-of-experts feed-forward layers (arXiv 2404.16407, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.config import FeedForwardConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {"swish": nn.SiLU, "silu": nn.SiLU, "relu": nn.ReLU}

ROWS_ROUNDED_TO = 64


class FeedForward(nn.Module):
    """``w_2(act(w_1(x)))``: a dense layer, or one expert."""

    def __init__(self, dim: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.w_1 = nn.Linear(dim, hidden)
        self.activation = ACTIVATIONS[activation]()
        self.w_2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) to (..., D)."""
        return self.w_2(self.activation(self.w_1(x)))


class MoeFeedForward(nn.Module):
    """Top-k experts per frame, weighted by a softmax over the k selected router logits.

    The rows of a batch are sorted by expert, so that each expert runs once on just its rows.
    """

    def __init__(self, dim: int, conf: FeedForwardConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, conf.n_expert, bias=False)
        self.experts = nn.ModuleList(
            FeedForward(dim, conf.hidden, conf.activation) for _ in range(conf.n_expert)
        )
        self.n_expert_activated = conf.n_expert_activated

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) to (B, T, D)."""
        rows = x.reshape(-1, x.size(-1))
        weight, expert = self.route(rows)
        k = self.n_expert_activated
        order = torch.argsort(expert.reshape(-1), stable=True)
        row = torch.div(order, k, rounding_mode="floor")
        counts = torch.bincount(expert.reshape(-1), minlength=len(self.experts)).tolist()
        parts = rows.index_select(0, row).split(counts)
        runs = [self._run(*pair) for pair in zip(self.experts, parts, strict=True)]
        outputs = torch.cat(runs)
        weighted = outputs * weight.reshape(-1)[order].unsqueeze(1).to(outputs.dtype)
        result = torch.zeros_like(rows, dtype=outputs.dtype).index_add(0, row, weighted)
        return result.reshape(x.shape)

    def _run(self, expert: nn.Module, rows: Tensor) -> Tensor:
        """One expert over its rows (N, D).

        In training N changes with every call and oneDNN compiles a bf16 kernel for each size it
        meets, which takes longer than the product. So sizes are rounded up.
        """
        if not self.training:
            return expert(rows)
        padding = -len(rows) % ROWS_ROUNDED_TO
        return expert(nn.functional.pad(rows, (0, 0, 0, padding)))[: len(rows)]

    def route(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (N, k) float32 and experts (N, k) int64 of rows (N, D)."""
        value, expert = self.router_logits(rows).topk(self.n_expert_activated, dim=-1)
        return torch.softmax(value, dim=-1), expert

    def router_logits(self, rows: Tensor) -> Tensor:
        """Float32 logits (..., E) of rows (..., D).

        The router runs in float32 whatever the rest does: its choice is discrete.
        """
        with torch.autocast("cpu", enabled=False):
            return nn.functional.linear(rows.float(), self.gate.weight.float())


def build_feed_forward(dim: int, conf: FeedForwardConfig) -> nn.Module:
    """The layer that ``conf`` asks for."""
    if conf.n_expert:
        return MoeFeedForward(dim, conf)
    return FeedForward(dim, conf.hidden, conf.activation)
