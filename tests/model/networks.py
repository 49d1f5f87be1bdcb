"""Small random networks of every kind that a configuration can ask for."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.proof.networks import vary
from model.config import network_config
from model.network import Network

SYMBOLS = ["<blank>", "<unk>", "<sos/eos>", "▁", *"ABCDEFG"]  # as many as a tree's vocab_size


def tree(encoder: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A WeNet configuration of a tiny U2++ MoE, with changes to it and to its encoder."""
    experts = {"mlp_type": "moe", "n_expert": 4, "n_expert_activated": 2}
    return {
        "encoder": "conformer",
        "encoder_conf": {
            "output_size": 8, "attention_heads": 2, "linear_units": 12, "num_blocks": 2,
            "cnn_module_kernel": 5, "cnn_module_norm": "layer_norm", "causal": True,
        } | experts | (encoder or {}),
        "decoder": "bitransformer",
        "decoder_conf": {
            "attention_heads": 2, "linear_units": 12, "num_blocks": 1, "r_num_blocks": 1,
        } | experts,
        "model_conf": {"ctc_weight": 0.3, "reverse_weight": 0.3, "lsm_weight": 0.1},
        "input_dim": 80,
        "vocab_size": 11,
    } | changes  # fmt: skip


def network(encoder: dict[str, Any] | None = None, seed: int = 0, **changes: Any) -> Network:
    """A random network in eval mode whose every part matters: no norm and no bias is neutral."""
    torch.manual_seed(seed)
    made = Network(network_config(tree(encoder, **changes), "test")).eval().requires_grad_(False)
    vary(made)
    return made


def speech(frames: int, bins: int = 80, seed: int = 0) -> torch.Tensor:
    """Features (1, frames, bins) of nobody."""
    generator = torch.Generator().manual_seed(seed)
    return 10 + 3 * torch.randn(1, frames, bins, generator=generator)
