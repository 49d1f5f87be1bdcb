"""The scorer of the decoder program over rows, for ExecuTorch.

All hypotheses are one list of rows (N * U, D). No tensor has four dimensions: torch.export would
compare their strides, which it cannot while two sizes are open.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.executorch_blocks import Block
from export.executorch_layers import FeedForwardBlock, RowLinear, RowLinears, merge, split
from export.program import MASKED, Scorer
from model.attention import Attention
from model.decoder import DecoderLayer


class _SelfAttention(Block):
    def __init__(self, layer: Attention, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.heads = layer.heads
        self.qkv = RowLinears([layer.linear_q, layer.linear_k, layer.linear_v])
        self.out = RowLinear(layer.linear_out)

    def forward(self, x: Tensor, bias: Tensor) -> tuple[Tensor]:
        """x (N * U, D) with bias (1, U, U) within each hypothesis to x after it."""
        width = bias.size(2)
        q, k, v = (split(part, self.heads) for part in self.qkv(self.norm(x)))
        q, k, v = (part.reshape(-1, width, part.size(2)) for part in (q, k, v))  # (H * N, U, d)
        attended = torch.bmm(torch.softmax(_scores(q, k) + bias, dim=-1), v)
        return (x + self.out(merge(attended.reshape(self.heads, -1, attended.size(2)))),)


class _CrossAttention(Block):
    def __init__(self, layer: Attention, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.heads = layer.heads
        self.q = RowLinear(layer.linear_q)
        self.kv = RowLinears([layer.linear_k, layer.linear_v])
        self.out = RowLinear(layer.linear_out)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor]:
        """x (N * U, D) over memory (T', D) to x after it."""
        q = split(self.q(self.norm(x)), self.heads)
        k, v = (split(part, self.heads) for part in self.kv(memory))
        return (x + self.out(merge(torch.bmm(torch.softmax(_scores(q, k), dim=-1), v))),)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return torch.bmm(q, k.permute(0, 2, 1)) * (1 / math.sqrt(q.size(2)))


class _Layer(nn.Module):
    def __init__(self, layer: DecoderLayer, max_rows: int) -> None:
        super().__init__()
        self.self_attention = _SelfAttention(layer.self_attn, layer.norm1)
        self.cross_attention = _CrossAttention(layer.src_attn, layer.norm2)
        self.feed_forward = FeedForwardBlock(layer.feed_forward, layer.norm3, max_rows, 1)

    def forward(self, x: Tensor, bias: Tensor, memory: Tensor) -> Tensor:
        (x,) = self.self_attention(x, bias)
        (x,) = self.cross_attention(x, memory)
        (x,) = self.feed_forward(x)
        return x


class RowScorer(nn.Module):
    """``Scorer`` for up to ``max_rows`` rows."""

    def __init__(self, scorer: Scorer, max_rows: int) -> None:
        super().__init__()
        decoder = scorer.decoder
        self.embed = decoder.embed
        self.layers = nn.ModuleList(_Layer(layer, max_rows) for layer in decoder.decoders)
        self.after_norm = decoder.after_norm
        self.output_layer = RowLinear(decoder.output_layer)

    def forward(self, tokens: Tensor, targets: Tensor, memory: Tensor) -> Tensor:
        """See ``Scorer``."""
        dim, places = memory.size(2), torch.arange(tokens.size(1))
        bias = (places.unsqueeze(1) < places).to(torch.float32) * MASKED
        x = self.embed(tokens)
        x = x.reshape(-1, dim)
        for layer in self.layers:
            x = layer(x, bias.unsqueeze(0), memory.squeeze(0))
        log_probs = F.log_softmax(self.output_layer(self.after_norm(x)), dim=-1)
        return log_probs.gather(1, targets.reshape(-1, 1)).reshape(tokens.shape)
