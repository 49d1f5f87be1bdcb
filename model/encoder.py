"""The streaming Conformer encoder: one forward for chunks and for whole utterances.

State is a value. Its tensors start as zeros, never change shape, and how much of them is
valid follows from ``offset``, the number of encoder frames seen before.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.attention import KeyCache, PlainAttention, PositionAttention
from model.config import POSITION_PERIOD, WHISPER_PERIOD, NetworkConfig
from model.convolution import CausalConvolution
from model.feed_forward import build_feed_forward
from model.subsampling import build_subsampling


class EncoderState(NamedTuple):
    """For every layer: key + position and value (L, B, H, C, d), query-free score (L, B, H, C),
    convolution history (L, B, K-1, D). C is the left context in encoder frames."""

    key: Tensor
    value: Tensor
    score: Tensor
    conv: Tensor


class GlobalCmvn(nn.Module):
    """(feats - mean) * istd, with the statistics of the training set."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bins))
        self.register_buffer("istd", torch.ones(bins))
        self.mean: Tensor
        self.istd: Tensor

    def forward(self, feats: Tensor) -> Tensor:
        """feats (B, T, F) to the same, normalised."""
        return (feats - self.mean) * self.istd


class EncoderLayer(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, each on a residual."""

    def __init__(self, conf: NetworkConfig, dropout: float = 0.0) -> None:
        super().__init__()
        dim = conf.dim
        self.feed_forward_macaron = build_feed_forward(dim, conf.feed_forward)
        attention = PositionAttention if conf.positions == "rel_pos" else PlainAttention
        self.self_attn = attention(dim, conf.heads)
        self.conv_module = CausalConvolution(
            dim, conf.kernel, conf.conv_norm, conf.feed_forward.activation
        )
        self.feed_forward = build_feed_forward(dim, conf.feed_forward)
        self.norm_ff_macaron = nn.LayerNorm(dim)
        self.norm_mha = nn.LayerNorm(dim)
        self.norm_conv = nn.LayerNorm(dim)
        self.norm_ff = nn.LayerNorm(dim)
        self.norm_final = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def step(
        self, x: Tensor, positions: Tensor, mask: Tensor, cache: KeyCache, conv: Tensor
    ) -> tuple[Tensor, KeyCache, Tensor]:
        """One layer over x (B, T', D); returns the output and the caches after it."""
        x = x + 0.5 * self.dropout(self.feed_forward_macaron(self.norm_ff_macaron(x)))
        attended, cache = self.self_attn.step(self.norm_mha(x), positions, mask, cache)
        x = x + self.dropout(attended)
        convolved, conv = self.conv_module.step(self.norm_conv(x), conv)
        x = x + self.dropout(convolved)
        x = x + 0.5 * self.dropout(self.feed_forward(self.norm_ff(x)))
        return self.norm_final(x), cache, conv


class Encoder(nn.Module):
    """Subsampling, position encoding, Conformer blocks."""

    def __init__(self, conf: NetworkConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.conf = conf
        self.global_cmvn = GlobalCmvn(conf.input_dim)
        self.embed = build_subsampling(conf.input_layer, conf.input_dim, conf.dim)
        self.encoders = nn.ModuleList(EncoderLayer(conf, dropout) for _ in range(conf.blocks))
        self.after_norm = nn.LayerNorm(conf.dim)
        self.dropout = nn.Dropout(dropout)

    def zero_state(self, left_context: int, batch: int = 1) -> EncoderState:
        """The state of a stream that begins, with ``left_context`` encoder frames of room."""
        conf = self.conf
        keys = (conf.blocks, batch, conf.heads, left_context)
        return EncoderState(
            key=torch.zeros(*keys, conf.dim // conf.heads),
            value=torch.zeros(*keys, conf.dim // conf.heads),
            score=torch.zeros(*keys),
            conv=torch.zeros(conf.blocks, batch, conf.kernel - 1, conf.dim),
        )

    def step(
        self, feats: Tensor, offset: Tensor, state: EncoderState
    ) -> tuple[Tensor, EncoderState]:
        """One chunk: feats (B, T, F), offset int64 (1,), state; every frame of the chunk sees
        the whole chunk and the valid part of the left context."""
        frames = subsampled_frames(feats.size(1), self.conf)
        left = state.key.size(3)
        slots = torch.arange(left + frames, device=feats.device)
        mask = (slots >= left - offset).reshape(1, 1, 1, -1)
        return self(feats, offset, state, mask)

    def forward(
        self, feats: Tensor, offset: Tensor, state: EncoderState, mask: Tensor
    ) -> tuple[Tensor, EncoderState]:
        """feats (B, T, F) to encoder_out (B, T', D) and the next state.

        ``mask`` (B or 1, 1, 1 or T', C + T') says which frames each frame may see.
        """
        x, positions = with_positions(self.embed(self.global_cmvn(feats)), offset, self.conf)
        x = self.dropout(x)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        scores: list[Tensor] = []
        convs: list[Tensor] = []
        for index, layer in enumerate(self.encoders):
            cache = KeyCache(state.key[index], state.value[index], state.score[index])
            x, cache, conv = layer.step(x, positions, mask, cache, state.conv[index])
            keys.append(cache.key)
            values.append(cache.value)
            scores.append(cache.score)
            convs.append(conv)
        next_state = EncoderState(
            torch.stack(keys), torch.stack(values), torch.stack(scores), torch.stack(convs)
        )
        return self.after_norm(x), next_state


def subsampled_frames(frames: int, conf: NetworkConfig) -> int:
    """Encoder frames of ``frames`` feature frames: whole windows of right_context + 1."""
    return (frames - conf.right_context - 1) // conf.subsampling_rate + 1


def with_positions(x: Tensor, offset: Tensor, conf: NetworkConfig) -> tuple[Tensor, Tensor]:
    """What goes into the first layer, of subsampled x (B, T', D) and the frames before it.

    Returns:
        x (B, T', D), and the encodings (1, T', D) that attention with positions of its own reads.
    """
    steps = torch.arange(x.size(1), device=x.device)
    if conf.positions == "rel_pos":
        positions = sinusoids(torch.remainder(offset + steps, POSITION_PERIOD), conf.dim)
        return x * math.sqrt(conf.dim), positions.unsqueeze(0).to(x.dtype)
    positions = whisper_positions(torch.remainder(offset + steps, WHISPER_PERIOD), conf.dim)
    positions = positions.unsqueeze(0).to(x.dtype)
    return x + positions, positions


def whisper_positions(frames: Tensor, dim: int) -> Tensor:
    """Position encodings (T', D) of frames of 40 ms (T',): the mean of those that Whisper's encoder
    adds to its two frames of 20 ms, sines before cosines (arXiv 2212.04356; its code)."""
    half = dim // 2
    rate = torch.exp(
        torch.arange(half, dtype=torch.float32, device=frames.device)
        * -(math.log(10000.0) / (half - 1))
    )
    # The mean of two sinusoids a step apart is one between them, less high the faster it turns.
    angles = (2 * frames.unsqueeze(1).float() + 0.5) * rate
    return torch.cat([angles.sin(), angles.cos()], dim=1) * torch.cos(rate / 2).repeat(2)


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Position encodings (T, D) of integer positions (T,): sine and cosine interleaved."""
    rate = torch.exp(
        torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device)
        * -(math.log(10000.0) / dim)
    )
    angles = positions.unsqueeze(1).float() * rate
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(-1, dim)
