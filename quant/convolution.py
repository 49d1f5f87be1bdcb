"""The quantized convolution: a linear layer over each window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quant.linear import QuantLinear, quantize_linear


class QuantConv2d(nn.Module):
    """A convolution without padding, whose window is one row of a quantized linear layer.

    A row is the window's places, row by row, each with its channels.
    """

    def __init__(self, window: QuantLinear, kernel: int, stride: int) -> None:
        super().__init__()
        self.window = window
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) to (B, O, (T - kernel) // stride + 1, (F - kernel) // stride + 1)."""
        rows = (x.size(2) - self.kernel) // self.stride + 1
        columns = (x.size(3) - self.kernel) // self.stride + 1
        last = x.permute(0, 2, 3, 1)
        step = self.stride
        parts = [
            last[:, i : i + step * (rows - 1) + 1 : step, j : j + step * (columns - 1) + 1 : step]
            for i in range(self.kernel)
            for j in range(self.kernel)
        ]
        y = self.window(torch.cat(parts, dim=3))
        return y.permute(0, 3, 1, 2)


def quantize_conv2d(layer: nn.Conv2d) -> QuantConv2d:
    """Quantize a square convolution without padding, dilation or groups."""
    window = quantize_linear(conv2d_rows(layer), layer.bias)
    return QuantConv2d(window, layer.kernel_size[0], layer.stride[0])


def conv2d_rows(layer: nn.Conv2d) -> Tensor:
    """The weight (O, I, k, k) as that of a linear layer over windows (O, k * k * I)."""
    return layer.weight.detach().float().permute(0, 2, 3, 1).reshape(layer.out_channels, -1)
