"""The attention decoders, left to right and right to left (U2++, arXiv 2106.05642)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.attention import Attention
from model.config import NetworkConfig
from model.encoder import sinusoids
from model.feed_forward import build_feed_forward

LEARNED_POSITIONS = 448  # as many as Whisper's decoder has


class UnitEmbedding(nn.Sequential):
    """Units (B, U) with their positions, (B, U, D): scaled, with sinusoids, or with positions that
    are learned, as Whisper's are."""

    def __init__(self, vocab_size: int, dim: int, positions_learned: bool) -> None:
        super().__init__(nn.Embedding(vocab_size, dim))
        self.positions: nn.Parameter | None = None
        if positions_learned:
            self.positions = nn.Parameter(torch.zeros(LEARNED_POSITIONS, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self[0](tokens)
        if self.positions is not None:
            return x + self.positions[: tokens.size(1)]
        places = torch.arange(tokens.size(1), device=tokens.device)
        dim = self[0].embedding_dim  # a number to the exporters, which a size of x is not
        return x * math.sqrt(dim) + sinusoids(places, dim)


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention, feed-forward, each on a residual."""

    def __init__(self, conf: NetworkConfig, dropout: float = 0.0) -> None:
        super().__init__()
        dim = conf.dim
        self.self_attn = Attention(dim, conf.decoder_heads)
        self.src_attn = Attention(dim, conf.decoder_heads)
        self.feed_forward = build_feed_forward(dim, conf.decoder_feed_forward)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """x (B, U, D) with mask (B, 1, U, U) over memory (B or 1, T', D) with memory_mask
        (B or 1, 1, 1, T') to (B, U, D)."""
        query = self.norm1(x)
        x = x + self.dropout(self.self_attn(query, query, mask))
        x = x + self.dropout(self.src_attn(self.norm2(x), memory, memory_mask))
        return x + self.dropout(self.feed_forward(self.norm3(x)))


class Decoder(nn.Module):
    """One direction: tokens so far and the encoder's output to scores of the next token."""

    def __init__(self, conf: NetworkConfig, blocks: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = UnitEmbedding(conf.vocab_size, conf.dim, conf.decoder_positions_learned)
        self.decoders = nn.ModuleList(DecoderLayer(conf, dropout) for _ in range(blocks))
        self.after_norm = nn.LayerNorm(conf.dim)
        self.output_layer = nn.Linear(conf.dim, conf.vocab_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Tensor, token_mask: Tensor, memory: Tensor, memory_mask: Tensor
    ) -> Tensor:
        """tokens (B, U) beginning with sos, token_mask (B, U), memory (B or 1, T', D),
        memory_mask (B or 1, T') to logits (B, U, V)."""
        length = tokens.size(1)
        x = self.dropout(self.embed(tokens))
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        mask = (token_mask.unsqueeze(1) & causal).unsqueeze(1)
        for layer in self.decoders:
            x = layer(x, mask, memory, memory_mask[:, None, None, :])
        return self.output_layer(self.after_norm(x))


class BiDecoder(nn.Module):
    """WeNet's ``bitransformer``: two complete decoders."""

    def __init__(self, conf: NetworkConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.left_decoder = Decoder(conf, conf.decoder_blocks, dropout)
        self.right_decoder = Decoder(conf, conf.reverse_decoder_blocks, dropout)
