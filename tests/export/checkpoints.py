"""Checkpoints to export: WeNet's tiny ones, and a random one with the less usual settings."""

from __future__ import annotations

from pathlib import Path

import torch

from model.checkpoint import load_checkpoint, save_checkpoint
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
UNITS = ["<blank>", "<unk>", "<sos/eos>", "▁", *"ABCDEFG"]


def checkpoint_at(name: str, folder: Path) -> Path:
    """The directory of a checkpoint; a random one is written to ``folder`` first."""
    if name.startswith("wenet"):
        return DATA / name
    changes = {"decoder": "transformer"}
    made = network(UNUSUAL, **changes)
    # A router that never chooses one of its experts: an empty one in each call.
    with torch.no_grad():
        made.encoder.encoders[0].feed_forward.gate.weight[1] = 0.0
        made.encoder.encoders[0].feed_forward.gate.weight[0] = 5.0
        made.encoder.encoders[0].feed_forward.gate.weight[2] = -5.0
    save_checkpoint(made, UNITS, tree(UNUSUAL, **changes), folder / name, torch.float32)
    load_checkpoint(folder / name)
    return folder / name
