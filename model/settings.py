"""Which settings of a WeNet ``train.yaml`` are understood, section by section.

What changes the mathematics has the values that are supported; what only matters to training is
listed by name, and anything else is refused, as nobody knows what it changes.
"""

from __future__ import annotations

from typing import Any

from edge_asr.errors import ConfigError

# Settings with few supported values: name -> (WeNet's default, supported values)
Fixed = dict[str, tuple[Any, tuple[Any, ...]]]

# How positions enter -> the attention that goes with it.
ATTENTION_OF = {"rel_pos": "rel_selfattn", "abs_pos_whisper": "selfattn"}

_ENCODER_FIXED: Fixed = {
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
_DECODER_FIXED: Fixed = {
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
# Read by ``model.config``, or of no consequence for the function that the network computes.
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
# On the top level. Any other key is allowed, unless it holds a mapping: that is another module's.
_TOP_FIXED: Fixed = {
    "model": ("asr_model", ("asr_model",)),
    "ctc": ("ctc", ("ctc",)),
    "cmvn": (None, (None, "global_cmvn")),
    "predictor": (None, (None,)),
    "joint": (None, (None,)),
    "tokenizer": ("char", ("char", "bpe")),  # others write units that are no texts
    "use_lora": (False, (False,)),
    "lora_conf": (None, (None,)),
}
_TRAINING_SECTIONS = {
    "feature_extraction_conf", "optim_conf", "scheduler_conf", "tokenizer_conf", "init_infos",
    "loss_dict", "train",  # the last is that of recipes
}  # fmt: skip
# Section -> the settings that are fixed there, and those that may be anything.
_SECTIONS: dict[str, tuple[Fixed, set[str]]] = {
    "encoder_conf": (_ENCODER_FIXED, _ENCODER_OTHER),
    "decoder_conf": (_DECODER_FIXED, _DECODER_OTHER),
    "model_conf": (
        {"apply_non_blank_embedding": (False, (False,)), "lfmmi_dir": ("", ("", None))},
        {"ctc_weight", "reverse_weight", "lsm_weight", "length_normalized_loss", "ignore_id"},
    ),
    "ctc_conf": ({}, {"ctc_blank_id", "dropout_rate", "reduce"}),
    "cmvn_conf": ({}, {"cmvn_file", "is_json_cmvn"}),
    "dataset_conf": (
        {"feats_type": ("fbank", ("fbank",))},
        {
            "fbank_conf", "resample_conf", "feature_extraction_conf", "mfcc_conf",
            "log_mel_spectrogram_conf", "filter_conf", "max_length", "min_length",
            "token_max_length", "token_min_length", "speed_perturb", "speed_perturb_conf",
            "spec_aug", "spec_aug_conf", "spec_sub", "spec_sub_conf", "spec_trim",
            "spec_trim_conf", "shuffle", "shuffle_conf", "sort", "sort_conf", "batch_conf",
            "batch_type", "batch_size", "max_frames_in_batch", "list_shuffle",
            "list_shuffle_conf", "split_num", "prefetch", "cycle", "eod_id", "raw_wav",
            "wav_distortion_conf", "detect_language",
        },
    ),
    "collate_conf": (
        {},
        {
            "feature_extraction_conf", "feature_dither", "wav_distortion_conf", "speed_perturb",
            "spec_aug", "spec_aug_conf", "spec_sub", "spec_sub_conf",
        },
    ),
}  # fmt: skip
FBANK_FIXED: Fixed = {
    "window_type": ("povey", ("povey",)),
    "high_freq": (0, (0,)),
    "low_freq": (20, (20,)),
}
FBANK_OTHER = {"num_mel_bins", "frame_length", "frame_shift", "dither"}
# Where WeNet described the front end before fbank_conf, and the names that it has there.
OLD_FRONT_END = ("", "collate_conf", "dataset_conf")
OLD_FBANK = {
    "mel_bins": "num_mel_bins",
    "frame_length": "frame_length",
    "frame_shift": "frame_shift",
}
OLD_FIXED: Fixed = {
    "feature_type": ("fbank", ("fbank",)),
    "using_pitch": (False, (False,)),
}


def section(conf: dict[str, Any], name: str, where: str, required: bool = False) -> dict[str, Any]:
    """The mapping ``name`` of ``conf``; an empty one where it is missing.

    Raises:
        KeyError: it is missing and ``required``.
        ConfigError: it is no mapping.
    """
    found = conf[name] if required else conf.get(name)
    if found is None and not required:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {name} is {found!r}; a mapping is expected")
    return found


def check_settings(tree: dict[str, Any], where: str) -> None:
    """Check all of train.yaml but what ``fbank_conf``, ``feature_extraction_conf`` and
    ``resample_conf`` hold.

    Raises:
        ConfigError: a setting that is not understood, or has a value that is not supported.
    """
    for name, value in tree.items():
        if isinstance(value, dict) and name not in _TRAINING_SECTIONS.union(_SECTIONS, _TOP_FIXED):
            raise _not_understood(name, where)
    _check_fixed(tree, _TOP_FIXED, where)
    for name, (fixed, other) in _SECTIONS.items():
        check_section(section(tree, name, where), fixed, other, f"{where}: {name}")


def check_section(conf: dict[str, Any], fixed: Fixed, other: set[str], where: str) -> None:
    """Check one mapping, of which ``other`` keys may have any value.

    Raises:
        ConfigError: see ``check_settings``.
    """
    for name in sorted(set(conf) - set(fixed) - other, key=str):
        raise _not_understood(name, where)
    _check_fixed(conf, fixed, where)


def _check_fixed(conf: dict[str, Any], fixed: Fixed, where: str) -> None:
    for name, (default, allowed) in fixed.items():
        value = conf.get(name, default)
        if value not in allowed:
            choices = ", ".join(repr(choice) for choice in allowed)
            raise ConfigError(f"{where}: {name} is {value!r}; supported: {choices}")


def _not_understood(name: object, where: str) -> ConfigError:
    return ConfigError(
        f"{where}: {name} is not understood, so the network might compute something else; remove "
        "the key if it has no effect at inference"
    )
