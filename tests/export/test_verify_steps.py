"""Single steps find what is wrong in a network, by layer and by expert."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_asr.package.manifest import EncoderSpec
from edge_asr.programs.golden_steps import read_steps
from export.eager import EagerEncoder
from export.parity import ParityError
from export.program import encoder_spec
from export.verify_steps import StepReference, step_reference, verify_steps
from model.network import Network
from quant.checkpoint import QuantizedCheckpoint, load_at
from tests.export.checkpoints import checkpoint_at, feats_of

FEW = slice(24)  # chains: eager steps are slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> QuantizedCheckpoint:
    path = checkpoint_at("wenet-moe", tmp_path_factory.mktemp("checkpoint"))
    return load_at(path, ["int8"])[0]


@pytest.fixture(scope="module")
def spec(checkpoint: QuantizedCheckpoint) -> EncoderSpec:
    return encoder_spec(checkpoint.network, 16, 8, 32)


@pytest.fixture(scope="module")
def reference(checkpoint: QuantizedCheckpoint, spec: EncoderSpec) -> StepReference:
    speech = feats_of(spec, 32, 0)[0]
    return step_reference(checkpoint.network, checkpoint.float_network, speech, spec)


def test_the_network_itself_passes(
    checkpoint: QuantizedCheckpoint, spec: EncoderSpec, reference: StepReference
) -> None:
    verify_steps(EagerEncoder(checkpoint.network), reference.golden.some(FEW), spec, "eager")
    read_steps(reference.arrays("int8"), "int8", spec, "golden.npz")


def test_every_expert_is_visited_and_rounding_is_told_by_stage(reference: StepReference) -> None:
    row = reference.coverage.row()
    assert row["fewest_visits"] > 1 and row["experts_not_reached"] == []
    stages = row["float_differs_by_stage"]
    assert len(stages) == reference.golden.expected.shape[2] and 0 < stages[0] < 0.1
    assert "rounding changes encoder_out by" in str(reference.coverage)


def zeroed_expert(network: Network) -> None:
    network.encoder.encoders[0].feed_forward.experts[1].w_2.weight.zero_()


def swapped_experts(network: Network) -> None:
    experts = network.encoder.encoders[1].feed_forward_macaron.experts
    experts[0], experts[2] = experts[2], experts[0]


def scale_off(network: Network) -> None:
    network.encoder.encoders[1].self_attn.linear_v.weight_scale.mul_(1.04)


def high_bit(network: Network) -> None:
    network.encoder.encoders[0].conv_module.pointwise_conv2.weight[3, 2] ^= 64


def no_bias(network: Network) -> None:
    network.encoder.encoders[1].feed_forward.experts[0].w_1.bias.zero_()


@pytest.mark.parametrize("change", [zeroed_expert, swapped_experts, scale_off, high_bit, no_bias])
def test_a_bug_is_refused(
    checkpoint: QuantizedCheckpoint,
    spec: EncoderSpec,
    reference: StepReference,
    change: Callable[[Network], None],
) -> None:
    wrong = copy.deepcopy(checkpoint.network)
    change(wrong)
    with pytest.raises(ParityError, match=r"onnx int8: .*no package was written") as caught:
        verify_steps(EagerEncoder(wrong), reference.golden.some(FEW), spec, "onnx int8")
    assert "\n" not in str(caught.value)


def test_a_network_that_rounding_makes_another_is_refused(
    checkpoint: QuantizedCheckpoint, spec: EncoderSpec
) -> None:
    other = copy.deepcopy(checkpoint.float_network)
    assert other is not None
    with torch.no_grad():
        other.encoder.after_norm.weight.mul_(3)
    with pytest.raises(ParityError, match="rounding changes encoder_out by"):
        step_reference(checkpoint.network, other, feats_of(spec, 32, 0)[0], spec)


def test_a_network_without_experts_has_steps_too(spec: EncoderSpec, tmp_path: Path) -> None:
    (dense,) = load_at(checkpoint_at("wenet-dense", tmp_path), ["fp32"])
    own = encoder_spec(dense.network, 16, 8, 32)
    reference = step_reference(dense.network, dense.float_network, feats_of(own, 32, 0)[0], own)
    verify_steps(EagerEncoder(dense.network), reference.golden.some(FEW), own, "eager")
    assert reference.coverage.row() == {}
    assert reference.golden.experts.shape[2:] == (0, 1) and np.all(reference.golden.bound < 0.1)
