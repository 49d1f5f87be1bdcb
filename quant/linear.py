"""The quantized linear layer, the one meaning of "int8" that every program must reproduce.

Weights are int8 with one scale per output channel. Activations are quantized when they arrive,
symmetrically and with one scale per row (frame), so what a frame gives never depends on which
frames share its chunk or its expert:

    s = max|x| / 127      q = round(x / s)      y = (q . w) * s * weight_scale + bias

The product is exact in int32.
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
        self.register_buffer("bias", torch.zeros(len(weight)) if bias is None else bias)
        self.weight: Tensor
        self.weight_scale: Tensor
        self.bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) float32 to (..., O) float32."""
        rows = x.reshape(-1, x.size(-1))
        scale = (rows.abs().amax(dim=1, keepdim=True) / 127.0).clamp(min=1e-8)
        integers = torch.round(rows / scale).to(torch.int8)
        product = torch._int_mm(integers, self.weight.t())
        y = product.float() * scale * self.weight_scale + self.bias
        shape = x.shape[:-1] + (self.weight.size(0),)  # noqa: RUF005  TorchScript compiles this
        return y.reshape(shape)

    def dequantized(self) -> Tensor:
        """The weight (O, I) that the integers stand for."""
        return self.weight.float() * self.weight_scale.unsqueeze(1)


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
