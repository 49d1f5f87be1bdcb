"""The Conformer's convolution module, causal, with a cache (WeNet's ``ConvolutionModule``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.feed_forward import ACTIVATIONS


class PointwiseConv(nn.Conv1d):
    """A convolution of width 1, stored as WeNet stores it and computed as a linear layer."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__(dim_in, dim_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D_in) to (B, T, D_out)."""
        return F.linear(x, self.weight.squeeze(-1), self.bias)


class CausalConvolution(nn.Module):
    """Pointwise, GLU, depthwise over the last K frames, norm, activation, pointwise.

    WeNet pads with K - 1 zero frames *before* the first pointwise layer, so past its GLU the
    padding is not zero but ``rest = glu(bias)``. The cache holds the GLU's output minus
    ``rest``: a state of zeros is then WeNet's padding, and old frames are not projected again.
    """

    def __init__(self, dim: int, kernel: int, norm: str, activation: str) -> None:
        super().__init__()
        self.pointwise_conv1 = PointwiseConv(dim, 2 * dim)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.norm = nn.LayerNorm(dim) if norm == "layer_norm" else nn.BatchNorm1d(dim)
        self.activation = ACTIVATIONS[activation]()
        self.pointwise_conv2 = PointwiseConv(dim, dim)

    def step(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, D) and cache (B, K-1, D) to the output (B, T, D) and the next cache."""
        gated = F.glu(self.pointwise_conv1(x), dim=-1)
        bias = self.pointwise_conv1.bias
        assert bias is not None
        rest_row = F.glu(bias, dim=0)
        past = torch.cat([cache, gated - rest_row], dim=1)
        window, rest = past + rest_row, past[:, past.size(1) - cache.size(1) :]
        y = self.depthwise_conv(window.transpose(1, 2)).transpose(1, 2)
        if isinstance(self.norm, nn.BatchNorm1d):
            y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        else:
            y = self.norm(y)
        return self.pointwise_conv2(self.activation(y)), rest
