"""Features that make an encoder visit its experts: speech, speech that was bent, and what gradients
find for the experts that neither reaches.

A program chooses its experts by itself, so an expert is only run if some features lead to it. The
features are chosen once, by the float network, for the programs of all precisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge_asr.audio.features import Frames
from edge_asr.backends import FloatArray
from edge_asr.package.manifest import EncoderSpec
from edge_asr.programs.golden_steps import RESOLUTION, step_places
from export.eager import FLOAT_ACTIVATIONS
from export.program import with_replaced
from model.encoder import Encoder
from model.feed_forward import MoeFeedForward
from model.masks import chunk_mask
from model.network import Network

STEPS = 4  # of a chain: the later ones see what those before left in the state
CANDIDATES = 320  # chains of speech, and as many of bent speech
ENOUGH = 6  # chains that visit an expert
TRIES, ROUNDS, RATE, MARGIN = 6, 24, 0.8, 0.3  # of a climb towards an expert
MOST = 320  # chains that all precisions choose from
LARGEST = 127 * RESOLUTION  # of a feature


@torch.inference_mode(False)
def choose_frames(network: Network, joined: Frames, spec: EncoderSpec) -> FloatArray:
    """Chains (N, T, F) of consecutive feature frames that visit as many experts as can be reached,
    from speech (frames, F). ``network`` may be quantized; it is run in float."""
    frames = candidates(joined, spec)
    encoder = with_replaced(network.encoder, FLOAT_ACTIVATIONS).eval()
    if not expert_layers(encoder):
        return frames[:: -(-len(frames) // MOST)]
    with torch.no_grad():
        margins = _margins(encoder, torch.from_numpy(frames), spec)
    best = margins.amax(1).numpy()  # (N, M, E)
    rare = np.argwhere((best >= 0).sum(0) < ENOUGH)
    if len(rare):
        nearest = np.argsort(-best, axis=0, kind="stable")[:TRIES]
        begun = frames[np.concatenate([nearest[:, layer, expert] for layer, expert in rare])]
        made = _climb(encoder, begun, np.repeat(rare, TRIES, axis=0), spec)
        with torch.no_grad():
            margins = torch.cat([margins, _margins(encoder, torch.from_numpy(made), spec)])
        frames = np.concatenate([frames, made])
    visits = (margins >= 0).double().sum(1).flatten(1).numpy()
    return frames[visit_order(visits, MOST)]


def visit_order(visits: npt.NDArray[np.floating[Any]], most: int) -> npt.NDArray[np.int64]:
    """Numbers of at most ``most`` chains, in an order in which all experts are soon visited, and
    again; ``visits`` (N, M * E) says how often each chain visits each expert of each layer."""
    seen, left, order = np.zeros(visits.shape[1]), np.ones(len(visits), bool), []
    for _ in range(min(most, len(visits))):
        needed = np.where(seen < 2, 1.0, 0.2 / (1 + seen) ** 2)  # one visit proves little
        best = int(np.where(left, visits @ needed, -1.0).argmax())
        order.append(best)
        seen += visits[best]
        left[best] = False
    return np.array(order)


def candidates(joined: Frames, spec: EncoderSpec) -> FloatArray:
    """Chains (N, T, F) of speech (frames, F), as it is and bent."""
    rng = np.random.default_rng(0)
    size = spec.input_frames(1) + (STEPS - 1) * spec.subsampling_rate
    starts = rng.integers(0, len(joined) - size + 1, 2 * CANDIDATES)
    chains = joined[starts[:, None] + np.arange(size)].astype(np.float32)
    bent = chains[CANDIDATES:]

    def normal(*shape: int) -> FloatArray:
        return rng.standard_normal(shape).astype(np.float32)

    each = (len(bent), 1, 1)
    mean = bent.mean((1, 2), keepdims=True)
    tilt = np.linspace(-1, 1, bent.shape[-1], dtype=np.float32)
    bent = mean + (bent - mean) * np.exp(0.5 * normal(*each))
    bent += 3 * normal(*each) * tilt + 3 * normal(*each)
    bent += np.abs(normal(*each)) * normal(*bent.shape)
    chains[CANDIDATES:] = bent
    return rounded(chains)


def rounded(frames: FloatArray) -> FloatArray:
    """As the package stores them."""
    clipped = np.clip(frames, -LARGEST, LARGEST)
    result: FloatArray = (np.round(clipped / RESOLUTION) * RESOLUTION).astype(np.float32)
    return result


def expert_layers(program: nn.Module) -> list[MoeFeedForward]:
    """In the order in which a step runs them."""
    return [module for module in program.modules() if isinstance(module, MoeFeedForward)]


@contextmanager
def router_logits(layers: list[MoeFeedForward]) -> Iterator[list[list[Tensor]]]:
    """What each layer's router says (rows, E) in each call while this is open."""
    logits: list[list[Tensor]] = [[] for _ in layers]

    def watch(into: list[Tensor], layer: MoeFeedForward) -> torch.utils.hooks.RemovableHandle:
        def see(_: nn.Module, inputs: tuple[Tensor]) -> None:
            x = inputs[0]
            into.append(layer.router_logits(x.reshape(-1, x.size(-1))))

        return layer.register_forward_pre_hook(see)

    handles = [watch(*pair) for pair in zip(logits, layers, strict=True)]
    try:
        yield logits
    finally:
        for handle in handles:
            handle.remove()


def _margins(encoder: Encoder, frames: Tensor, spec: EncoderSpec) -> Tensor:
    """How far (N, S, M, E) each expert is from being left out, below 0 where it is not chosen."""
    layers = expert_layers(encoder)
    count = len(step_places(frames.size(1), spec))
    mask = chunk_mask(count, 1, spec.left_context)  # all steps at once
    with router_logits(layers) as logits:
        encoder(frames, torch.tensor([0]), encoder.zero_state(0, len(frames)), mask)
    said = torch.stack([rows for (rows,) in logits], dim=1)
    said = said.reshape(len(frames), count, *said.shape[1:])
    chosen = layers[0].n_expert_activated
    best = said.topk(min(chosen + 1, said.size(3)), dim=3).values
    last, next_one = best[..., chosen - 1 : chosen], best[..., -1:]
    return torch.where(said < last, said - last, said - next_one)


def _climb(
    encoder: Encoder, begun: FloatArray, targets: npt.NDArray[np.int64], spec: EncoderSpec
) -> FloatArray:
    """Chains that lead to the experts ``targets`` (N, 2), by layer and number, from ``begun``
    (N, T, F) on; those that do not get there are left out."""
    layer, expert = torch.from_numpy(targets).unbind(1)
    frames = torch.from_numpy(begun.copy()).requires_grad_()
    climber = torch.optim.Adam([frames], lr=RATE)
    found, active = [], torch.arange(len(targets))
    for needed in [STEPS // 2] * (ROUNDS - 1) + [1]:  # what does not get far is better than nothing
        exact = torch.from_numpy(rounded(frames[active].detach().numpy()))
        given = frames[active] + (exact - frames[active]).detach()
        margins = _margins(encoder, given, spec)
        own = margins[torch.arange(len(active)), :, layer[active], expert[active]]  # (N, S)
        there = (own >= MARGIN / 2).sum(1) >= needed
        found.append(exact[there].numpy())
        if bool(there.all()):
            break
        climber.zero_grad()
        torch.relu(MARGIN - own).sum().backward()  # type: ignore[no-untyped-call]
        climber.step()
        active = active[~there]
    return np.concatenate(found)


assert STEPS > 1, "the state is to be carried over"
