"""Attention with absolute-position keys, as WeNet's ``rel_selfattn`` computes it, and plain.

WeNet removed the relative shift, so the score of query t and key s is

    ((q_t + u) k_s + (q_t + v) p_s) / sqrt(d)  =  (q_t (k_s + p_s) + (u k_s + v p_s)) / sqrt(d)

The right side is what runs here: the cache holds ``k + p`` and one scalar per key, so a chunk
projects positions for its own frames only and attends at the price of plain attention.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class KeyCache(NamedTuple):
    """The last C frames of one layer: key + position (B, H, C, d), value (B, H, C, d), and the
    part of the score that does not depend on the query (B, H, C)."""

    key: Tensor
    value: Tensor
    score: Tensor


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, D) to (B, H, T, d)."""
    batch, frames, dim = x.shape
    return x.reshape(batch, frames, heads, dim // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, d) to (B, T, D)."""
    batch, heads, frames, width = x.shape
    return x.transpose(1, 2).reshape(batch, frames, heads * width)


def attend(scores: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """Masked softmax of scores (B, H, T, S) over S, in float32, times value (B, H, S, d).

    ``mask`` is boolean and broadcasts to the scores; a row that sees nothing gives zeros.
    """
    scores = scores.float().masked_fill(~mask, -float("inf"))
    weights = torch.softmax(scores, dim=-1).masked_fill(~mask, 0.0)
    return merge_heads(weights.to(value.dtype) @ value)


class Attention(nn.Module):
    """Multi-head attention (decoder self-attention and cross-attention)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(dim, dim)
        self.linear_k = nn.Linear(dim, dim)
        self.linear_v = nn.Linear(dim, dim)
        self.linear_out = nn.Linear(dim, dim)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """query (B, T, D) over memory (B or 1, S, D) with mask (B, 1, 1 or T, S)."""
        q = split_heads(self.linear_q(query), self.heads)
        k = split_heads(self.linear_k(memory), self.heads)
        v = split_heads(self.linear_v(memory), self.heads)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
        return self.linear_out(attend(scores, mask, v))


class PositionAttention(Attention):
    """Encoder self-attention over a cache of past frames and the frames of this call."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, dim // heads))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, dim // heads))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def step(
        self, x: Tensor, positions: Tensor, mask: Tensor, cache: KeyCache
    ) -> tuple[Tensor, KeyCache]:
        """x (B, T, D), position encodings (1, T, D), mask (B or 1, 1, 1 or T, C + T).

        Returns the attention's output (B, T, D) and the cache of the last C frames.
        """
        q = split_heads(self.linear_q(x), self.heads)
        k = split_heads(self.linear_k(x), self.heads)
        v = split_heads(self.linear_v(x), self.heads)
        p = split_heads(self.linear_pos(positions), self.heads)
        bias = k @ self.pos_bias_u.unsqueeze(-1) + p @ self.pos_bias_v.unsqueeze(-1)
        key = torch.cat([cache.key, k + p], dim=2)
        value = torch.cat([cache.value, v], dim=2)
        score = torch.cat([cache.score, bias.squeeze(-1)], dim=2)
        scores = (q @ key.transpose(-2, -1) + score.unsqueeze(2)) / math.sqrt(q.size(-1))
        out = self.linear_out(attend(scores, mask, value))
        new = x.size(1)
        return out, KeyCache(key[:, :, new:], value[:, :, new:], score[:, :, new:])


class PlainAttention(Attention):
    """Encoder self-attention that knows positions from its input alone (WeNet's ``selfattn``).

    The cache is that of ``PositionAttention``; its scores are zeros, and there to hide frames.
    """

    def step(
        self, x: Tensor, positions: Tensor, mask: Tensor, cache: KeyCache
    ) -> tuple[Tensor, KeyCache]:
        """See ``PositionAttention.step``; ``positions`` are of no consequence."""
        q = split_heads(self.linear_q(x), self.heads)
        key = torch.cat([cache.key, split_heads(self.linear_k(x), self.heads)], dim=2)
        value = torch.cat([cache.value, split_heads(self.linear_v(x), self.heads)], dim=2)
        score = torch.cat([cache.score, torch.zeros_like(key[:, :, cache.key.size(2) :, 0])], dim=2)
        scores = (q @ key.transpose(-2, -1) + score.unsqueeze(2)) / math.sqrt(q.size(-1))
        out = self.linear_out(attend(scores, mask, value))
        new = x.size(1)
        return out, KeyCache(key[:, :, new:], value[:, :, new:], score[:, :, new:])
