"""The Conformer's convolution module, causal, with a cache (WeNet's ``ConvolutionModule``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.feed_forward import ACTIVATIONS


class CausalConvolution(nn.Module):
    """Pointwise, GLU, depthwise over the last K frames, norm, activation, pointwise.

    WeNet pads with K - 1 zero frames *before* the first pointwise layer, so past its GLU the
    padding is not zero but ``rest = glu(bias)``. The cache holds the GLU's output minus
    ``rest``: a state of zeros is then WeNet's padding, and old frames are not projected again.
    """

    def __init__(self, dim: int, kernel: int, norm: str, activation: str) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(dim, 2 * dim, 1)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.norm = nn.LayerNorm(dim) if norm == "layer_norm" else nn.BatchNorm1d(dim)
        self.activation = ACTIVATIONS[activation]()
        self.pointwise_conv2 = nn.Conv1d(dim, dim, 1)

    def step(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, D) and cache (B, K-1, D) to the output (B, T, D) and the next cache."""
        gated = F.glu(self.pointwise1(x), dim=-1)
        if cache.size(1) == 0:
            window, rest = gated, torch.zeros_like(gated[:, :0])
        else:
            bias = self.pointwise_conv1.bias
            assert bias is not None
            rest_row = F.glu(bias, dim=0)
            past = torch.cat([cache, gated - rest_row], dim=1)
            window, rest = past + rest_row, past[:, past.size(1) - cache.size(1) :]
        y = self.depthwise(window)
        if isinstance(self.norm, nn.BatchNorm1d):
            y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        else:
            y = self.norm(y)
        return self.pointwise2(self.activation(y)), rest

    def pointwise1(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, 2D): a 1x1 convolution is a linear layer."""
        return F.linear(x, self.pointwise_conv1.weight.squeeze(-1), self.pointwise_conv1.bias)

    def pointwise2(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        return F.linear(x, self.pointwise_conv2.weight.squeeze(-1), self.pointwise_conv2.bias)

    def depthwise(self, window: Tensor) -> Tensor:
        """(B, K-1+T, D) to (B, T, D)."""
        return self.depthwise_conv(window.transpose(1, 2)).transpose(1, 2)
