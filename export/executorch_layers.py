"""Layers in the forms that XNNPACK's partitioner takes, over rows (R, D).

They compute what ``model`` computes, with the same integers. The expert layer is sparse:

    route -> place of each (row, expert) pair in the order of experts, by a cumulative sum
          -> rows in that order, split by the experts' counts -> each expert on just its rows
          -> back to row order -> weighted sum

All experts of a layer form one delegate with one input of data-dependent size per expert; an
expert without rows is skipped by XNNPACK.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers quantized_decomposed
from torch.nn import functional as F

from export.executorch_blocks import Block
from model.feed_forward import FeedForward, MoeFeedForward
from quant.linear import LARGEST, QuantLinear


class RowLinears(nn.Module):
    """Linear layers that read the same rows, which are quantized once."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.quantized = isinstance(layers[0], QuantLinear)
        self.count = len(layers)
        for index, layer in enumerate(layers):
            weight, bias = layer.weight.detach(), layer.bias
            weight = weight.reshape(weight.size(0), -1)
            self.register_buffer(f"weight_{index}", weight.contiguous())
            self.register_buffer(f"bias_{index}", None if bias is None else bias.detach())
            if self.quantized:
                scale = layer.weight_scale.detach()
                self.register_buffer(f"scale_{index}", scale.contiguous())
                self.register_buffer(f"zero_{index}", torch.zeros(len(scale), dtype=torch.int64))

    def forward(self, rows: Tensor) -> list[Tensor]:
        """rows (..., I) float32 to one (..., O) float32 for each layer."""
        ops = torch.ops.quantized_decomposed
        if self.quantized:
            scale, zero = ops.choose_qparams_per_token_asymmetric(rows, torch.int8)
            integers = ops.quantize_per_token(rows, scale, zero, -128, 127, torch.int8)
            rows = ops.dequantize_per_token(
                integers, scale, zero, -128, 127, torch.int8, torch.float32
            )
        return [F.linear(rows, self.weight(i), self.get(f"bias_{i}")) for i in range(self.count)]

    def get(self, name: str) -> Any:
        return getattr(self, name)

    def weight(self, index: int) -> Tensor:
        weight: Tensor = self.get(f"weight_{index}")
        if not self.quantized:
            return weight
        return torch.ops.quantized_decomposed.dequantize_per_channel(
            weight,
            self.get(f"scale_{index}"),
            self.get(f"zero_{index}"),
            0,
            -LARGEST,
            LARGEST,
            torch.int8,
        )


class RowLinear(RowLinears):
    """One linear layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__([layer])

    def forward(self, rows: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(rows)[0]


class RowFeedForward(nn.Module):
    """A dense feed-forward layer, or one expert."""

    def __init__(self, layer: FeedForward) -> None:
        super().__init__()
        self.w_1 = RowLinear(layer.w_1)
        self.activation = layer.activation
        self.w_2 = RowLinear(layer.w_2)

    def forward(self, rows: Tensor) -> Tensor:
        return self.w_2(self.activation(self.w_1(rows)))


class RowMoe(nn.Module):
    """The expert layer for up to ``max_rows`` rows."""

    def __init__(self, layer: MoeFeedForward, max_rows: int) -> None:
        super().__init__()
        self.gate = nn.Linear(layer.gate.in_features, layer.gate.out_features, bias=False)
        self.gate.weight = layer.gate.weight
        self.experts = nn.ModuleList(RowFeedForward(expert) for expert in layer.experts)
        self.k = layer.n_expert_activated
        self.max_rows = max_rows
        self.register_buffer("ids", torch.arange(len(self.experts)).unsqueeze(1))

    def forward(self, rows: Tensor) -> Tensor:
        frames = rows.size(0)
        value, expert = self.gate(rows).topk(self.k, dim=-1)
        weight = torch.softmax(value, dim=-1).t().reshape(self.k, -1, 1)
        # Pairs are numbered choice by choice: pair j * T' + t is the j-th choice of row t.
        hit = self.ids == expert.t().reshape(1, -1)
        # Reading expert by expert, the n-th hit is the n-th row of the sorted order.
        order = torch.cumsum(hit.reshape(-1), 0).reshape(len(self.experts), -1)
        place = (order * hit).sum(0) - 1
        pairs = torch.arange(self.k * frames)
        source = torch.remainder(pairs, frames)
        source = torch.zeros_like(place).index_put((place,), source)
        counts = hit.sum(1).tolist()
        for count in counts:
            torch._check(count >= 0)
            torch._check(count <= self.max_rows)
        torch._check(sum(counts) == self.k * frames)
        parts = rows.index_select(0, source).split(counts)
        y = torch.cat([run(part) for run, part in zip(self.experts, parts, strict=True)])
        chosen = place.reshape(self.k, -1)
        return sum(
            (y.index_select(0, chosen[j]) * weight[j] for j in range(1, self.k)),
            start=y.index_select(0, chosen[0]) * weight[0],
        )


def row_feed_forward(layer: nn.Module, max_rows: int) -> nn.Module:
    """``layer`` for rows (R, D), of which there are at most ``max_rows``."""
    if isinstance(layer, MoeFeedForward):
        return RowMoe(layer, max_rows)
    assert isinstance(layer, FeedForward)
    return RowFeedForward(layer)


class FeedForwardBlock(Block):
    """A feed-forward layer with its norm and residual."""

    def __init__(self, layer: nn.Module, norm: nn.Module, max_rows: int, factor: float) -> None:
        super().__init__()
        self.norm, self.factor = norm, factor
        self.layer = row_feed_forward(layer, max_rows)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """x (R, D) to the same."""
        y = self.layer(self.norm(x))
        return (x + (y if self.factor == 1 else self.factor * y),)


def split(rows: Tensor, heads: int) -> Tensor:
    """(R, D) to (H, R, d)."""
    return rows.view(-1, heads, rows.size(1) // heads).permute(1, 0, 2)


def merge(parts: Tensor) -> Tensor:
    """(H, R, d) to (R, D)."""
    return parts.permute(1, 0, 2).reshape(-1, parts.size(0) * parts.size(2))
