"""Features that make an encoder visit its experts: speech, speech that was bent, and what gradients
find for the experts that neither reaches.

A program chooses its experts by itself, so an expert is only run if some features lead to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge_asr.audio.features import Frames
from edge_asr.backends import FloatArray
from edge_asr.package.manifest import EncoderSpec
from export.eager import FLOAT_ACTIVATIONS
from export.program import EncoderProgram, with_replaced
from model.feed_forward import MoeFeedForward
from model.network import Network

STEPS = 4  # of a chain: the later ones see what those before left in the state
CANDIDATES = 192  # chains of speech, and as many of bent speech
ROUNDS, RATE, MARGIN = 40, 0.3, 0.5  # of a climb
MOST_MADE, TRIES = 75, 3  # chains in one climb, and of them for one expert
LARGEST = 40.0  # of a feature


def candidates(network: Network, joined: Frames, spec: EncoderSpec) -> FloatArray:
    """Chains (N, S, T, F) of speech (frames, F), as it is and bent, rounded to float16."""
    rng = np.random.default_rng(0)
    size, shift = spec.input_frames(1), spec.subsampling_rate
    starts = rng.integers(0, len(joined) - size - (STEPS - 1) * shift, 2 * CANDIDATES)
    places = starts[:, None, None] + np.arange(STEPS)[:, None] * shift + np.arange(size)
    chains = joined[places].astype(np.float32)
    bent = chains[CANDIDATES:]
    count, bins = len(bent), bent.shape[-1]

    def normal(*shape: int) -> FloatArray:
        return rng.standard_normal(shape).astype(np.float32)

    mean = bent.mean((1, 2, 3), keepdims=True)
    tilt = np.linspace(-1, 1, bins, dtype=np.float32)
    bent = mean + (bent - mean) * np.exp(0.5 * normal(count, 1, 1, 1))
    bent += 3 * normal(count, 1, 1, 1) * tilt + 3 * normal(count, 1, 1, 1)
    bent += np.abs(normal(count, 1, 1, 1)) * normal(*bent.shape)
    chains[CANDIDATES:] = bent
    return rounded(chains)


def rounded(chains: FloatArray) -> FloatArray:
    """As the package stores them."""
    return np.clip(chains, -LARGEST, LARGEST).astype(np.float16).astype(np.float32)


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


def made_for(
    network: Network,
    visits: npt.NDArray[np.int64],
    chains: FloatArray,
    spec: EncoderSpec,
    seed: int,
) -> FloatArray:
    """Chains that climb towards the experts of which ``visits`` (M, E) are fewest, from some of
    ``chains``."""
    rng = np.random.default_rng(seed)
    few = np.argsort(visits.reshape(-1), kind="stable")[: MOST_MADE // TRIES]
    layer, expert = np.unravel_index(np.repeat(few, TRIES), visits.shape)
    targets = np.stack([layer, expert], axis=1)
    program = with_replaced(EncoderProgram(network).eval(), FLOAT_ACTIVATIONS)
    layers = expert_layers(program)
    begun = chains[rng.integers(0, len(chains), len(targets))]
    feats = torch.from_numpy(begun.copy()).requires_grad_()
    climber = torch.optim.Adam([feats], lr=RATE)
    wanted = torch.from_numpy(targets)
    rows = torch.arange(len(targets))
    for _ in range(ROUNDS):
        with router_logits(layers) as logits:
            run_batch(program, feats, network, spec)
        steps = [torch.stack(per_layer) for per_layer in zip(*logits, strict=True)]
        loss = torch.zeros(())
        for step in steps:  # (M, rows, E) of the layers
            own = step[wanted[:, 0], rows]
            chosen = layers[0].n_expert_activated
            needed = own.topk(chosen, dim=1).values[:, -1]
            loss = loss + torch.relu(MARGIN + needed - own[rows, wanted[:, 1]]).sum()
        climber.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        climber.step()
    return rounded(feats.detach().numpy())


def run_batch(
    program: nn.Module, feats: Tensor, network: Network, spec: EncoderSpec
) -> list[tuple[Tensor, ...]]:
    """What a program of torch gives in each step of chains (N, S, T, F), all at once."""
    state = tuple(network.encoder.zero_state(spec.left_context, batch=feats.size(0)))
    results = []
    for step in range(feats.size(1)):
        outputs = program(feats[:, step], torch.tensor([step]), *state)
        state = outputs[2:]
        results.append(outputs)
    return results
