"""Settings of every section that change what a network computes, or that nobody knows."""

from __future__ import annotations

from typing import Any

import pytest

from edge_asr.errors import ConfigError
from model.settings import check_section, check_settings, section
from tests.model.networks import tree


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "paraformer"}, "model is 'paraformer'; supported: 'asr_model'"),
        ({"model": "transducer"}, "model is 'transducer'"),
        ({"ctc": "xctc"}, "ctc is 'xctc'; supported: 'ctc'"),
        ({"cmvn": "utterance"}, "cmvn is 'utterance'; supported: None, 'global_cmvn'"),
        ({"predictor": "rnn"}, "predictor is 'rnn'"),
        ({"joint_conf": {"join_dim": 512}}, "joint_conf is not understood"),
        ({"adapter": {"width": 8}}, "adapter is not understood"),
        ({"lfr_conf": {"lfr_m": 7}}, "lfr_conf is not understood"),
        ({"model_conf": {"predictor_weight": 1}}, "model_conf: predictor_weight is not understood"),
        ({"model_conf": {"apply_non_blank_embedding": True}}, "apply_non_blank_embedding is True"),
        ({"model_conf": {"lfmmi_dir": "data/lfmmi"}}, "lfmmi_dir is 'data/lfmmi'"),
        ({"ctc_conf": {"ctc_type": "other"}}, "ctc_conf: ctc_type is not understood"),
        ({"cmvn_conf": {"norm_var": False}}, "cmvn_conf: norm_var is not understood"),
        ({"dataset_conf": {"lfr_conf": {"lfr_m": 7}}}, "dataset_conf: lfr_conf is not understood"),
        ({"dataset_conf": {"feats_type": "mfcc"}}, "dataset_conf: feats_type is 'mfcc'"),
        ({"collate_conf": {"lfr_m": 7}}, "collate_conf: lfr_m is not understood"),
        ({"encoder_conf": {7: 1}}, "encoder_conf: 7 is not understood"),
        ({"model_conf": ["ctc_weight"]}, "model_conf is ['ctc_weight']; a mapping is expected"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(tree(**changes), "train.yaml")
    message = str(caught.value)
    assert message.startswith("train.yaml: ") and words in message and "\n" not in message


@pytest.mark.parametrize(
    "changes",
    [
        {"grad_clip": 5, "my_note": "third attempt", "save_states": "model_only"},
        {"optim_conf": {"lr": 0.1}, "scheduler_conf": {"warmup_steps": 5}, "init_infos": {}},
        {"model": "asr_model", "ctc": "ctc", "cmvn": "global_cmvn", "lora_conf": None},
        {"model_conf": {"ctc_weight": 0.3, "length_normalized_loss": False, "lfmmi_dir": ""}},
        {"dataset_conf": {"spec_aug_conf": {"max_t": 50}, "speed_perturb": True}},
        {"ctc_conf": None, "dataset_conf": None},
    ],
)
def test_what_matters_to_training_only_is_not(changes: dict[str, Any]) -> None:
    check_settings(tree(**changes), "train.yaml")


@pytest.mark.parametrize("name", ["use_energy", "snip_edges", "preemphasis_coefficient"])
def test_a_setting_of_features_that_is_not_computed(name: str) -> None:
    with pytest.raises(ConfigError, match=f"fbank_conf: {name} is not understood"):
        check_section({name: True, "dither": 0.0}, {}, {"dither"}, "train.yaml: fbank_conf")


def test_a_section_that_is_missing() -> None:
    assert section({}, "ctc_conf", "x") == section({"ctc_conf": None}, "ctc_conf", "x") == {}
    with pytest.raises(KeyError):
        section({}, "encoder_conf", "x", required=True)
