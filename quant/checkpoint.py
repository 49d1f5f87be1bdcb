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
from typing import Any

import torch
from torch import Tensor, nn

from edge_asr.errors import ConfigError
from edge_asr.package.manifest import Precision
from model.checkpoint import (
    DECODER_WEIGHTS,
    Checkpoint,
    Description,
    load_checkpoint,
    read_description,
)
from model.network import Network
from quant.convolution import conv2d_rows, quantize_conv2d
from quant.linear import QuantLinear, quantize_linear
from quant.linear4 import GROUPS, HIGHEST, LOWEST, QuantLinear4, quantize_linear4
from quant.plan import expert_linears, quantizable, replace_module

INTEGERS = "quantized.pt"
GROUP = 32  # input channels that share a scale at int4, where nothing else is asked for


@dataclass(frozen=True)
class LayerReport:
    """What rounding did to one layer."""

    name: str
    shape: tuple[int, int]
    bits: int
    group: int  # input channels that share a scale; 0 for all
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
    group: int = 0  # of int4 weights; 0 where there are none
    decoder_sha256: str = ""  # of decoder.pt, if there is one


def quantize(
    checkpoint: Checkpoint, precision: Precision, group: int = GROUP
) -> QuantizedCheckpoint:
    """The checkpoint's network at a precision; at int8 and int4 it is a copy, rounded.

    Args:
        group: input channels that share a scale at int4: 32, 64 or 128.

    Raises:
        ConfigError: int4 is asked for without experts or with another group, or a weight, a
            statistic of the features or a scale is not finite.
    """
    check_finite(checkpoint.network, str(checkpoint.path))
    digest = hashlib.sha256((checkpoint.path / "final.pt").read_bytes()).hexdigest()
    network = checkpoint.network.eval().requires_grad_(False)
    report: tuple[LayerReport, ...] = ()
    group = group if precision == "int4" else 0
    if precision != "fp32":
        network = copy.deepcopy(network)
        report = tuple(_round_layers(network, group))
        check_finite(network, f"{checkpoint.path} at {precision}")
    later = checkpoint.path / DECODER_WEIGHTS
    return QuantizedCheckpoint(
        network,
        checkpoint.network,
        checkpoint.described,
        precision,
        digest,
        report,
        group,
        hashlib.sha256(later.read_bytes()).hexdigest() if later.is_file() else "",
    )


def load_at(
    path: Path, precisions: Sequence[Precision], group: int | None = None
) -> list[QuantizedCheckpoint]:
    """A checkpoint at each precision, or the integers that ``python -m quant`` wrote.

    Args:
        group: see ``quantize``; None for the usual one, or that of the integers.

    Raises:
        InputMissingError: a file of the directory is not there.
        ConfigError: the directory is damaged, or holds integers only and more is asked for.
    """
    if not (path / INTEGERS).is_file():
        checkpoint = load_checkpoint(path)
        return [quantize(checkpoint, precision, group or GROUP) for precision in precisions]
    loaded = load_integers(path)
    if tuple(precisions) != (loaded.precision,):
        raise ConfigError(
            f"{path}: holds {loaded.precision} weights only; export it with --precision "
            f"{loaded.precision}, or export the checkpoint that it was made from"
        )
    if group and loaded.group and group != loaded.group:
        raise ConfigError(
            f"{path}: its int4 weights are in groups of {loaded.group}; export it without --group, "
            "or run python -m quant again"
        )
    return [loaded]


