"""The architecture part of a WeNet ``train.yaml``, read strictly.

Keys that change the mathematics are either understood or refused; keys that only matter to
training (dropout rates, optimizer, ...) are left to the trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge_asr.errors import ConfigError

# WeNet's RelPositionalEncoding table has 5000 rows. Positions beyond it wrap around.
POSITION_PERIOD = 5000

# input_layer -> (subsampling rate, right context in feature frames)
SUBSAMPLING = {"conv2d": (4, 6), "conv2d6": (6, 10), "conv2d8": (8, 14)}

# Settings with one supported value: name -> (WeNet's default, supported values)
_ENCODER_FIXED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "pos_enc_layer_type": ("rel_pos", ("rel_pos",)),
    "selfattention_layer_type": ("rel_selfattn", ("rel_selfattn",)),
    "normalize_before": (True, (True,)),
    "macaron_style": (True, (True,)),
    "use_cnn_module": (True, (True,)),
    "causal": (False, (True,)),
    "cnn_module_norm": ("batch_norm", ("layer_norm", "batch_norm")),
    "activation_type": ("swish", ("swish", "silu", "relu")),
    "mlp_type": ("position_wise_feed_forward", ("position_wise_feed_forward", "moe")),
    "mlp_bias": (True, (True,)),
    "query_bias": (True, (True,)),
    "key_bias": (True, (True,)),
    "value_bias": (True, (True,)),
    "conv_bias": (True, (True,)),
    "layer_norm_type": ("layer_norm", ("layer_norm",)),
    "norm_eps": (1e-5, (1e-5,)),
    "n_kv_head": (None, (None,)),
    "head_dim": (None, (None,)),
    "conv_norm_eps": (1e-5, (1e-5,)),
    "conv_inner_factor": (2, (2,)),
    "final_norm": (True, (True,)),
}
_DECODER_FIXED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "normalize_before": (True, (True,)),
    "input_layer": ("embed", ("embed",)),
    "use_output_layer": (True, (True,)),
    "src_attention": (True, (True,)),
    "src_key_bias": (True, (True,)),
    "src_query_bias": (True, (True,)),
    "src_value_bias": (True, (True,)),
    "tie_word_embedding": (False, (False,)),
    "activation_type": ("relu", ("relu", "swish", "silu")),
    "mlp_type": ("position_wise_feed_forward", ("position_wise_feed_forward", "moe")),
    "mlp_bias": (True, (True,)),
    "layer_norm_type": ("layer_norm", ("layer_norm",)),
    "norm_eps": (1e-5, (1e-5,)),
    "n_kv_head": (None, (None,)),
    "head_dim": (None, (None,)),
    "query_bias": (True, (True,)),
    "key_bias": (True, (True,)),
    "value_bias": (True, (True,)),
}
# Read below, or of no consequence for the function that the network computes.
_ENCODER_OTHER = {
    "output_size", "attention_heads", "linear_units", "num_blocks", "cnn_module_kernel",
    "input_layer", "n_expert", "n_expert_activated", "dropout_rate", "positional_dropout_rate",
    "attention_dropout_rate", "static_chunk_size", "use_dynamic_chunk",
    "use_dynamic_left_chunk", "gradient_checkpointing", "use_sdpa",
}  # fmt: skip
_DECODER_OTHER = {
    "attention_heads", "linear_units", "num_blocks", "r_num_blocks", "n_expert",
    "n_expert_activated", "dropout_rate", "positional_dropout_rate",
    "self_attention_dropout_rate", "src_attention_dropout_rate", "gradient_checkpointing",
    "use_sdpa",
}  # fmt: skip


@dataclass(frozen=True)
class FeedForwardConfig:
    """Every feed-forward layer of a stack. ``n_expert`` 0 is a dense layer."""

    hidden: int
    activation: str
    n_expert: int
    n_expert_activated: int


@dataclass(frozen=True)
class NetworkConfig:
    """All that determines the shapes and the function of the network."""

    input_dim: int
    vocab_size: int
    dim: int
    heads: int
    blocks: int
    kernel: int
    conv_norm: str
    input_layer: str
    feed_forward: FeedForwardConfig
    decoder_heads: int
    decoder_blocks: int
    reverse_decoder_blocks: int
    decoder_feed_forward: FeedForwardConfig
    blank: int
    sos: int
    eos: int
    ctc_weight: float
    reverse_weight: float
    label_smoothing: float

    @property
    def subsampling_rate(self) -> int:
        return SUBSAMPLING[self.input_layer][0]

    @property
    def right_context(self) -> int:
        return SUBSAMPLING[self.input_layer][1]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a yaml file; ConfigError if it cannot be read."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: cannot be read as yaml ({reason})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a mapping is expected, as WeNet writes train.yaml")
    return tree


def network_config(tree: dict[str, Any], where: str) -> NetworkConfig:
    """Read the architecture from a WeNet configuration.

    Raises:
        ConfigError: a setting that this network does not compute, or a missing one.
    """
    try:
        return _network_config(tree, where)
    except KeyError as error:
        raise ConfigError(f"{where}: the key {error} is missing; WeNet writes it") from error


def _network_config(tree: dict[str, Any], where: str) -> NetworkConfig:
    if tree.get("encoder", "conformer") != "conformer":
        raise ConfigError(f"{where}: encoder is {tree['encoder']!r}; only conformer is supported")
    encoder = dict(tree["encoder_conf"])
    decoder = dict(tree.get("decoder_conf") or {})
    decoder_kind = tree.get("decoder", "bitransformer")
    if decoder_kind not in ("bitransformer", "transformer"):
        raise ConfigError(
            f"{where}: decoder is {decoder_kind!r}; bitransformer and transformer are supported"
        )
    _check(encoder, _ENCODER_FIXED, _ENCODER_OTHER, f"{where}: encoder_conf")
    _check(decoder, _DECODER_FIXED, _DECODER_OTHER, f"{where}: decoder_conf")
    input_layer = encoder.get("input_layer", "conv2d")
    if input_layer not in SUBSAMPLING:
        raise ConfigError(
            f"{where}: input_layer is {input_layer!r}; choose one of {', '.join(SUBSAMPLING)}"
        )
    vocab_size = int(tree.get("vocab_size") or tree["output_dim"])
    special = (tree.get("tokenizer_conf") or {}).get("special_tokens") or {}
    model = tree.get("model_conf") or {}
    bidirectional = decoder_kind == "bitransformer"
    return NetworkConfig(
        input_dim=int(tree.get("input_dim", 80)),
        vocab_size=vocab_size,
        dim=int(encoder["output_size"]),
        heads=int(encoder["attention_heads"]),
        blocks=int(encoder["num_blocks"]),
        kernel=int(encoder.get("cnn_module_kernel", 15)),
        conv_norm=str(encoder.get("cnn_module_norm", "batch_norm")),
        input_layer=input_layer,
        feed_forward=_feed_forward(encoder, "swish"),
        decoder_heads=int(decoder.get("attention_heads", 4)),
        decoder_blocks=int(decoder.get("num_blocks", 6)),
        reverse_decoder_blocks=int(decoder.get("r_num_blocks", 0)) if bidirectional else 0,
        decoder_feed_forward=_feed_forward(decoder, "relu"),
        blank=int((tree.get("ctc_conf") or {}).get("ctc_blank_id", special.get("<blank>", 0))),
        sos=int(special.get("<sos>", vocab_size - 1)),
        eos=int(special.get("<eos>", vocab_size - 1)),
        ctc_weight=float(model.get("ctc_weight", 0.3)),
        reverse_weight=float(model.get("reverse_weight", 0.0)),
        label_smoothing=float(model.get("lsm_weight", 0.0)),
    )


def _feed_forward(conf: dict[str, Any], default_activation: str) -> FeedForwardConfig:
    moe = conf.get("mlp_type", "position_wise_feed_forward") == "moe"
    return FeedForwardConfig(
        hidden=int(conf.get("linear_units", 2048)),
        activation=str(conf.get("activation_type", default_activation)),
        n_expert=int(conf.get("n_expert", 8)) if moe else 0,
        n_expert_activated=int(conf.get("n_expert_activated", 2)) if moe else 0,
    )


def _check(
    conf: dict[str, Any],
    fixed: dict[str, tuple[Any, tuple[Any, ...]]],
    other: set[str],
    where: str,
) -> None:
    unknown = sorted(set(conf) - set(fixed) - other)
    if unknown:
        raise ConfigError(
            f"{where}: {unknown[0]} is not understood, so the network might compute something "
            "else; remove the key if it has no effect at inference"
        )
    for name, (default, allowed) in fixed.items():
        value = conf.get(name, default)
        if value not in allowed:
            choices = ", ".join(repr(choice) for choice in allowed)
            raise ConfigError(f"{where}: {name} is {value!r}; supported: {choices}")
