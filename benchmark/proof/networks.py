"""Random networks of many sizes, as checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model.checkpoint import save_checkpoint
from model.config import network_config
from model.decoder import UnitEmbedding
from model.network import Network

_SPECIAL = ["<blank>", "<unk>", "<sos/eos>", "▁"]
_INPUTS = ("conv2d", "conv2d", "conv2d", "conv2d6", "conv2d8")


def random_tree(seed: int) -> dict[str, Any]:
    """A train.yaml of other sizes for each seed."""
    rng = np.random.default_rng(seed)

    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    heads = one(1, 2, 4)
    dim = heads * one(8, 12, 16)
    experts = one({}, *[{"mlp_type": "moe", "n_expert": count, "n_expert_activated": chosen}
                        for count in (2, 3, 8) for chosen in (1, 2)])  # fmt: skip
    stack = {"attention_heads": heads, "linear_units": one(12, 32, 40, 67), **experts}
    return {
        "encoder": "conformer",
        "encoder_conf": stack | {
            "output_size": dim, "num_blocks": one(1, 2, 3, 5), "input_layer": one(*_INPUTS),
            "activation_type": one("swish", "swish", "relu"), "causal": True,
            "cnn_module_kernel": one(3, 5, 8, 15),
            "cnn_module_norm": one("layer_norm", "layer_norm", "batch_norm"),
        },
        "decoder": one("bitransformer", "transformer"),
        "decoder_conf": stack | {"num_blocks": one(1, 2), "r_num_blocks": 1},
        "model_conf": {"ctc_weight": 0.3, "reverse_weight": 0.3, "lsm_weight": 0.1},
        "input_dim": 80,
        "vocab_size": one(11, 40, 155, 600),
    }  # fmt: skip


def vary(network: Network) -> None:
    """Let every part of a random network matter: no norm and no bias is neutral."""
    for module in network.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            module.weight.uniform_(0.7, 1.3)
            module.bias.normal_(std=0.1)
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2.0)
        if isinstance(module, UnitEmbedding) and module.positions is not None:
            module.positions.normal_()
    network.encoder.global_cmvn.mean.normal_(mean=10.0)
    network.encoder.global_cmvn.istd.uniform_(0.2, 0.4)


def write_random(seed: int, folder: Path) -> Path:
    """The checkpoint of a random network whose every part matters: no norm and no bias is neutral,
    and whose texts are not empty."""
    tree = random_tree(seed)
    torch.manual_seed(seed)
    made = Network(network_config(tree, "random")).eval().requires_grad_(False)
    vary(made)
    units = [chr(0x4E00 + index) for index in range(tree["vocab_size"] - len(_SPECIAL))]
    save_checkpoint(made, [*_SPECIAL, *units], tree, folder, torch.float32)
    return folder


def in_words(tree: dict[str, Any], precision: str = "") -> str:
    """The sizes of a network, and the precision of its programs."""
    conf = tree["encoder_conf"]
    experts = conf.get("n_expert", 0)
    feed = f"{experts} experts, {conf['n_expert_activated']} chosen" if experts else "no experts"
    return (
        f"{conf['num_blocks']} layers of {conf['output_size']}, {feed}, kernel "
        f"{conf.get('cnn_module_kernel')}, {conf.get('input_layer', 'conv2d')}, "
        f"{tree['vocab_size']} units" + f", {precision}" * bool(precision)
    )
