"""Checkpoint directories in WeNet's layout: train.yaml, final.pt, units.txt, global_cmvn.

One file more than WeNet's may be there: decoder.pt, with decoders that were trained further. They
take the place of those in final.pt, which stays as it is, as do programs that were made of it.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from edge_asr.errors import ConfigError, InputMissingError
from edge_asr.package.manifest import FeatureSpec
from model.config import NetworkConfig, feature_spec, network_config, read_yaml
from model.layout import check_layout
from model.network import Network
from model.tokenizer import read_units, write_units

DECODER_WEIGHTS = "decoder.pt"
SCALE = ".scale"  # behind the name of an int8 tensor: what its rows are to be multiplied with
_DECODER = "decoder."  # what the keys of decoders begin with
_CMVN = "encoder.global_cmvn."
# Where others than WeNet put the state_dict, and what they put before all its names.
_WRAPPED_IN = ("module", "model", "state_dict", "model_state_dict")
_PREFIXES = ("module.", "model.", "_orig_mod.")
# Keys of WeNet state_dicts that carry no weight of the function: regenerated position tables,
# layers that old versions saved without using, and the noise of a training-only router.
_IGNORED = (".pos_enc.pe", ".embed.1.pe", ".concat_linear", ".num_batches_tracked", "noisy_gate")


@dataclass(frozen=True)
class Description:
    """What a checkpoint directory says of its weights: train.yaml and units.txt."""

    tree: dict[str, Any]
    conf: NetworkConfig
    features: FeatureSpec
    symbols: list[str]


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model in eval mode, float32, and its units."""

    network: Network
    described: Description
    path: Path

    @property
    def conf(self) -> NetworkConfig:
        return self.described.conf

    @property
    def symbols(self) -> list[str]:
        return self.described.symbols


def read_description(path: Path, weights: str) -> Description:
    """Read train.yaml and units.txt of a directory that also holds a file named ``weights``.

    Raises:
        InputMissingError: one of the three files is not there; it names what is.
        ConfigError: a setting that is not supported, or units that do not fit it.
    """
    check_layout(path, weights)
    where = str(path / "train.yaml")
    tree = read_yaml(path / "train.yaml")
    conf = network_config(tree, where)
    symbols = read_units(path / "units.txt")
    if len(symbols) != conf.vocab_size:
        raise ConfigError(
            f"{path}: units.txt has {len(symbols)} units, train.yaml says {conf.vocab_size}"
        )
    return Description(tree, conf, feature_spec(tree, where), symbols)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint directory that WeNet or ``model.train`` wrote.

    Raises:
        InputMissingError: the directory or one of its files is not there.
        ConfigError: a setting, key or shape that does not fit.
    """
    described = read_description(path, "final.pt")
    weights = _read_weights(path / "final.pt")
    if (path / DECODER_WEIGHTS).is_file():
        later = _read_weights(path / DECODER_WEIGHTS)
        if strange := sorted(name for name in later if not name.startswith(_DECODER)):
            raise ConfigError(
                f"{path / DECODER_WEIGHTS}: {strange[0]} is no tensor of a decoder; only those "
                "may stand beside final.pt"
            )
        weights.update(later)
    network = Network(described.conf)
    if not any(name.startswith(_CMVN) for name in weights):
        weights.update(_cmvn_weights(described.tree, path, described.conf))
    _load_strictly(network, weights, path / "final.pt")
    return Checkpoint(network.eval(), described, path)


def save_checkpoint(
    network: Network, symbols: list[str], tree: dict[str, Any], path: Path, dtype: torch.dtype
) -> None:
    """Write a checkpoint directory; weights in ``dtype``, statistics in float32."""
    path.mkdir(parents=True, exist_ok=True)
    save_weights(_weights(network, dtype), path / "final.pt")
    write_units(symbols, path / "units.txt")
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    (path / "train.yaml").write_text(text, encoding="utf-8")


def save_decoder(network: Network, path: Path, dtype: torch.dtype) -> None:
    """Write the decoders alone, for a directory whose final.pt has the rest."""
    path.mkdir(parents=True, exist_ok=True)
    weights = _weights(network, dtype)
    kept = {name: tensor for name, tensor in weights.items() if name.startswith(_DECODER)}
    save_weights(kept, path / DECODER_WEIGHTS)


def _weights(network: Network, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights in ``dtype``, statistics in float32."""
    return {
        name: tensor.detach().to(
            dtype if tensor.is_floating_point() and "cmvn" not in name else tensor.dtype
        )
        for name, tensor in network.state_dict().items()
    }


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write a state_dict whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    torch.save(weights, unfinished)
    unfinished.rename(path)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: not a state_dict that torch.load accepts ({reason})") from error
    weights = _unwrapped(weights, path)
    return {
        name: _restored(name, tensor, weights, path)
        for name, tensor in weights.items()
        if not any(part in name for part in _IGNORED)
        and not (name.endswith(SCALE) and name.removesuffix(SCALE) in weights)
    }


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """The state_dict itself, out of what training frameworks wrap it in."""
    found = content
    while isinstance(found, dict) and any(isinstance(found.get(key), dict) for key in _WRAPPED_IN):
        found = next(found[key] for key in _WRAPPED_IN if isinstance(found.get(key), dict))
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    ):
        kind = f"a {type(found).__name__}"
        if isinstance(found, dict):
            kind += f" with {', '.join(f'{key!r:.40}' for key in list(found)[:5])}"
        raise ConfigError(f"{path}: a state_dict (names to tensors) is expected, this is {kind}")
    names = list(found)
    while names and (prefix := _common_prefix(names)):
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, found.values(), strict=True))


