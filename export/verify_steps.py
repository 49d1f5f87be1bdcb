"""Single steps that visit every expert: what eager torch gives for them, layer by layer, and how
far a right program may be from that; see ``edge_asr.programs.golden_steps``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge_asr.audio.features import Frames
from edge_asr.backends import Encoder, FloatArray
from edge_asr.package.manifest import EncoderSpec
from edge_asr.programs.golden_steps import (
    ARRAYS,
    PREFIXES,
    GoldenSteps,
    complaint,
    deviation,
    run_chains,
    sketch,
)
from export.parity import GOLDEN_SAFETY, ParityError
from export.program import EncoderProgram
from export.step_features import (
    STEPS,
    candidates,
    expert_layers,
    made_for,
    router_logits,
    run_batch,
)
from model.convolution import PointwiseConv
from model.encoder import EncoderLayer
from model.network import Network
from quant.linear import QuantLinear
from quant.linear4 import QuantLinear4

MOST_CHAINS = 96  # that programs are verified with
GOLDEN_CHAINS = PREFIXES[-1]  # of them, those that travel with the package
ENOUGH = 20  # visits of an expert
CLIMBS = 3  # towards the experts that are visited least
# What a step may differ by where no integer moves: right programs do by 8e-7 in 95 of 100 steps.
# float32 ones have no integers that swallow the last bits of the layers before.
FLOORS = {"quantized": 2e-5, "float": 1e-4}
FLOOR = FLOORS["quantized"]
# Programs add in other orders than eager torch. Relative to the largest number of a row.
LAST_BITS, DRAWS = 1e-7, 3
COARSE = 1e-5  # moves integers in nearly every step: what these can do at most
LOWEST_CAP = 0.05  # a router that takes its next choice does as much, in float32 too
# Half of the energy of what the encoder says would be rounding's.
LARGEST_ROUNDING = 0.7

_LINEAR = (QuantLinear, QuantLinear4, nn.Linear, PointwiseConv)


@dataclass(frozen=True)
class Coverage:
    """How often the steps visit the experts: (M, E), and what rounding does by stage (G,)."""

    visits: npt.NDArray[np.int64]
    rounding: FloatArray | None

    def row(self) -> dict[str, Any]:
        """The entry of parity.json."""
        row: dict[str, Any] = {}
        if self.visits.size:
            missed = np.argwhere(self.visits == 0)
            row |= {
                "experts": int(self.visits.size),
                "fewest_visits": int(self.visits.min()),
                "experts_not_reached": [f"{layer}.{expert}" for layer, expert in missed],
            }
        if self.rounding is not None:
            row["float_differs_by_stage"] = [round(float(value), 4) for value in self.rounding]
        return row

    def __str__(self) -> str:
        """For who waits for the export."""
        words = []
        if self.visits.size:
            missed = int((self.visits == 0).sum())
            words.append(f"steps visit {self.visits.size - missed} of {self.visits.size} experts")
        if self.rounding is not None:
            words.append(f"rounding changes encoder_out by {self.rounding[-2]:.2%}")
        return ", ".join(words) or "steps have no experts to visit"


@dataclass(frozen=True)
class StepReference:
    """The steps, and what they reach."""

    golden: GoldenSteps
    coverage: Coverage

    def arrays(self, precision: str) -> dict[str, npt.NDArray[np.generic]]:
        """What travels with the package."""
        few = self.golden.some(slice(GOLDEN_CHAINS))
        arrays: dict[str, npt.NDArray[np.generic]] = {
            f"steps_{name}_{precision}": getattr(few, name) for name in ARRAYS
        }
        arrays[f"steps_feats_{precision}"] = few.feats.astype(np.float16)
        arrays[f"steps_experts_{precision}"] = few.experts.astype(np.uint8)
        return arrays


@torch.inference_mode(False)
def step_reference(
    network: Network, float_network: Network | None, joined: Frames, spec: EncoderSpec
) -> StepReference:
    """Choose features, run the eager network on them, and measure what last bits do.

    Args:
        float_network: what ``network`` was rounded from, if it is known.
        joined: speech (frames, F).

    Raises:
        ParityError: the rounded network says something else than the float one.
    """
    program = EncoderProgram(network).eval()
    feats = candidates(network, joined, spec)
    _, experts = _run(program, feats, network, spec)
    for seed in range(CLIMBS if experts.size else 0):
        visits = _visits(experts, network)
        if visits.min() >= ENOUGH:
            break
        made = made_for(network, visits, feats, spec, seed)
        feats = np.concatenate([feats, made])
        experts = np.concatenate([experts, _run(program, made, network, spec)[1]])
    expected, experts = _run(program, feats, network, spec)
    noise = _noise(program, feats, expected, network, spec)
    quantized = any(isinstance(m, QuantLinear | QuantLinear4) for m in network.modules())
    floor = FLOORS["quantized" if quantized else "float"]
    chosen = _choose(experts, (noise <= floor).mean((1, 2)), network)
    feats, expected, noise = (array[chosen] for array in (feats, expected, noise))
    experts = experts[chosen]
    coarse = _moved(program, feats, expected, network, spec, COARSE)
    peak = np.maximum(coarse, noise).max((0, 1))
    golden = GoldenSteps(
        feats,
        expected,
        np.maximum(floor, GOLDEN_SAFETY * noise).astype(np.float32),
        np.maximum(LOWEST_CAP, GOLDEN_SAFETY * peak).astype(np.float32),
        experts,
        _shown(network),
    )
    rounding = None
    if float_network is not None and float_network is not network:
        rounding = _rounding(float_network, feats, expected, spec)
    return StepReference(golden, Coverage(_visits(experts, network), rounding))


def verify_steps(encoder: Encoder, golden: GoldenSteps, spec: EncoderSpec, program: str) -> None:
    """Compare a loaded program with the eager network, step by step and layer by layer.

    Raises:
        ParityError: it differs by more than moved integers explain.
    """
    found = deviation(run_chains(encoder, golden.feats, spec), golden.expected)
    if wrong := complaint(found, golden):
        raise ParityError(f"{program}: {wrong}; no package was written")


def _rounding(network: Network, feats: FloatArray, expected: FloatArray, spec: EncoderSpec) -> Any:
    """How far the float network is in each stage, in the median over steps."""
    program = EncoderProgram(network).eval()
    plain, _ = _run(program, feats, network, spec)
    by_stage = np.median(deviation(plain, expected), axis=(0, 1))
    if not by_stage[-2] <= LARGEST_ROUNDING:
        raise ParityError(
            f"rounding changes encoder_out by {by_stage[-2]:.2f} of its size in the median step, "
            f"allowed {LARGEST_ROUNDING}: the integers are too coarse for this checkpoint; export "
            "it with --precision fp32"
        )
    return by_stage


@torch.no_grad()
def _run(
    program: nn.Module, feats: FloatArray, network: Network, spec: EncoderSpec
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Sketches (N, S, G, K) and chosen experts (N, S, M, k) of chains (N, S, T, F)."""
    layers = expert_layers(program)
    with router_logits(layers) as logits:
        steps = run_batch(program, torch.from_numpy(feats), network, spec)
    sketches = []
    for encoder_out, log_probs, *state in steps:
        arrays = tuple(tensor.numpy() for tensor in state)
        sketches.append(sketch(encoder_out.numpy(), log_probs.numpy(), arrays))
    chosen = [
        torch.stack([step.topk(layer.n_expert_activated).indices for step in said], dim=1)
        for layer, said in zip(layers, logits, strict=True)
    ]
    empty = np.zeros((*feats.shape[:2], 0, 1), np.int64)
    experts = torch.stack(chosen, dim=2).numpy() if chosen else empty
    return np.stack(sketches, axis=1), experts


