"""Checkpoints to export: WeNet's tiny ones, and a random one with the less usual settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from model.checkpoint import load_checkpoint, save_checkpoint
from model.network import Network
from tests.model.networks import network, tree

DATA = Path(__file__).parent.parent / "data"
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
UNITS = ["<blank>", "<unk>", "<sos/eos>", "▁", *"ABCDEFG"]


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
    save_checkpoint(made, UNITS, conf, path, torch.float32)
    load_checkpoint(path)
    return path