def _common_prefix(names: list[str]) -> str:
    """A prefix of a framework that all ``names`` have, or ""."""
    return next((p for p in _PREFIXES if all(name.startswith(p) for name in names)), "")


def _restored(name: str, tensor: Tensor, weights: dict[str, Tensor], path: Path) -> Tensor:
    """A tensor as float32; one of integers that is no weight as it is."""
    if tensor.is_floating_point():
        return tensor.float()
    if tensor.dtype != torch.int8:
        return tensor
    scale = weights.get(name + SCALE)
    if scale is None or scale.shape != tensor.shape[:1]:
        raise ConfigError(f"{path}: {name} is int8, and its scales are missing or do not fit")
    return tensor.float() * scale.float().reshape(-1, *[1] * (tensor.dim() - 1))


def _load_strictly(network: Network, weights: dict[str, Tensor], path: Path) -> None:
    expected = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not any(part in name for part in _IGNORED)
    }
    missing = sorted(set(expected) - set(weights))
    if missing:
        raise ConfigError(
            f"{path}: {len(missing)} tensors are missing, the first is {missing[0]}; "
            "does train.yaml belong to this state_dict?"
        )
    extra = sorted(set(weights) - set(expected))
    if extra:
        raise ConfigError(
            f"{path}: {len(extra)} tensors have no place in the network, the first is "
            f"{extra[0]}; does train.yaml belong to this state_dict?"
        )
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise ConfigError(
                f"{path}: {name} has shape {tuple(weights[name].shape)}, "
                f"train.yaml asks for {tuple(tensor.shape)}"
            )
    network.load_state_dict(weights, strict=False)


def _cmvn_weights(tree: dict[str, Any], path: Path, conf: NetworkConfig) -> dict[str, Tensor]:
    """Mean and inverse deviation from a JSON ``global_cmvn``, where the weights lack them.

    Only train.yaml says whether there is CMVN; a model that was trained without has the identity.
    """
    source = path / "global_cmvn"
    if not _names_cmvn(tree):
        if source.is_file():
            raise ConfigError(
                f"{source}: train.yaml says that the model has no CMVN; remove this file, or, if "
                "it was trained with it, write cmvn: global_cmvn in train.yaml"
            )
        mean, istd = torch.zeros(conf.input_dim), torch.ones(conf.input_dim)
    elif not source.is_file():
        raise InputMissingError(f"{path}: global_cmvn is missing and not in final.pt either")
    else:
        try:
            stats = json.loads(source.read_text(encoding="utf-8"))
            count = float(stats["frame_num"])
            mean = torch.tensor(stats["mean_stat"], dtype=torch.float64) / count
            square = torch.tensor(stats["var_stat"], dtype=torch.float64) / count
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ConfigError(f"{source}: not a global_cmvn in JSON ({error})") from error
        istd = (square - mean * mean).clamp(min=1e-20).rsqrt()
        if not (count > 0 and torch.isfinite(mean).all() and torch.isfinite(square).all()):
            raise ConfigError(f"{source}: its statistics are no finite numbers; write it again")
    return {
        "encoder.global_cmvn.mean": mean.float(),
        "encoder.global_cmvn.istd": istd.float(),
    }


def _names_cmvn(tree: dict[str, Any]) -> bool:
    """Whether train.yaml says that features are normalised; ``cmvn`` decides where it is given, as
    it does since December 2023."""
    if "cmvn" in tree:
        return tree["cmvn"] is not None
    return bool(tree.get("cmvn_file") or (tree.get("cmvn_conf") or {}).get("cmvn_file"))
