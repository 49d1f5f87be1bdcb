"""Convolutional subsampling of feature frames (WeNet's ``Conv2dSubsampling{4,6,8}``)."""

from __future__ import annotations

from torch import Tensor, nn

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
