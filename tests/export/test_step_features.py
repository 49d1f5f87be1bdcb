"""Features for single steps: speech, bent speech, and climbs towards experts."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_asr.backends import FloatArray
from edge_asr.package.manifest import EncoderSpec
from edge_asr.programs.golden_steps import RESOLUTION, step_places
from export.program import EncoderProgram, encoder_spec
from export.step_features import (
    MOST,
    STEPS,
    candidates,
    choose_frames,
    expert_layers,
    router_logits,
    visit_order,
)
from model.network import Network
from tests.export.checkpoints import feats_of, network_at


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return network_at("wenet-moe", "int8", tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def spec(network: Network) -> EncoderSpec:
    return encoder_spec(network, 16, 8, 32)


def chosen_by_steps(network: Network, spec: EncoderSpec, frames: FloatArray) -> Tensor:
    """How many chains visit each expert (M, E), one step after the other."""
    program = EncoderProgram(network).eval()
    layers = expert_layers(program)
    state = tuple(network.encoder.zero_state(spec.left_context, batch=len(frames)))
    visited = torch.zeros(len(layers), len(frames), len(layers[0].experts), dtype=torch.bool)
    feats = torch.from_numpy(frames[:, step_places(frames.shape[1], spec)])
    with torch.no_grad(), router_logits(layers) as logits:
        for step in range(STEPS):
            state = program(feats[:, step], torch.tensor([step]), *state)[2:]
    for layer, said in enumerate(logits):
        for rows in said:
            best = rows.topk(layers[layer].n_expert_activated).indices
            visited[layer].scatter_(1, best, torch.ones_like(best, dtype=torch.bool))
    return visited.sum(1)


def test_candidates_are_what_a_package_can_store(spec: EncoderSpec) -> None:
    speech = feats_of(spec, 20, 0)[0]
    chains = candidates(speech, spec)
    assert chains.shape[1:] == (spec.input_frames(STEPS), 80)
    stored = (chains / RESOLUTION).astype(np.int8)
    np.testing.assert_array_equal(chains, stored * np.float32(RESOLUTION))
    np.testing.assert_array_equal(chains, candidates(speech, spec))


def rare(gate: Tensor) -> None:
    """An expert whose router is shy, but not dead."""
    gate[1] = 0.02 * gate[1]


@pytest.mark.parametrize("change", [lambda gate: None, rare])
def test_chains_visit_every_expert(
    network: Network, spec: EncoderSpec, change: Callable[[Tensor], None]
) -> None:
    changed = copy.deepcopy(network)
    with torch.no_grad():
        change(changed.encoder.encoders[-1].feed_forward.gate.weight)
    frames = choose_frames(changed, feats_of(spec, 32, 0)[0], spec)
    assert STEPS < len(frames) <= MOST
    assert int(chosen_by_steps(changed, spec, frames).min()) > 1


def test_an_expert_that_nothing_can_reach_is_left(network: Network, spec: EncoderSpec) -> None:
    dead = copy.deepcopy(network)
    gate = dead.encoder.encoders[0].feed_forward.gate.weight
    with torch.no_grad():
        gate[1] = gate[0]
        gate[3] = gate[4] = -gate[0]
        gate[2] = gate[0] / 2  # two others are always above it
    frames = choose_frames(dead, feats_of(spec, 32, 0)[0], spec)
    visits = chosen_by_steps(dead, spec, frames)
    assert int(visits[1, 2]) == 0
    assert int(visits[[0, 2, 3]].min()) > 1


def test_rare_experts_are_visited_first_and_each_twice() -> None:
    visits = np.zeros((30, 4))
    visits[:, 0] = 4
    visits[17, 3], visits[23, 3], visits[5, 2] = 1, 1, 2
    order = visit_order(visits, 6)
    assert len(set(order.tolist())) == 6
    assert {17, 23, 5} <= set(order[:4].tolist())
    assert len(visit_order(visits, 99)) == 30
