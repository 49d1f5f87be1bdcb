"""Checkpoints to export: WeNet's tiny ones, and a random one with the less usual settings; what is
lowered of them, and what it hears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_asr.backends import FloatArray
from edge_asr.package.manifest import BackendName, EncoderSpec, Precision
from model.checkpoint import load_checkpoint, save_checkpoint
from model.network import Network
from quant.checkpoint import load_at
from tests.model.networks import SYMBOLS, network, tree
from tests.paths import DATA

Case = tuple[str, BackendName, Precision]  # the name of a checkpoint, and what is made of it
UNUSUAL = {
    "input_layer": "conv2d6",
    "activation_type": "relu",
    "cnn_module_norm": "batch_norm",
    "cnn_module_kernel": 8,
    "num_blocks": 1,
    "n_expert": 3,
    "n_expert_activated": 2,
}
# A network that begins as Whisper's: positions come with the input, attention has none of its own.
WHISPER = {
    "input_layer": "conv1d4",
    "pos_enc_layer_type": "abs_pos_whisper",
    "selfattention_layer_type": "selfattn",
}
LEARNED = {"decoder_conf": {**tree()["decoder_conf"], "input_layer": "embed_learnable_pe"}}


def checkpoint_at(name: str, folder: Path) -> Path:
    """The directory of a checkpoint; a random one is written to ``folder`` first."""
    if name.startswith("wenet"):
        return DATA / name
    if name == "whisper":
        return _saved(network(WHISPER, **LEARNED), tree(WHISPER, **LEARNED), folder / name)
    changes = {"decoder": "transformer"}
    made = network(UNUSUAL, **changes)
    # A router that never chooses one of its experts: an empty one in each call.
    with torch.no_grad():
        made.encoder.encoders[0].feed_forward.gate.weight[1] = 0.0
        made.encoder.encoders[0].feed_forward.gate.weight[0] = 5.0
        made.encoder.encoders[0].feed_forward.gate.weight[2] = -5.0
    return _saved(made, tree(UNUSUAL, **changes), folder / name)


def _saved(made: Network, conf: dict[str, Any], path: Path) -> Path:
    save_checkpoint(made, SYMBOLS, conf, path, torch.float32)
    load_checkpoint(path)
    return path


def network_at(name: str, precision: Precision, folder: Path) -> Network:
    """The network of ``checkpoint_at`` at a precision."""
    (quantized,) = load_at(checkpoint_at(name, folder), [precision])
    return quantized.network


def portable_cases(quick: list[Case], others: list[Case]) -> list[Any]:
    """Parameters of a fixture: every checkpoint at fp32 and int8 for ONNX Runtime and TorchScript,
    and others; all but the quick ones are slow."""
    every: list[Case] = [
        (checkpoint, backend, precision)
        for checkpoint in ("wenet-moe", "wenet-dense", "unusual", "whisper")
        for backend in ("onnx", "torchscript")
        for precision in ("fp32", "int8")
        if (checkpoint, backend, precision) not in quick
    ]
    return [*quick, *(pytest.param(case, marks=pytest.mark.slow) for case in (*every, *others))]


def feats_of(spec: EncoderSpec, chunk: int, seed: int) -> FloatArray:
    """Features (1, T, 80) of nobody that a chunk reads."""
    rng = np.random.default_rng(seed)
    size = (1, spec.input_frames(chunk), 80)
    return (10 + 3 * rng.standard_normal(size)).astype(np.float32)
