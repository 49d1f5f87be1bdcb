"""Which layers become integers (``model.quantizable``), and of how many bits."""

from __future__ import annotations

from torch import nn

from model.feed_forward import MoeFeedForward
from model.quantizable import quantizable as quantizable


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
