"""Quantized checkpoints: a checkpoint directory whose ``quantized.pt`` holds the integers."""

from __future__ import annotations

import copy
import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from edge_asr.errors import ConfigError
from model.checkpoint import Checkpoint
from model.network import Network
from quant.linear import QuantLinear, quantize_linear
from quant.plan import quantizable, replace_module

Precision = Literal["fp32", "int8"]


@dataclass(frozen=True)
class LayerReport:
    """What rounding did to one layer."""

    name: str
    shape: tuple[int, int]
    weight_error: float  # ||w - w'|| / ||w||


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """A network ready to be lowered. At fp32 it is the checkpoint's own."""

    network: Network
    symbols: list[str]
    precision: Precision
    source_sha256: str
    report: tuple[LayerReport, ...]


def quantize(checkpoint: Checkpoint, precision: Precision) -> QuantizedCheckpoint:
    """Quantize a copy of the checkpoint's network."""
    digest = hashlib.sha256((checkpoint.path / "final.pt").read_bytes()).hexdigest()
    network = copy.deepcopy(checkpoint.network).eval().requires_grad_(False)
    report: list[LayerReport] = []
    if precision == "int8":
        for name, module in list(quantizable(network)):
            weight, bias = _weight_of(module)
            layer = quantize_linear(weight, bias)
            error = (layer.dequantized() - weight).norm() / weight.norm().clamp(min=1e-12)
            report.append(LayerReport(name, (weight.size(0), weight.size(1)), float(error)))
            replace_module(network, name, layer)
    return QuantizedCheckpoint(network, checkpoint.symbols, precision, digest, tuple(report))


def save_integers(quantized: QuantizedCheckpoint, path: Path) -> None:
    """Write the state_dict of the quantized network: int8 weights, scales, float32 rest."""
    torch.save(quantized.network.state_dict(), path)


def load_integers(checkpoint: Checkpoint, path: Path) -> QuantizedCheckpoint:
    """Read what ``save_integers`` wrote for ``checkpoint``.

    Raises:
        ConfigError: not a state_dict, or one of another network.
    """
    quantized = quantize(checkpoint, "int8")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        quantized.network.load_state_dict(weights)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: not the integers of {checkpoint.path} ({reason})") from error
    return quantized


def quantized_layers(network: nn.Module) -> list[tuple[str, QuantLinear]]:
    """All quantized layers with their names."""
    return [(n, m) for n, m in network.named_modules() if isinstance(m, QuantLinear)]


def _weight_of(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    assert isinstance(module, nn.Linear | nn.Conv1d)
    weight = module.weight.detach().float()
    return weight.reshape(weight.size(0), -1), module.bias
