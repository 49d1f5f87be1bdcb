"""Reading train.yaml: what is understood, and what is refused and how."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_asr.errors import ConfigError
from model.config import feature_spec, network_config, read_yaml
from tests.model.networks import tree

# The standard U2++ recipe for AISHELL-1 with everything that its training needs, as WeNet
# writes it into train.yaml.
STANDARD = """
accum_grad: 1
cmvn: global_cmvn
cmvn_conf: {cmvn_file: data/train/global_cmvn, is_json_cmvn: true}
ctc: ctc
ctc_conf: {ctc_blank_id: 0}
dataset: asr
dataset_conf:
  batch_conf: {batch_size: 16, batch_type: static}
  fbank_conf: {dither: 1.0, frame_length: 25, frame_shift: 10, num_mel_bins: 80}
  filter_conf: {max_length: 40960, min_length: 0, token_max_length: 200, token_min_length: 1}
  resample_conf: {resample_rate: 16000}
  shuffle: true
  shuffle_conf: {shuffle_size: 1500}
  sort: true
  sort_conf: {sort_size: 500}
  spec_aug: true
  spec_aug_conf: {max_f: 10, max_t: 50, num_f_mask: 2, num_t_mask: 2}
  spec_sub: true
  spec_sub_conf: {max_t: 30, num_t_sub: 3}
  spec_trim: false
  speed_perturb: true
decoder: bitransformer
decoder_conf:
  attention_heads: 4
  dropout_rate: 0.1
  linear_units: 2048
  num_blocks: 3
  positional_dropout_rate: 0.1
  r_num_blocks: 3
  self_attention_dropout_rate: 0.1
  src_attention_dropout_rate: 0.1
dtype: fp32
encoder: conformer
encoder_conf:
  activation_type: swish
  attention_dropout_rate: 0.1
  attention_heads: 4
  causal: true
  cnn_module_kernel: 8
  cnn_module_norm: layer_norm
  dropout_rate: 0.1
  input_layer: conv2d
  linear_units: 2048
  normalize_before: true
  num_blocks: 12
  output_size: 256
  pos_enc_layer_type: rel_pos
  positional_dropout_rate: 0.1
  selfattention_layer_type: rel_selfattn
  use_cnn_module: true
  use_dynamic_chunk: true
  use_dynamic_left_chunk: false
grad_clip: 5
init_infos: {}
input_dim: 80
log_interval: 100
max_epoch: 360
model: asr_model
model_conf: {ctc_weight: 0.3, length_normalized_loss: false, lsm_weight: 0.1, reverse_weight: 0.3}
model_dir: exp/u2++_conformer
optim: adam
optim_conf: {lr: 0.001}
output_dim: 4233
save_states: model_only
scheduler: warmuplr
scheduler_conf: {warmup_steps: 25000}
tokenizer: char
tokenizer_conf:
  bpe_path: null
  is_multilingual: false
  non_lang_syms_path: null
  num_languages: 1
  special_tokens: {<blank>: 0, <eos>: 2, <sos>: 2, <unk>: 1}
  split_with_space: false
  symbol_table_path: data/dict/lang_char.txt
