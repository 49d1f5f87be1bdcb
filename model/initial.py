"""Where training begins, if not from nothing: with another model's encoder."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from edge_asr.errors import ConfigError
from model.checkpoint import Checkpoint
from model.network import Network

# Tensors with one row per unit, by the ends of their names.
_ROWS = ("ctc_lo.weight", "ctc_lo.bias", "embed.0.weight", "output_layer.weight",
         "output_layer.bias")  # fmt: skip


@torch.no_grad()
def begin_from(network: Network, symbols: Sequence[str], checkpoint: Checkpoint) -> None:
    """Take over the checkpoint's weights; of what has a row per unit, the rows of units that both
    models have.

    Raises:
        ConfigError: an encoder of another shape.
    """
    theirs = checkpoint.network.state_dict()
    places = {symbol: index for index, symbol in enumerate(checkpoint.symbols)}
    shared = [(here, places[symbol]) for here, symbol in enumerate(symbols) if symbol in places]
    here, there = (torch.tensor(column) for column in zip(*shared, strict=True))
    for name, ours in network.state_dict().items():
        source = theirs.get(name)
        if not name.startswith("encoder.") and name.endswith(_ROWS) and source is not None:
            if source.shape[1:] == ours.shape[1:]:
                ours[here] = source[there]
        elif _same_shape(source, ours):
            assert source is not None
            ours.copy_(source)
        elif name.startswith("encoder."):
            raise ConfigError(
                f"{checkpoint.path}: {name} does not fit; train.init needs an encoder of the "
                "same shape as the recipe's"
            )


def freeze(network: Network, prefixes: Sequence[str]) -> None:
    """Let the parameters whose names begin with one of ``prefixes``, in which a star stands for
    anything, stay as they are.

    Raises:
        ConfigError: no parameter's name begins so.
    """
    for prefix in prefixes:
        named = [
            parameter
            for name, parameter in network.named_parameters()
            if fnmatchcase(name, f"{prefix}*")
        ]
        if not named:
            raise ConfigError(f"train.frozen: no parameter's name begins with {prefix!r}")
        for parameter in named:
            parameter.requires_grad_(False)


def _same_shape(source: Tensor | None, ours: Tensor) -> bool:
    return source is not None and source.shape == ours.shape
