"""The architecture part of a WeNet ``train.yaml``, read strictly.

Keys that change the mathematics are either understood or refused (``model.settings``); keys that
only matter to training (dropout rates, optimizer, ...) are left to the trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edge_asr.errors import ConfigError
from edge_asr.package.manifest import FeatureSpec
from model.settings import (
    ATTENTION_OF,
    FBANK_FIXED,
    FBANK_OTHER,
    OLD_FBANK,
    OLD_FIXED,
    OLD_FRONT_END,
    check_section,
    check_settings,
    section,
)

# WeNet's RelPositionalEncoding table has 5000 rows. Positions beyond it wrap around.
POSITION_PERIOD = 5000
# Whisper's has 1500, of 20 ms; ours are of 40 ms.
WHISPER_PERIOD = 750

# input_layer -> (subsampling rate, right context in feature frames). conv1d4 is ours: the two
# convolutions of Whisper's encoder, without padding, and pairs of their frames merged.
SUBSAMPLING = {"conv2d": (4, 6), "conv2d6": (6, 10), "conv2d8": (8, 14), "conv1d4": (4, 6)}


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
    positions: str
    feed_forward: FeedForwardConfig
    bidirectional: bool
    decoder_heads: int
    decoder_blocks: int
    reverse_decoder_blocks: int
    decoder_feed_forward: FeedForwardConfig
    decoder_positions_learned: bool
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
        conf = _network_config(tree, where)
    except KeyError as error:
        raise ConfigError(f"{where}: the key {error} is missing; WeNet writes it") from error
    for name, value, good, allowed in (
        ("output_size", conf.dim, conf.dim > 0 and conf.dim % 2 == 0, "an even number"),
        ("attention_heads", conf.heads, _divides(conf.heads, conf.dim), "a divisor of output_size"),
        ("attention_heads of the decoder", conf.decoder_heads,
         _divides(conf.decoder_heads, conf.dim), "a divisor of output_size"),
        ("num_blocks", conf.blocks, conf.blocks > 0, "at least 1"),
        ("cnn_module_kernel", conf.kernel, conf.kernel > 1, "at least 2"),
        ("ctc_blank_id", conf.blank, conf.blank < conf.vocab_size, "a unit of the vocabulary"),
        ("<sos>", conf.sos, conf.sos < conf.vocab_size, "a unit of the vocabulary"),
        ("<eos>", conf.eos, conf.eos < conf.vocab_size, "a unit of the vocabulary"),
        ("ctc_weight", conf.ctc_weight, 0 <= conf.ctc_weight <= 1, "0 to 1"),
        ("reverse_weight", conf.reverse_weight, 0 <= conf.reverse_weight <= 1, "0 to 1"),
        ("lsm_weight", conf.label_smoothing, 0 <= conf.label_smoothing < 1, "0 to below 1"),
    ):  # fmt: skip
        if not good:
            raise ConfigError(f"{where}: {name} is {value}; {allowed} is expected")
    for stack in (conf.feed_forward, conf.decoder_feed_forward):
        if stack.n_expert and not 1 <= stack.n_expert_activated <= stack.n_expert:
            raise ConfigError(
                f"{where}: n_expert_activated is {stack.n_expert_activated}; "
                f"1 to n_expert ({stack.n_expert}) is expected"
            )
    return conf


def feature_spec(tree: dict[str, Any], where: str) -> FeatureSpec:
    """The front end that a WeNet configuration was trained with, dither left out.

    Raises:
        ConfigError: features that the runtime does not compute.
    """
    check_settings(tree, where)
    dataset = section(tree, "dataset_conf", where)
    conf = dict(section(dataset, "fbank_conf", f"{where}: dataset_conf"))
    here = f"{where}: dataset_conf: fbank_conf"
    for name, value in _old_fbank(tree, where).items():
        if conf.setdefault(name, value) != value:
            raise ConfigError(
                f"{here}: {name} is {conf[name]!r}, in feature_extraction_conf it is {value!r}; "
                "leave one of them"
            )
    check_section(conf, FBANK_FIXED, FBANK_OTHER, here)
    bins = _integer(tree, "input_dim", 80, where)
    if _integer(conf, "num_mel_bins", bins, here) != bins:
        raise ConfigError(f"{here}: num_mel_bins is {conf['num_mel_bins']}, input_dim is {bins}")
    resample = section(dataset, "resample_conf", f"{where}: dataset_conf")
    check_section(resample, {}, {"resample_rate"}, f"{where}: dataset_conf: resample_conf")
    spec = {
        "sample_rate": _integer(resample, "resample_rate", 16000, f"{where}: dataset_conf"),
        "num_mel_bins": bins,
        "frame_length_ms": _number(conf, "frame_length", 25.0, here),
        "frame_shift_ms": _number(conf, "frame_shift", 10.0, here),
    }
    try:
        return msgspec.convert(spec, FeatureSpec)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: dataset_conf: {error}") from error


def _old_fbank(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings of feature_extraction_conf, if there is one, as those of fbank_conf."""
    found: dict[str, Any] = {}
    for place in OLD_FRONT_END:
        outer = section(tree, place, where) if place else tree
        here = ": ".join(filter(None, [where, place]))
        conf = section(outer, "feature_extraction_conf", here)
        check_section(conf, OLD_FIXED, set(OLD_FBANK), f"{here}: feature_extraction_conf")
        found |= {new: conf[old] for old, new in OLD_FBANK.items() if old in conf}
    return found


