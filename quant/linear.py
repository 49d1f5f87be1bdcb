"""The quantized linear layer, the one meaning of "int8" that every program must reproduce.

Weights are int8 with one scale per output channel. Activations are quantized when they arrive,
with one scale and one zero point per row (frame), so what a frame gives never depends on which
frames share its chunk or its expert:

    low = min(x, 0)    high = max(x, 0)    s = (high - low) / 255    z = round(-low / s) - 128
    q = round(x / s) + z                   y = ((q - z) . w) * s * weight_scale + bias

XNNPACK rounds like this and cannot do otherwise, so all programs do. The product is exact in int32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_asr.errors import ConfigError

LARGEST = 127
SMALLEST_SCALE = 1e-8  # a row of zeros divides by this instead of by zero


class QuantLinear(nn.Module):
    """int8 weight (O, I), weight_scale (O,) and bias (O,) float32."""

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("weight_sum", weight.sum(dim=1, dtype=torch.int32))
        self.register_buffer("bias", torch.zeros(len(weight)) if bias is None else bias)
        self.weight: Tensor
        self.weight_scale: Tensor
        self.weight_sum: Tensor  # int32: what a zero point adds to each product
        self.bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) float32 to (..., O) float32."""
        integers, scale, zero = quantize_rows(x.reshape(-1, x.size(-1)))
        product = torch._int_mm(integers, self.weight.t())
        product = product - zero.to(torch.int32) * self.weight_sum
        y = product.float() * scale * self.weight_scale + self.bias
        shape = x.shape[:-1] + (self.weight.size(0),)  # noqa: RUF005  TorchScript compiles this
        return y.reshape(shape)

    def dequantized(self) -> Tensor:
        """The weight (O, I) that the integers stand for."""
        return self.weight.float() * self.weight_scale.unsqueeze(1)


def quantize_rows(
    rows: Tensor, smallest_scale: float = SMALLEST_SCALE, largest: int = LARGEST
) -> tuple[Tensor, Tensor, Tensor]:
    """int8 integers of rows (N, I), and of each row scale and zero point (N, 1) float32.

    The limits are arguments because TorchScript compiles no function that reads a global.
    """
    low = rows.amin(dim=1, keepdim=True).clamp(max=0.0)
    high = rows.amax(dim=1, keepdim=True).clamp(min=0.0)
    scale = ((high - low) / 255.0).clamp(min=smallest_scale)
    zero = -128.0 - torch.round(low / scale)
    integers = (torch.round(rows / scale) + zero).clamp(max=largest).to(torch.int8)
    return integers, scale, zero


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight (O, I) to int8 in [-127, 127] and a scale (O,)."""
    scale = (weight.abs().amax(dim=1) / LARGEST).clamp(min=SMALLEST_SCALE)
    integers = torch.round(weight / scale.unsqueeze(1)).clamp(-LARGEST, LARGEST)
    return integers.to(torch.int8), scale


def quantize_linear(weight: Tensor, bias: Tensor | None) -> QuantLinear:
    """Quantize a linear layer's weight (O, I) and bias (O,).

    Raises:
        ConfigError: I is 1, where torch 2.13's integer product returns memory never written.
    """
    if weight.size(1) < 2:
        raise ConfigError(
            "a layer with one input cannot be quantized; use --precision fp32, or linear_units of "
            "at least 2"
        )
    integers, scale = quantize_weight(weight.detach().float())
    return QuantLinear(integers, scale, None if bias is None else bias.detach().float())
