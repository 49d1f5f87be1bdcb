"""Where the routers of a checkpoint send the frames of the workload.

A chunk reads the weights of every expert that one of its frames needs, so the number of experts
touched per call decides how many bytes a chunk costs. In a random network all frames are nearly
the same vector past a few layers, and a random router would send them all to the same two
experts; a trained router looks at what differs. ``centre_routers`` gives the random ones that
property, and ``measure_routing`` counts what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.paper.workload import (
    CHUNK_FRAMES,
    LEFT_FRAMES,
    SECOND_FEATURES,
    SOS,
    encoder_frames,
    features,
    hypotheses,
    input_frames,
)
from model.decoder import BiDecoder
from model.network import Network
from model.routing import expert_layers, watch_routers

_WARM_CHUNKS = LEFT_FRAMES // CHUNK_FRAMES
_CHUNKS = 6  # counted, after the warm ones


@torch.inference_mode()
def centre_routers(network: Network, seed: int = 0) -> dict[str, Tensor]:
    """Give every router random weights that ignore what all frames share.

    Layers are done in the order in which they run, each on what the ones before it give, in
    chunks for the encoder. Returns the new weights (E, D) by their names in the state_dict.
    """
    done: dict[str, Tensor] = {}

    def centre(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            key = f"{name}.gate.weight"
            if key not in done:
                gate = module.get_submodule("gate")
                done[key] = _centred(gate.weight, inputs[0].flatten(0, -2))
                gate.weight = nn.Parameter(done[key], requires_grad=False)

        return hook

    handles = [m.register_forward_pre_hook(centre(n)) for n, m in expert_layers(network).items()]
    try:
        frames = SECOND_FEATURES
        memory = _whole(network, torch.from_numpy(features(frames, seed + 1)))
        _rescore(network, memory)
    finally:
        for handle in handles:
            handle.remove()
    return done


def _centred(gate: Tensor, rows: Tensor) -> Tensor:
    """The router's weight (E, D), without the mean of rows (N, D), at logits of deviation 1."""
    mean = rows.mean(dim=0)
    direction = mean / mean.norm().clamp(min=1e-6)
    weight = gate - (gate @ direction).unsqueeze(1) * direction
    deviation = (rows @ weight.t()).std(dim=0, keepdim=True).clamp(min=1e-6)
    return weight / deviation.t()


@torch.inference_mode()
def measure_routing(network: Network) -> dict[str, Any]:
    """Distinct experts per call: for every layer the list of calls.

    ``chunk``: calls of CHUNK_FRAMES frames with a full cache. ``second``: one second pass.
    ``chunk_top_1``: had each frame gone to its best expert alone.
    """
    with watch_routers(network) as routers:
        _stream(network)
        memory = _whole(network, torch.from_numpy(features(SECOND_FEATURES)))
        _rescore(network, memory)
    layers = expert_layers(network)
    seen = {
        name: [_distinct(logits, layers[name].n_expert_activated) for logits in calls]
        for name, calls in routers.items()
    }
    chunks = slice(_WARM_CHUNKS, _WARM_CHUNKS + _CHUNKS)
    encoder = {name: calls[chunks] for name, calls in seen.items() if name.startswith("encoder.")}
    decoder = {name: calls for name, calls in seen.items() if name.startswith("decoder.")}
    return {
        "chunk": {name: [both for both, _ in calls] for name, calls in encoder.items()},
        "chunk_top_1": {name: [best for _, best in calls] for name, calls in encoder.items()},
        "second": {name: [both for both, _ in calls] for name, calls in decoder.items()},
    }


def _distinct(logits: Tensor, activated: int) -> tuple[int, int]:
    """Distinct experts of a call, and had each frame gone to its best one alone."""
    best = logits.flatten(0, -2).topk(activated, dim=-1).indices
    return len(best.unique()), len(best[:, 0].unique())


def _stream(network: Network) -> None:
    state = network.encoder.zero_state(LEFT_FRAMES)
    for index in range(_WARM_CHUNKS + _CHUNKS):
        feats = torch.from_numpy(features(input_frames(CHUNK_FRAMES), seed=index))
        offset = torch.tensor([index * CHUNK_FRAMES])
        _, _, state = network.step(feats, offset, state)


def _whole(network: Network, feats: Tensor) -> Tensor:
    """encoder_out (1, T', D) of features (1, T, F), in one call."""
    state = network.encoder.zero_state(0)
    return network.encoder.step(feats, torch.tensor([0]), state)[0]


def _rescore(network: Network, memory: Tensor) -> None:
    units = torch.from_numpy(hypotheses(network.conf.vocab_size))
    tokens = torch.cat([torch.full((len(units), 1), SOS), units], dim=1)
    masks = torch.ones_like(tokens, dtype=torch.bool), torch.ones(memory.shape[:2]).bool()
    decoder = network.decoder
    assert isinstance(decoder, BiDecoder)
    assert memory.size(1) == encoder_frames(SECOND_FEATURES)
    decoder.left_decoder(tokens, masks[0], memory, masks[1])
    decoder.right_decoder(torch.cat([tokens[:, :1], units.flip(1)], 1), masks[0], memory, masks[1])
