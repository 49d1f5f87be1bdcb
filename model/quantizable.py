"""Which layers become integers when a network is quantized; the one rule for int8 programs
(``quant``) and for checkpoints at half their size (``model.compact``)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from model.convolution import PointwiseConv

# Routers choose experts: rounding flips the choice. Everything that is neither a linear layer nor a
# wide convolution (norms, softmax, depthwise convolutions, positions) is float32 anyway; so is the
# first convolution, which has one channel, or plain features, to read and costs next to nothing.
FLOAT_LAYERS = ("gate", "first")


def quantizable(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of all layers that are quantized."""
    for name, module in root.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels > 1:
                yield name, module
        elif isinstance(module, nn.Linear | PointwiseConv):
            if name.rpartition(".")[2] not in FLOAT_LAYERS:
                yield name, module