def _moved(
    program: nn.Module,
    feats: FloatArray,
    expected: FloatArray,
    network: Network,
    spec: EncoderSpec,
    amount: float,
    seed: int = 0,
) -> FloatArray:
    """Deviations (N, S, G) where every linear layer reads numbers moved by ``amount`` of the
    largest of their row."""
    generator = torch.Generator().manual_seed(seed)

    def move(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        x = inputs[0]
        return (x + amount * x.abs().amax(-1, True) * torch.randn(x.shape, generator=generator),)

    linear = [module for module in program.modules() if isinstance(module, _LINEAR)]
    handles = [module.register_forward_pre_hook(move) for module in linear]
    try:
        found, _ = _run(program, feats, network, spec)
    finally:
        for handle in handles:
            handle.remove()
    return deviation(found, expected)


def _noise(
    program: nn.Module, feats: FloatArray, expected: FloatArray, network: Network, spec: EncoderSpec
) -> FloatArray:
    """The largest deviations (N, S, G) that last bits bring about in a few draws."""
    draws = [
        _moved(program, feats, expected, network, spec, LAST_BITS, seed) for seed in range(DRAWS)
    ]
    largest: FloatArray = np.max(draws, axis=0)
    return largest


def _choose(
    experts: npt.NDArray[np.int64], calm: FloatArray, network: Network
) -> npt.NDArray[np.int64]:
    """Chains, in an order in which all experts are soon visited, and again; those in which last
    bits move integers are of little use."""
    layers, count = experts.shape[2], max(1, network.conf.feed_forward.n_expert)
    flat = experts + count * np.arange(layers)[:, None]
    flat = flat.reshape(len(experts), -1)
    visits, order = np.zeros(max(1, layers * count)), []
    worth = np.where(calm == 1.0, 1.0, 0.1 * calm**2)
    for _ in range(min(MOST_CHAINS, len(experts))):
        needed = np.where(visits < 2, 1.0, 0.2 / (1 + visits) ** 2)  # one visit proves little
        gain = worth * (1e-3 + needed[flat].sum(1))
        best = int(gain.argmax())
        order.append(best)
        np.add.at(visits, flat[best], 1)
        worth[best] = 0.0
    return np.array(order)


def _visits(experts: npt.NDArray[np.int64], network: Network) -> npt.NDArray[np.int64]:
    """How often each expert is chosen, (M, E)."""
    count = network.conf.feed_forward.n_expert
    layers = [np.bincount(chosen.reshape(-1), minlength=count) for chosen in _by_layer(experts)]
    return np.stack(layers) if layers else np.zeros((0, 0), np.int64)


def _by_layer(experts: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    return [experts[:, :, layer] for layer in range(experts.shape[2])]


def _shown(network: Network) -> npt.NDArray[np.int64]:
    """The first stage that each expert layer changes: a layer's first half step its own keys, the
    second what comes after the layer."""
    stages = [
        stage
        for index, layer in enumerate(network.encoder.encoders)
        if isinstance(layer, EncoderLayer)
        for half, stage in ((layer.feed_forward_macaron, index), (layer.feed_forward, index + 1))
        if expert_layers(half)
    ]
    return np.array(stages, np.int64)


assert STEPS > 1, "the state is to be carried over"
