"""Convolutional subsampling of feature frames: WeNet's ``Conv2dSubsampling{4,6,8}``, and ours for
networks that begin as Whisper's encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# input_layer -> (kernel, stride) of each 3x3 or 5x5 convolution
_LAYERS = {
    "conv2d": ((3, 2), (3, 2)),
    "conv2d6": ((3, 2), (5, 3)),
    "conv2d8": ((3, 2), (3, 2), (3, 2)),
}


class Subsampling(nn.Module):
    """feats (B, T, F) to (B, T', D). T' is what the window holds, nothing is padded."""

    def __init__(self, input_layer: str, bins: int, dim: int) -> None:
        super().__init__()
        self.bins = bins
        layers: list[nn.Module] = []
        channels = 1
        for kernel, stride in _LAYERS[input_layer]:
            layers += [nn.Conv2d(channels, dim, kernel, stride), nn.ReLU()]
            bins = (bins - kernel) // stride + 1
            channels = dim
        self.conv = nn.Sequential(*layers)
        # WeNet calls this layer out.0 in conv2d and linear in the others.
        if input_layer == "conv2d":
            self.out = nn.Sequential(nn.Linear(dim * bins, dim))
        else:
            self.linear = nn.Linear(dim * bins, dim)

    def forward(self, feats: Tensor) -> Tensor:
        x = self.conv(feats.unsqueeze(1))
        batch, channels, frames, bins = x.shape
        x = x.transpose(1, 2).reshape(batch, frames, channels * bins)
        return self.project(x)

    def project(self, x: Tensor) -> Tensor:
        """(B, T', D * bins) to (B, T', D)."""
        return self.out(x) if hasattr(self, "out") else self.linear(x)


class Conv1dSubsampling(nn.Module):
    """``conv1d4``: feats (B, T, F) to (B, T', D), four feature frames to one. Nothing is padded.

    Two convolutions over three frames, the second with a stride of 2, as in Whisper's encoder, and
    a linear layer over pairs of their frames. All are linear layers over windows of frames, so
    that they are quantized and lowered like any other.
    """

    def __init__(self, bins: int, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(3 * bins, dim)
        self.second = nn.Linear(3 * dim, dim)
        self.merge = nn.Linear(2 * dim, dim)

    def forward(self, feats: Tensor) -> Tensor:
        count = (feats.size(1) - 7) // 4 + 1  # whole windows of 7 frames
        x = F.silu(self.first(_windows(feats, 3, 1, 4 * count + 1)))
        x = F.silu(self.second(_windows(x, 3, 2, 2 * count)))
        return self.merge(_windows(x, 2, 2, count))


def _windows(x: Tensor, size: int, stride: int, count: int) -> Tensor:
    """Windows of ``size`` frames of x (B, T, D), side by side: (B, count, size * D)."""
    last = stride * (count - 1) + 1
    return torch.cat([x[:, i : i + last : stride] for i in range(size)], dim=2)


def build_subsampling(input_layer: str, bins: int, dim: int) -> nn.Module:
    """The layer that a configuration's ``input_layer`` names."""
    if input_layer == "conv1d4":
        return Conv1dSubsampling(bins, dim)
    return Subsampling(input_layer, bins, dim)
