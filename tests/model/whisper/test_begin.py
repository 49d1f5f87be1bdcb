"""A network that begins as Whisper computes what Whisper does, part by part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edge_asr.errors import ConfigError
from model.config import network_config
from model.encoder import EncoderLayer
from model.network import Network
from model.whisper.begin import begin_as_whisper, check_network, fit_final_norms
from tests.model.networks import speech
from tests.model.networks import tree as tiny_tree
from tests.model.whisper.small_whisper import (
    DIM,
    HEADS,
    LAYERS,
    TOKENS,
    decode,
    feed_forward,
    random_weights,
    self_attention,
)

WEIGHTS = random_weights()
UNITS = [39, 39, 38, *range(8)]


def conf(encoder: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    dense = {"mlp_type": "position_wise_feed_forward", "linear_units": 4 * DIM}
    return tiny_tree(
        {
            "input_layer": "conv1d4", "pos_enc_layer_type": "abs_pos_whisper",
            "selfattention_layer_type": "selfattn", "num_blocks": LAYERS + 1,
            "attention_heads": HEADS, **dense,
        } | (encoder or {}),
        decoder="transformer",
        decoder_conf={
            "attention_heads": HEADS, "num_blocks": LAYERS, "activation_type": "swish",
            "input_layer": "embed_learnable_pe", **dense,
        },
        **changes,
    )  # fmt: skip


def begun(features: np.ndarray) -> Network:
    torch.manual_seed(0)
    network = Network(network_config(conf(), "test")).eval().requires_grad_(False)
    network.encoder.global_cmvn.mean.normal_(10)
    network.encoder.global_cmvn.istd.uniform_(0.2, 0.4)
    check_network(network.conf, WEIGHTS, "test")
    begin_as_whisper(network, WEIGHTS, features, UNITS)
    return network


def some_map() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.concatenate([np.eye(80) / 8, rng.standard_normal((1, 80)) * 0.1 - 1])


def test_subsampling_is_whispers_in_pairs() -> None:
    features = some_map()
    encoder, feats = begun(features).encoder, speech(4 * 9 + 3)
    found = encoder.embed(encoder.global_cmvn(feats))[0]
    mel = feats[0] @ torch.from_numpy(features[:-1]).float() + torch.from_numpy(features[-1])
    x = F.gelu(
        F.conv1d(mel.T.float(), *(WEIGHTS[f"encoder/conv1/{p}"] for p in ("weight", "bias")))
    )
    first, second = (
        [WEIGHTS[f"encoder/{conv}/{part}"] for part in ("weight", "bias")]
        for conv in ("conv1", "conv2")
    )
    x = F.gelu(F.conv1d(mel.T.float(), *first))
    x = F.gelu(F.conv1d(x, *second, stride=2))
    expected = x.T[: 2 * len(found)].unflatten(0, (-1, 2)).mean(1)
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()
    assert (found - expected).abs().mean() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("index", range(LAYERS + 1))
def test_a_block_is_whispers_block(index: int) -> None:
    """Without the norm at its end; those that Whisper lacks change nothing."""
    network = begun(some_map())
    layer = network.encoder.encoders[index]
    assert isinstance(layer, EncoderLayer)
    layer.norm_final = nn.Identity()  # type: ignore[assignment]
    x = torch.randn(1, 12, DIM)
    state = network.encoder.zero_state(0)
    mask = torch.ones(1, 1, 1, 12, dtype=torch.bool)
    from model.attention import KeyCache

    cache = KeyCache(state.key[0], state.value[0], state.score[0])
    found, _, _ = layer.step(x, torch.zeros(1, 12, DIM), mask, cache, state.conv[0])
    expected = x[0]
    if index < LAYERS:
        expected = self_attention(expected, WEIGHTS, f"encoder/layer_{index}/self_attention", False)
        expected = feed_forward(expected, WEIGHTS, f"encoder/layer_{index}/ffn")
    assert (found[0] - expected).abs().max() < 0.15  # of gelu as SiLU; values are up to 5
    assert (found[0] - expected).abs().mean() < 0.03


def test_the_decoder_is_whispers() -> None:
    decoder = begun(some_map()).decoder
    units = torch.tensor([[2, 5, 9, 3, 3, 7]])
    memory = torch.randn(1, 15, DIM)
    seen = torch.ones(1, 15, dtype=torch.bool)
    found = decoder(units, torch.ones_like(units, dtype=torch.bool), memory, seen)[0]
    tokens = torch.tensor(UNITS)
    expected = decode(tokens[units[0]], memory[0], WEIGHTS)[:, tokens]
    assert expected.abs().max() > 3
    assert (found - expected).abs().mean() < 0.05


def test_final_norms_change_as_little_as_they_can() -> None:
    network = begun(some_map())
    feats = [speech(200, seed=seed)[0] for seed in range(3)]
    errors = fit_final_norms(network, WEIGHTS, feats)
    assert len(errors) == LAYERS - 1 and all(0 <= error < 0.5 for error in errors)
    again = fit_final_norms(network, WEIGHTS, feats)
    assert again == pytest.approx(errors, rel=1e-4)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"input_layer": "conv2d"}, "input_layer is 'conv2d'; to begin as Whisper it is 'conv1d4'"),
        ({"linear_units": 5}, "linear_units is 5"),
        ({"num_blocks": LAYERS - 1}, f"num_blocks is {LAYERS - 1}; Whisper has {LAYERS}"),
    ],
)
def test_other_networks_are_refused(encoder: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_network(network_config(conf(encoder), "recipe.yaml"), WEIGHTS, "recipe.yaml")


def test_tokens_are_of_the_table() -> None:
    assert max(UNITS) < TOKENS
