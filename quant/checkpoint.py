"""Quantized checkpoints: the one set of integers that every exporter lowers.

``python -m quant`` writes them into a directory with train.yaml and units.txt, and ``python -m
export`` takes that directory in place of a checkpoint. Given a checkpoint it rounds by itself, to
the same integers.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from edge_asr.errors import ConfigError
from model.checkpoint import Checkpoint, Description, load_checkpoint, read_description
from model.network import Network
from quant.convolution import conv2d_rows, quantize_conv2d
from quant.linear import QuantLinear, quantize_linear
from quant.plan import quantizable, replace_module

Precision = Literal["fp32", "int8", "int4"]

INTEGERS = "quantized.pt"


@dataclass(frozen=True)
class LayerReport:
    """What rounding did to one layer."""

    name: str
    shape: tuple[int, int]
    weight_error: float  # ||w - w'|| / ||w||


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """A network ready to be lowered, in eval mode. At fp32 it is the checkpoint's own."""

    network: Network
    float_network: Network | None  # None where only the integers are known
    described: Description
    precision: Precision
    source_sha256: str  # of final.pt
    report: tuple[LayerReport, ...]


def quantize(checkpoint: Checkpoint, precision: Precision) -> QuantizedCheckpoint:
    """The checkpoint's network at a precision; at int8 it is a copy, rounded."""
    digest = hashlib.sha256((checkpoint.path / "final.pt").read_bytes()).hexdigest()
    network = checkpoint.network.eval().requires_grad_(False)
    report: tuple[LayerReport, ...] = ()
    if precision == "int8":
        network = copy.deepcopy(network)
        report = tuple(_round_layers(network))
    return QuantizedCheckpoint(
        network, checkpoint.network, checkpoint.described, precision, digest, report
    )


def load_at(path: Path, precisions: Sequence[Precision]) -> list[QuantizedCheckpoint]:
    """A checkpoint at each precision, or the integers that ``python -m quant`` wrote.

    Raises:
        InputMissingError: a file of the directory is not there.
        ConfigError: the directory is damaged, or holds integers only and more is asked for.
    """
    if not (path / INTEGERS).is_file():
        checkpoint = load_checkpoint(path)
        return [quantize(checkpoint, precision) for precision in precisions]
    if tuple(precisions) != ("int8",):
        raise ConfigError(
            f"{path}: holds int8 weights only; export it with --precision int8, or export the "
            "checkpoint that it was made from"
        )
    return [load_integers(path)]


def save_integers(quantized: QuantizedCheckpoint, path: Path) -> None:
    """Write the quantized network's state_dict, int8 weights, scales and the float32 rest, and
    the hash of the checkpoint."""
    content = {"source_sha256": quantized.source_sha256, "weights": quantized.network.state_dict()}
    torch.save(content, path)


def load_integers(path: Path) -> QuantizedCheckpoint:
    """Read a directory that ``python -m quant`` wrote; its report stays in its own file.

    Raises:
        InputMissingError: a file of the directory is not there.
        ConfigError: train.yaml, units.txt or the integers are damaged or of another network.
    """
    described = read_description(path, INTEGERS)
    network = Network(described.conf).eval().requires_grad_(False)
    _round_layers(network)  # random weights, for the shapes
    where = path / INTEGERS
    try:
        content = torch.load(where, map_location="cpu", weights_only=True)
        digest, weights = str(content["source_sha256"]), content["weights"]
        network.load_state_dict(weights)
        for name, tensor in network.state_dict().items():
            if weights[name].dtype != tensor.dtype:
                raise TypeError(f"{name} is {weights[name].dtype}, expected {tensor.dtype}")
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, IndexError,
            AttributeError, pickle.UnpicklingError) as error:  # fmt: skip
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise ConfigError(
            f"{where}: not the integers of the network in train.yaml ({reason}); run python -m "
            "quant again"
        ) from error
    return QuantizedCheckpoint(network, None, described, "int8", digest, ())


def quantized_layers(network: nn.Module) -> list[tuple[str, QuantLinear]]:
    """All quantized layers with their names."""
    return [(n, m) for n, m in network.named_modules() if isinstance(m, QuantLinear)]


def _round_layers(network: Network) -> list[LayerReport]:
    """Replace every layer of the plan by its integers."""
    report = []
    for name, module in list(quantizable(network)):
        if isinstance(module, nn.Conv2d):
            replace_module(network, name, quantize_conv2d(module))
            linear, weight = network.get_submodule(name).window, conv2d_rows(module)
        else:
            weight, bias = _weight_of(module)
            linear = quantize_linear(weight, bias)
            replace_module(network, name, linear)
        error = (linear.dequantized() - weight).norm() / weight.norm().clamp(min=1e-12)
        report.append(LayerReport(name, (weight.size(0), weight.size(1)), float(error)))
    return report


def _weight_of(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight (O, I) and bias (O,) of a linear layer or a convolution of width 1."""
    assert isinstance(module, nn.Linear | nn.Conv1d)
    weight = module.weight.detach().float()
    return weight.reshape(weight.size(0), -1), module.bias
