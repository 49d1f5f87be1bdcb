"""Which layers become integers, of how many bits, and which stay float32 and why."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from model.convolution import PointwiseConv
from model.feed_forward import MoeFeedForward

# Routers choose experts: rounding flips the choice. Everything that is neither a linear layer nor a
# wide convolution (norms, softmax, depthwise convolutions, positions) is float32 anyway; so is the
# first convolution, which has one channel, or plain features, to read and costs next to nothing.
FLOAT_LAYERS = ("gate", "first")


def quantizable(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of all layers that the plan quantizes."""
    for name, module in root.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels > 1:
                yield name, module
        elif isinstance(module, nn.Linear | PointwiseConv):
            if name.rpartition(".")[2] not in FLOAT_LAYERS:
                yield name, module


def expert_linears(root: nn.Module) -> set[str]:
    """Names of the experts' linear layers, the only ones that int4 makes smaller than int8.

    Most of a model's bytes are theirs, and a step waits for bytes; a dense layer's, which every
    frame reads, would cost accuracy and save little.
    """
    return {
        f"{name}.experts.{inner}"
        for name, module in root.named_modules()
        if isinstance(module, MoeFeedForward)
        for inner, layer in module.experts.named_modules()
        if isinstance(layer, nn.Linear)
    }


def replace_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` in the place that ``name`` names."""
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
