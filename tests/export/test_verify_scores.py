"""Short hypotheses find what is wrong in decoders, by side and by expert."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_asr.programs.golden_scores import read_scores
from export.eager import EagerDecoder
from export.parity import ParityError
from export.program import decoder_spec
from export.verify_scores import ScoreReference, score_reference, verify_scores
from model.network import Network
from quant.checkpoint import load_at
from tests.export.checkpoints import checkpoint_at


@pytest.fixture(scope="module", params=["fp32", "int8", "int4"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Network:
    path: Path = checkpoint_at("wenet-moe", tmp_path_factory.mktemp("checkpoint"))
    return load_at(path, [request.param])[0].network


@pytest.fixture(scope="module")
def reference(network: Network) -> ScoreReference:
    rng = np.random.default_rng(3)
    memory = rng.standard_normal((1, 40, network.conf.dim)).astype(np.float32)
    return score_reference(network, [memory], decoder_spec(network), {})


def test_the_decoders_pass_that_score_one_by_one(
    network: Network, reference: ScoreReference
) -> None:
    verify_scores(EagerDecoder(network), reference.golden, "eager")


def test_experts_are_visited_often_and_those_that_are_not_are_named(
    reference: ScoreReference,
) -> None:
    assert reference.not_reached == ["0.0"], "no unit leads this network to its first expert"
    assert np.sort(reference.visits, axis=None)[1] > 8


def test_another_precision_scores_the_same_cases(
    network: Network, reference: ScoreReference
) -> None:
    spec, conf = decoder_spec(network), network.conf
    arrays = reference.arrays("one")
    again = score_reference(network, [], spec, arrays)
    arrays |= again.arrays("other")
    read = read_scores(arrays, "other", spec, conf.dim, conf.vocab_size, "x")
    verify_scores(EagerDecoder(network), read, "eager")


def zeroed_expert(network: Network) -> None:
    layer = network.decoder.left_decoder.decoders[0].feed_forward
    layer.experts[1].w_2.weight.zero_()


def doubled_expert(network: Network) -> None:
    experts = network.decoder.right_decoder.decoders[0].feed_forward.experts
    experts[3] = experts[0]


def swapped_directions(network: Network) -> None:
    both = network.decoder
    both.left_decoder, both.right_decoder = both.right_decoder, both.left_decoder


def left_out_bias(network: Network) -> None:
    network.decoder.right_decoder.decoders[0].src_attn.linear_v.bias.zero_()


def left_out_norm(network: Network) -> None:
    network.decoder.left_decoder.decoders[0].norm2 = torch.nn.Identity()


def scale_off(network: Network) -> None:
    attention = network.decoder.left_decoder.decoders[0].self_attn
    layer = attention.linear_out
    (layer.weight_scale if hasattr(layer, "weight_scale") else layer.weight).mul_(1.04)


@pytest.mark.parametrize(
    "bug",
    [zeroed_expert, doubled_expert, swapped_directions, left_out_bias, left_out_norm, scale_off],
)
def test_a_bug_is_refused(
    network: Network, reference: ScoreReference, bug: Callable[[Network], None]
) -> None:
    wrong = copy.deepcopy(network)
    with torch.no_grad():
        bug(wrong)
    with pytest.raises(ParityError, match="no package was written"):
        verify_scores(EagerDecoder(wrong), reference.golden, "eager")


def test_decoders_without_experts_are_compared_too(tmp_path: Path) -> None:
    network = load_at(checkpoint_at("wenet-dense", tmp_path), ["int8"])[0].network
    memory = np.random.default_rng(4).standard_normal((1, 30, network.conf.dim)).astype(np.float32)
    found = score_reference(network, [memory], decoder_spec(network), {})
    assert found.not_reached == []
    verify_scores(EagerDecoder(network), found.golden, "eager")
    wrong = copy.deepcopy(network)
    swapped_directions(wrong)
    with pytest.raises(ParityError, match="no package was written"):
        verify_scores(EagerDecoder(wrong), found.golden, "eager")