def _network_config(tree: dict[str, Any], where: str) -> NetworkConfig:
    if tree.get("encoder", "conformer") != "conformer":
        raise ConfigError(f"{where}: encoder is {tree['encoder']!r}; only conformer is supported")
    encoder = section(tree, "encoder_conf", where, required=True)
    decoder = section(tree, "decoder_conf", where)
    decoder_kind = tree.get("decoder", "bitransformer")
    if decoder_kind not in ("bitransformer", "transformer"):
        raise ConfigError(
            f"{where}: decoder is {decoder_kind!r}; bitransformer and transformer are supported"
        )
    in_encoder, in_decoder = f"{where}: encoder_conf", f"{where}: decoder_conf"
    check_settings(tree, where)
    name = "vocab_size" if tree.get("vocab_size") else "output_dim"
    vocab_size = _integer(tree, name, None, where)
    special = section(section(tree, "tokenizer_conf", where), "special_tokens", where)
    ctc = section(tree, "ctc_conf", where)
    model = section(tree, "model_conf", where)
    blank = _integer(special, "<blank>", 0, where)
    bidirectional = decoder_kind == "bitransformer"
    return NetworkConfig(
        input_dim=_integer(tree, "input_dim", 80, where),
        vocab_size=vocab_size,
        dim=_integer(encoder, "output_size", None, in_encoder),
        heads=_integer(encoder, "attention_heads", None, in_encoder),
        blocks=_integer(encoder, "num_blocks", None, in_encoder),
        kernel=_integer(encoder, "cnn_module_kernel", 15, in_encoder),
        conv_norm=str(encoder.get("cnn_module_norm", "batch_norm")),
        input_layer=_input_layer(encoder, where),
        positions=_positions(encoder, in_encoder),
        feed_forward=_feed_forward(encoder, "swish", in_encoder),
        bidirectional=bidirectional,
        decoder_heads=_integer(decoder, "attention_heads", 4, in_decoder),
        decoder_blocks=_integer(decoder, "num_blocks", 6, in_decoder),
        reverse_decoder_blocks=_integer(decoder, "r_num_blocks", 0, in_decoder)
        if bidirectional
        else 0,
        decoder_feed_forward=_feed_forward(decoder, "relu", in_decoder),
        decoder_positions_learned=decoder.get("input_layer") == "embed_learnable_pe",
        blank=_integer(ctc, "ctc_blank_id", blank, where),
        sos=_integer(special, "<sos>", vocab_size - 1, where),
        eos=_integer(special, "<eos>", vocab_size - 1, where),
        ctc_weight=_number(model, "ctc_weight", 0.5, where),
        reverse_weight=_number(model, "reverse_weight", 0.0, where),
        label_smoothing=_number(model, "lsm_weight", 0.0, where),
    )


def _input_layer(encoder: dict[str, Any], where: str) -> str:
    input_layer = str(encoder.get("input_layer", "conv2d"))
    if input_layer not in SUBSAMPLING:
        raise ConfigError(
            f"{where}: input_layer is {input_layer!r}; choose one of {', '.join(SUBSAMPLING)}"
        )
    return input_layer


def _positions(encoder: dict[str, Any], where: str) -> str:
    positions = str(encoder.get("pos_enc_layer_type", "rel_pos"))
    attention = encoder.get("selfattention_layer_type", "rel_selfattn")
    if attention != ATTENTION_OF[positions]:
        raise ConfigError(
            f"{where}: selfattention_layer_type is {attention!r}; with pos_enc_layer_type "
            f"{positions!r} it is {ATTENTION_OF[positions]!r}"
        )
    return positions


def _feed_forward(conf: dict[str, Any], default_activation: str, where: str) -> FeedForwardConfig:
    moe = conf.get("mlp_type", "position_wise_feed_forward") == "moe"
    return FeedForwardConfig(
        hidden=_integer(conf, "linear_units", 2048, where),
        activation=str(conf.get("activation_type", default_activation)),
        n_expert=_integer(conf, "n_expert", 8, where) if moe else 0,
        n_expert_activated=_integer(conf, "n_expert_activated", 2, where) if moe else 0,
    )


def _divides(part: int, whole: int) -> bool:
    return part > 0 and whole % part == 0


def _integer(conf: dict[str, Any], name: str, default: int | None, where: str) -> int:
    value = conf[name] if default is None else conf.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{where}: {name} is {value!r}; a whole number from 0 is expected")
    return value


def _number(conf: dict[str, Any], name: str, default: float, where: str) -> float:
    value = conf.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigError(f"{where}: {name} is {value!r}; a number is expected")
    return float(value)