def check_finite(network: nn.Module, where: str) -> None:
    """Refuse what no speech may ever reach, and what would answer nothing if it did.

    Raises:
        ConfigError: a tensor holds NaN or infinity.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise ConfigError(
                f"{where}: {name} has {count} of {tensor.numel()} numbers that are not finite; "
                "weights, scales and statistics must be: train it again from an earlier checkpoint"
            )


def save_integers(quantized: QuantizedCheckpoint, path: Path) -> None:
    """Write the quantized network's state_dict, weights, scales and the float32 rest, what they
    are, and the hash of the checkpoint."""
    content = {
        "source_sha256": quantized.source_sha256,
        "decoder_sha256": quantized.decoder_sha256,
        "precision": quantized.precision,
        "group": quantized.group,
        "weights": quantized.network.state_dict(),
    }
    torch.save(content, path)


def load_integers(path: Path) -> QuantizedCheckpoint:
    """Read a directory that ``python -m quant`` wrote; its report stays in its own file.

    Raises:
        InputMissingError: a file of the directory is not there.
        ConfigError: train.yaml, units.txt or the integers are damaged or of another network.
    """
    described = read_description(path, INTEGERS)
    network = Network(described.conf).eval().requires_grad_(False)
    where = path / INTEGERS
    try:
        content = torch.load(where, map_location="cpu", weights_only=True)
        digest, weights = str(content["source_sha256"]), content["weights"]
        precision, group = _kind(content)
        _round_layers(network, group)  # random weights, for the shapes
        network.load_state_dict(weights)
        for name, tensor in network.state_dict().items():
            if weights[name].dtype != tensor.dtype:
                raise TypeError(f"{name} is {weights[name].dtype}, expected {tensor.dtype}")
        _check_range(network)
        check_finite(network, "it")
    except (ConfigError, OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError,
            IndexError, AttributeError, pickle.UnpicklingError) as error:  # fmt: skip
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise ConfigError(
            f"{where}: not the integers of the network in train.yaml ({reason}); run python -m "
            "quant again"
        ) from error
    decoder_digest = str(content.get("decoder_sha256", ""))
    return QuantizedCheckpoint(
        network, None, described, precision, digest, (), group, decoder_digest
    )


def quantized_layers(network: nn.Module) -> list[tuple[str, QuantLinear | QuantLinear4]]:
    """All quantized layers with their names."""
    kinds = QuantLinear | QuantLinear4
    return [(n, m) for n, m in network.named_modules() if isinstance(m, kinds)]


def _round_layers(network: Network, group: int) -> list[LayerReport]:
    """Replace every layer of the plan by its integers; the experts' are int4 with a group."""
    experts = expert_linears(network) if group else set()
    if group and not experts:
        raise ConfigError(
            "int4 is for experts, and the network in train.yaml has none; use --precision int8"
        )
    report = []
    for name, module in list(quantizable(network)):
        linear: QuantLinear | QuantLinear4
        if name in experts:
            weight, bias = _weight_of(module)
            linear = quantize_linear4(weight, bias, group)
            replace_module(network, name, linear)
        elif isinstance(module, nn.Conv2d):
            replace_module(network, name, quantize_conv2d(module))
            linear, weight = network.get_submodule(name).window, conv2d_rows(module)
        else:
            weight, bias = _weight_of(module)
            linear = quantize_linear(weight, bias)
            replace_module(network, name, linear)
        # In float64: squares of weights of 1e20 leave float32.
        exact = weight.double()
        error = (linear.dequantized() - exact).norm() / exact.norm().clamp(min=1e-12)
        shape = (weight.size(0), weight.size(1))
        bits, shared = (4, group) if isinstance(linear, QuantLinear4) else (8, 0)
        report.append(LayerReport(name, shape, bits, shared, float(error)))
    return report


def _kind(content: dict[str, Any]) -> tuple[Precision, int]:
    """Precision and group of a file of integers; ValueError if it cannot hold them."""
    precision, group = content["precision"], content["group"]
    if precision == "int8" and group == 0:
        return "int8", 0
    if precision == "int4" and group in GROUPS:
        return "int4", int(group)
    raise ValueError(f"precision {precision!r} in groups of {group!r}")


def _check_range(network: Network) -> None:
    """Raise ValueError where an int4 weight would not fit four bits."""
    for name, layer in quantized_layers(network):
        if isinstance(layer, QuantLinear4) and layer.weight.numel():
            low, high = (int(value) for value in layer.weight.aminmax())
            if low < LOWEST or high > HIGHEST:
                raise ValueError(f"{name}.weight goes from {low} to {high}, int4 from -8 to 7")


def _weight_of(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight (O, I) and bias (O,) of a linear layer or a convolution of width 1."""
    assert isinstance(module, nn.Linear | nn.Conv1d)
    weight = module.weight.detach().float()
    return weight.reshape(weight.size(0), -1), module.bias
