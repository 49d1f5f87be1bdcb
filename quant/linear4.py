"""The linear layer with int4 weights, the one meaning of "int4" that every program must reproduce.

Weights are integers from -8 to 7 in groups of 32, 64 or 128 input channels. Each group of each
output channel has a bfloat16 scale, against which its weights were rounded. Activations are int8
per row, as in quant/linear.py; here they are bytes, u = q + 128 with the zero point z + 128:

    total = sum over groups, in their order, of float32(u . w of the group) * group_scale
    y = (total - (z + 128) * scaled_sum) * s + bias

scaled_sum is the sum over groups of group_scale * (sum of the group's weights). The products of a
group are whole numbers below 2^18, so float32 holds them exactly; the rest rounds in this order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_asr.errors import ConfigError
from quant.linear import SMALLEST_SCALE, quantize_rows

GROUPS = (32, 64, 128)
LOWEST, HIGHEST = -8, 7

# A group's scale is its largest weight divided by one of these. Beyond the range of the integers
# the largest weight itself is clipped, which pays where the others are much smaller. The sign
# decides whether it takes the side of -8 or that of 7.
_DIVISORS = (-10.0, -9.25, -8.5, -8.0, -7.5, 7.0, 7.5, 8.0, 8.75)
_ROWS = 64  # at a time, so that what is searched stays in the processor's cache


class QuantLinear4(nn.Module):
    """int8 weight (O, I) of int4 values, weight_scale (O, G) bfloat16 and bias (O,) float32."""

    def __init__(
        self, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, group: int
    ) -> None:
        super().__init__()
        self.group = group
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("scaled_sum", _scaled_sum(weight, weight_scale, group))
        self.register_buffer("bias", torch.zeros(len(weight)) if bias is None else bias)
        self.weight: Tensor
        self.weight_scale: Tensor
        self.scaled_sum: Tensor  # what a zero point adds to each total
        self.bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) float32 to (..., O) float32."""
        integers, scale, zero = quantize_rows(x.reshape(-1, x.size(-1)))
        parts = (integers.float() + 128.0).split(self.group, dim=1)
        weights = self.weight.float().split(self.group, dim=1)
        total = x.new_zeros(len(integers), len(self.weight))
        for part, weight, group_scale in zip(
            parts, weights, self.weight_scale.float().unbind(1), strict=True
        ):
            total = total + (part @ weight.t()) * group_scale
        y = (total - (zero + 128.0) * self.scaled_sum) * scale + self.bias
        return y.reshape(*x.shape[:-1], len(self.weight))

    def dequantized(self) -> Tensor:
        """The weight (O, I) that the integers stand for."""
        return self.weight.float() * _each(self.weight_scale, self.weight.size(1), self.group)


def quantize_linear4(weight: Tensor, bias: Tensor | None, group: int) -> QuantLinear4:
    """Quantize a linear layer's weight (O, I) and bias (O,).

    Raises:
        ConfigError: no such size of a group.
    """
    if group not in GROUPS:
        raise ConfigError(f"int4 groups of {group} channels; allowed are 32, 64 and 128")
    integers, scale = quantize_weight4(weight.detach().float(), group)
    return QuantLinear4(integers, scale, None if bias is None else bias.detach().float(), group)


def quantize_weight4(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Round a weight (O, I) to int8 in [-8, 7] and bfloat16 scales (O, G).

    Of the scales tried for a group, the one with the smallest squared error.
    """
    outputs, inputs = weight.shape
    grouped = F.pad(weight, (0, -inputs % group)).reshape(outputs, -1, group)
    found = [_search(rows) for rows in grouped.split(_ROWS)]
    integers, scale = (torch.cat(parts) for parts in zip(*found, strict=True))
    return integers.reshape(outputs, -1)[:, :inputs].to(torch.int8).contiguous(), scale


def _search(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Integers (N, G, group) and bfloat16 scales (N, G) of groups (N, G, group)."""
    where = groups.abs().argmax(dim=2, keepdim=True)
    largest = groups.gather(2, where).squeeze(2)
    best = _round(groups, largest / _DIVISORS[0])
    for divisor in _DIVISORS[1:]:
        best = _better(best, _round(groups, largest / divisor))
    # The integers known, the least squares say which scale suits them best.
    integers = best[0]
    fitted = (groups * integers).sum(2) / integers.square().sum(2).clamp(min=1.0)
    integers, scale, _ = _better(best, _round(groups, fitted))
    return integers, scale


_Rounded = tuple[Tensor, Tensor, Tensor]  # integers, bfloat16 scales, squared errors


def _round(groups: Tensor, wanted: Tensor) -> _Rounded:
    """Groups (N, G, group) against scales (N, G), which are rounded first."""
    tiny = torch.full_like(wanted, SMALLEST_SCALE)
    scale = torch.where(wanted.abs() < SMALLEST_SCALE, tiny, wanted).to(torch.bfloat16)
    step = scale.float().unsqueeze(2)
    integers = torch.round(groups / step).clamp(LOWEST, HIGHEST)
    return integers, scale, (integers * step - groups).square().sum(2)


def _better(one: _Rounded, other: _Rounded) -> _Rounded:
    """Group by group the one with the smaller error."""
    take = other[2] < one[2]
    return (
        torch.where(take.unsqueeze(2), other[0], one[0]),
        torch.where(take, other[1], one[1]),
        torch.where(take, other[2], one[2]),
    )


def _scaled_sum(weight: Tensor, weight_scale: Tensor, group: int) -> Tensor:
    """float32 (O,) of weight (O, I)."""
    total = torch.zeros(len(weight))
    for part, scale in zip(weight.split(group, dim=1), weight_scale.unbind(1), strict=True):
        total = total + part.sum(dim=1).float() * scale.float()
    return total


def _each(scale: Tensor, inputs: int, group: int) -> Tensor:
    """Scales (O, G) of groups as those of input channels (O, I)."""
    return scale.float().repeat_interleave(group, dim=1)[:, :inputs]