train_engine: torch_ddp
use_amp: false
vocab_size: 4233
"""


def test_standard_recipe() -> None:
    conf = network_config(yaml.safe_load(STANDARD), "train.yaml")
    assert (conf.dim, conf.heads, conf.blocks, conf.kernel) == (256, 4, 12, 8)
    assert (conf.decoder_blocks, conf.reverse_decoder_blocks, conf.bidirectional) == (3, 3, True)
    assert (conf.blank, conf.sos, conf.eos, conf.vocab_size) == (0, 2, 2, 4233)
    assert conf.feed_forward.n_expert == 0 and conf.feed_forward.activation == "swish"
    assert conf.decoder_feed_forward.activation == "relu"
    assert (conf.ctc_weight, conf.reverse_weight, conf.label_smoothing) == (0.3, 0.3, 0.1)
    spec = feature_spec(yaml.safe_load(STANDARD), "train.yaml")
    assert (spec.sample_rate, spec.num_mel_bins, spec.frame_length_ms) == (16000, 80, 25.0)


def test_old_recipe() -> None:
    """Before December 2023: no tokenizer, CTC or CMVN section; sos and eos are the last unit."""
    old = yaml.safe_load(STANDARD)
    for name in ("tokenizer", "tokenizer_conf", "ctc", "ctc_conf", "cmvn", "cmvn_conf",
                 "vocab_size", "model", "dataset", "train_engine", "dtype"):  # fmt: skip
        del old[name]
    old |= {"cmvn_file": "data/train/global_cmvn", "is_json_cmvn": True}
    del old["encoder_conf"]["cnn_module_norm"]
    conf = network_config(old, "train.yaml")
    assert (conf.vocab_size, conf.blank, conf.sos, conf.eos) == (4233, 0, 4232, 4232)
    assert conf.conv_norm == "batch_norm"


def test_moe_defaults_are_wenets() -> None:
    moe = tree()
    for stack in ("encoder_conf", "decoder_conf"):
        del moe[stack]["n_expert"], moe[stack]["n_expert_activated"]
    conf = network_config(moe, "x")
    for feed_forward in (conf.feed_forward, conf.decoder_feed_forward):
        assert (feed_forward.n_expert, feed_forward.n_expert_activated) == (8, 2)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("encoder_conf", "mlp_type", "gated"),
        ("encoder_conf", "causal", False),
        ("encoder_conf", "selfattention_layer_type", "shaw_rel_selfattn"),
        ("encoder_conf", "pos_enc_layer_type", "rope_pos"),
        ("encoder_conf", "layer_norm_type", "rms_norm"),
        ("encoder_conf", "n_kv_head", 1),
        ("encoder_conf", "mlp_bias", False),
        ("encoder_conf", "input_layer", "dwconv2d4"),
        ("encoder_conf", "a_new_key", 1),
        ("encoder_conf", "num_blocks", 0),
        ("encoder_conf", "num_blocks", "twelve"),
        ("encoder_conf", "attention_heads", 3),
        ("encoder_conf", "output_size", 7),
        ("encoder_conf", "cnn_module_kernel", 1),
        ("encoder_conf", "n_expert_activated", 9),
        ("encoder_conf", "n_expert_activated", 0),
        ("decoder_conf", "tie_word_embedding", True),
        ("decoder_conf", "src_attention", False),
        ("decoder_conf", "another_key", None),
        ("decoder_conf", "attention_heads", 5),
        ("model_conf", "ctc_weight", "much"),
        ("ctc_conf", "ctc_blank_id", 11),
        (None, "encoder", "squeezeformer"),
        (None, "decoder", "rnn"),
        (None, "vocab_size", 2.5),
        (None, "encoder_conf", ["a", "list"]),
        (None, "decoder_conf", "text"),
        (None, "tokenizer_conf", "text"),
        (None, "tokenizer", "whisper"),
        (None, "use_lora", True),
        (None, "lora_conf", {"lora_rank": 8}),
        ("model_conf", "apply_non_blank_embedding", True),
    ],
)
def test_refused_in_one_line_that_names_it(place: str | None, name: str, value: Any) -> None:
    changed = copy.deepcopy(tree(ctc_conf={}))
    (changed[place] if place else changed)[name] = value
    with pytest.raises(ConfigError) as caught:
        network_config(changed, "some/train.yaml")
    message = str(caught.value)
    assert message.startswith("some/train.yaml") and "\n" not in message
    assert name in message


@pytest.mark.parametrize("name", ["output_size", "attention_heads", "num_blocks"])
def test_missing_key_of_the_encoder(name: str) -> None:
    changed = tree()
    del changed["encoder_conf"][name]
    with pytest.raises(ConfigError, match=name):
        network_config(changed, "x")


@pytest.mark.parametrize("name", ["encoder_conf", "vocab_size"])
def test_missing_section(name: str) -> None:
    changed = tree()
    del changed[name]
    with pytest.raises(ConfigError, match="output_dim" if name == "vocab_size" else name):
        network_config(changed, "x")


@pytest.mark.parametrize(
    ("dataset", "word"),
    [
        ({"feats_type": "log_mel_spectrogram"}, "feats_type"),
        ({"fbank_conf": {"num_mel_bins": 40}}, "num_mel_bins"),
        ({"fbank_conf": {"window_type": "hanning"}}, "window_type"),
        ({"fbank_conf": {"frame_shift": "ten"}}, "frame_shift"),
        ({"resample_conf": {"resample_rate": "8k"}}, "resample_rate"),
        ({"resample_conf": {"resample_rate": 100}}, "sample_rate"),
        ({"fbank_conf": {"frame_shift": 0}}, "frame_shift_ms"),
        ({"fbank_conf": 3}, "fbank_conf"),
    ],
)
def test_front_end_refused(dataset: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        feature_spec(tree(dataset_conf=dataset), "x")


@pytest.mark.parametrize(
    "place",
    [
        lambda conf: {"collate_conf": {"feature_extraction_conf": conf, "feature_dither": 0.0}},
        lambda conf: {"feature_extraction_conf": conf},
        lambda conf: {"dataset_conf": {"feature_extraction_conf": conf}},
    ],
)
def test_front_end_of_2021(place: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    conf = {"feature_type": "fbank", "mel_bins": 40, "frame_shift": 5, "frame_length": 20,
            "using_pitch": False}  # fmt: skip
    spec = feature_spec(tree(**{"dataset_conf": None, "input_dim": 40} | place(conf)), "x")
    assert (spec.num_mel_bins, spec.frame_shift_ms, spec.frame_length_ms) == (40, 5.0, 20.0)
    for name, value in (
        ("feature_type", "mfcc"), ("using_pitch", True), ("num_ceps", 13), ("mel_bins", 80),
        ("frame_shift", "five"),
    ):  # fmt: skip
        changed = tree(**{"dataset_conf": None, "input_dim": 40} | place(conf | {name: value}))
        with pytest.raises(ConfigError, match=name) as caught:
            feature_spec(changed, "x")
        assert "\n" not in str(caught.value)


def test_front_ends_that_differ() -> None:
    old = {"collate_conf": {"feature_extraction_conf": {"frame_shift": 5}}}
    new = {"dataset_conf": {"fbank_conf": {"frame_shift": 10}}}
    with pytest.raises(ConfigError, match=r"frame_shift is 10, in feature_extraction_conf it is 5"):
        feature_spec(tree(**old | new), "x")
    new["dataset_conf"]["fbank_conf"]["frame_shift"] = 5
    given = tree(**old | new)
    before = copy.deepcopy(given)
    assert feature_spec(given, "x").frame_shift_ms == 5.0
    assert given == before


def test_front_end_of_telephone_speech() -> None:
    telephone = {"resample_conf": {"resample_rate": 8000}, "fbank_conf": {"num_mel_bins": 40}}
    spec = feature_spec(tree(dataset_conf=telephone, input_dim=40), "x")
    assert (spec.sample_rate, spec.num_mel_bins) == (8000, 40)


@pytest.mark.parametrize("text", ["a: [", "- a list", "", "\xff\xfe"])
def test_not_a_mapping(text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"train\.yaml"):
        read_yaml(path)
