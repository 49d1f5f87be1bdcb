"""Features for single steps: speech, bent speech, and climbs towards experts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_asr.package.manifest import EncoderSpec
from export.program import EncoderProgram, encoder_spec
from export.step_features import (
    MOST_MADE,
    STEPS,
    candidates,
    expert_layers,
    made_for,
    rounded,
    router_logits,
    run_batch,
)
from model.network import Network
from tests.export.checkpoints import feats_of, network_at


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return network_at("wenet-moe", "int8", tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def spec(network: Network) -> EncoderSpec:
    return encoder_spec(network, 16, 8, 32)


def test_candidates_are_what_a_package_can_store(network: Network, spec: EncoderSpec) -> None:
    chains = candidates(network, feats_of(spec, 20, 0)[0], spec)
    assert chains.shape[1:] == (STEPS, spec.input_frames(1), 80)
    np.testing.assert_array_equal(chains, chains.astype(np.float16))
    np.testing.assert_array_equal(chains, candidates(network, feats_of(spec, 20, 0)[0], spec))


def test_a_climb_reaches_the_experts_that_are_visited_least(
    network: Network, spec: EncoderSpec
) -> None:
    program = EncoderProgram(network).eval()
    layers = expert_layers(program)
    count = len(layers[0].experts)
    visits = np.full((len(layers), count), 9)
    visits[-1, 1] = 0
    chains = rounded(feats_of(spec, 1, 1)[:, None].repeat(STEPS, 1))
    made = made_for(network, visits, chains, spec, seed=0)
    assert 0 < len(made) <= MOST_MADE
    with torch.no_grad(), router_logits(layers) as logits:
        run_batch(program, torch.from_numpy(made[:3]), network, spec)
    chosen = torch.stack(logits[-1]).topk(layers[-1].n_expert_activated).indices
    assert bool((chosen == 1).any())
