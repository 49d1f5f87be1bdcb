"""The architecture part of a WeNet ``train.yaml``, read strictly.

Keys that change the mathematics are either understood or refused; keys that only matter to
training (dropout rates, optimizer, ...) are left to the trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edge_asr.errors import ConfigError
from edge_asr.package.manifest import FeatureSpec

# WeNet's RelPositionalEncoding table has 5000 rows. Positions beyond it wrap around.
POSITION_PERIOD = 5000
# Whisper's has 1500, of 20 ms; ours are of 40 ms.
WHISPER_PERIOD = 750

# input_layer -> (subsampling rate, right context in feature frames). conv1d4 is ours: the two
# convolutions of Whisper's encoder, without padding, and pairs of their frames merged.
SUBSAMPLING = {"conv2d": (4, 6), "conv2d6": (6, 10), "conv2d8": (8, 14), "conv1d4": (4, 6)}

# How positions enter -> the attention that goes with it.
ATTENTION_OF = {"rel_pos": "rel_selfattn", "abs_pos_whisper": "selfattn"}

# Settings with one supported value: name -> (WeNet's default, supported values)
_ENCODER_FIXED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "pos_enc_layer_type": ("rel_pos", tuple(ATTENTION_OF)),
    "selfattention_layer_type": ("rel_selfattn", tuple(ATTENTION_OF.values())),
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
    "input_layer": ("embed", ("embed", "embed_learnable_pe")),
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
# Outside encoder_conf and decoder_conf: section, "" for none -> as above. Any other key is allowed.
_ELSEWHERE_FIXED: dict[str, dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "": {
        "tokenizer": ("char", ("char", "bpe")),  # others write units that are no texts
        "use_lora": (False, (False,)),
        "lora_conf": (None, (None,)),
    },
    "model_conf": {"apply_non_blank_embedding": (False, (False,))},
}
# Where WeNet described the front end before fbank_conf, and the names that it has there.
_OLD_FRONT_END = ("", "collate_conf", "dataset_conf")
_OLD_FBANK = {
    "mel_bins": "num_mel_bins",
    "frame_length": "frame_length",
    "frame_shift": "frame_shift",
}
_OLD_FIXED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "feature_type": ("fbank", ("fbank",)),
    "using_pitch": (False, (False,)),
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
    dataset = _section(tree, "dataset_conf", where)
    kind = dataset.get("feats_type", "fbank")
    if kind != "fbank":
        raise ConfigError(f"{where}: dataset_conf: feats_type is {kind!r}; supported: 'fbank'")
    conf = dict(_section(dataset, "fbank_conf", f"{where}: dataset_conf"))
    here = f"{where}: dataset_conf: fbank_conf"
    for name, value in _old_fbank(tree, where).items():
        if conf.setdefault(name, value) != value:
            raise ConfigError(
                f"{here}: {name} is {conf[name]!r}, in feature_extraction_conf it is {value!r}; "
                "leave one of them"
            )
    for name, supported in (("window_type", "povey"), ("high_freq", 0), ("low_freq", 20)):
        if conf.get(name, supported) != supported:
            raise ConfigError(f"{here}: {name} is {conf[name]!r}; supported: {supported!r}")
    bins = _integer(tree, "input_dim", 80, where)
    if _integer(conf, "num_mel_bins", bins, here) != bins:
        raise ConfigError(f"{here}: num_mel_bins is {conf['num_mel_bins']}, input_dim is {bins}")
    resample = _section(dataset, "resample_conf", f"{where}: dataset_conf")
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
    for place in _OLD_FRONT_END:
        outer = _section(tree, place, where) if place else tree
        here = ": ".join(filter(None, [where, place]))
        conf = _section(outer, "feature_extraction_conf", here)
        _check(conf, _OLD_FIXED, set(_OLD_FBANK), f"{here}: feature_extraction_conf")
        found |= {new: conf[old] for old, new in _OLD_FBANK.items() if old in conf}
    return found


def _network_config(tree: dict[str, Any], where: str) -> NetworkConfig:
    if tree.get("encoder", "conformer") != "conformer":
        raise ConfigError(f"{where}: encoder is {tree['encoder']!r}; only conformer is supported")
    encoder = _section(tree, "encoder_conf", where, required=True)
    decoder = _section(tree, "decoder_conf", where)
    decoder_kind = tree.get("decoder", "bitransformer")
    if decoder_kind not in ("bitransformer", "transformer"):
        raise ConfigError(
            f"{where}: decoder is {decoder_kind!r}; bitransformer and transformer are supported"
        )
    in_encoder, in_decoder = f"{where}: encoder_conf", f"{where}: decoder_conf"
    _check(encoder, _ENCODER_FIXED, _ENCODER_OTHER, in_encoder)
    _check(decoder, _DECODER_FIXED, _DECODER_OTHER, in_decoder)
    for place, fixed in _ELSEWHERE_FIXED.items():
        section = _section(tree, place, where) if place else tree
        _check_fixed(section, fixed, ": ".join(filter(None, [where, place])))
    name = "vocab_size" if tree.get("vocab_size") else "output_dim"
    vocab_size = _integer(tree, name, None, where)
    special = _section(_section(tree, "tokenizer_conf", where), "special_tokens", where)
    ctc = _section(tree, "ctc_conf", where)
    model = _section(tree, "model_conf", where)
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


def _section(conf: dict[str, Any], name: str, where: str, required: bool = False) -> dict[str, Any]:
    section = conf[name] if required else conf.get(name)
    if section is None and not required:
        return {}
    if not isinstance(section, dict):
        raise ConfigError(f"{where}: {name} is {section!r}; a mapping is expected")
    return section


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
    _check_fixed(conf, fixed, where)


def _check_fixed(
    conf: dict[str, Any], fixed: dict[str, tuple[Any, tuple[Any, ...]]], where: str
) -> None:
    for name, (default, allowed) in fixed.items():
        value = conf.get(name, default)
        if value not in allowed:
            choices = ", ".join(repr(choice) for choice in allowed)
            raise ConfigError(f"{where}: {name} is {value!r}; supported: {choices}")
