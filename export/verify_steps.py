"""Single steps that visit every expert: what eager torch gives for them, layer by layer, and how
far a right program may be from that; see ``edge_asr.programs.golden_steps``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_asr.audio.features import Frames
from edge_asr.backends import Encoder, FloatArray
from edge_asr.package.manifest import EncoderSpec
from edge_asr.programs.golden_steps import (
    ARRAYS,
    PREFIXES,
    RESOLUTION,
    GoldenSteps,
    complaint,
    deviation,
    run_chains,
    sketch,
    step_places,
)
from export.parity import GOLDEN_SAFETY, ParityError
from export.program import EncoderProgram
from export.step_features import choose_frames, expert_layers, router_logits, visit_order
from model.convolution import PointwiseConv
from model.encoder import EncoderLayer
from model.network import Network
from quant.linear import QuantLinear
from quant.linear4 import QuantLinear4

MOST_CHAINS = 128  # that programs are verified with
GOLDEN_CHAINS = PREFIXES[-1]  # of them, those that travel with the package
# What a step may differ by where no integer moves: right programs do by 8e-7 in 95 of 100 steps.
# float32 ones have no integers that swallow the last bits of the layers before.
FLOORS = {"quantized": 2e-5, "float": 1e-4}
FLOOR = FLOORS["quantized"]
# Programs add in other orders than eager torch. Relative to the largest number of a row.
LAST_BITS, DRAWS = 3e-8, 3
SEVERAL_BITS = 1e-7  # on another processor
RESTLESS = 0.3  # what a visit is worth where these move an integer, in it or before in its chain
COARSE = 1e-5  # moves integers in nearly every step: what these can do at most
LOWEST_CAP = 0.5  # a router that takes its next choice does as much, in float32 too
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
    """The steps, the chains of frames (N, T, F) that they are cut from, and what they reach."""

    golden: GoldenSteps
    frames: FloatArray
    coverage: Coverage

    def arrays(self, precision: str) -> dict[str, npt.NDArray[np.generic]]:
        """What travels with the package."""
        few = self.golden.some(slice(GOLDEN_CHAINS))
        frames = np.round(self.frames[:GOLDEN_CHAINS] / RESOLUTION).astype(np.int8)
        experts = few.experts.astype(np.uint8)
        values: tuple[npt.NDArray[np.generic], ...] = (
            frames, few.expected, few.bound, few.cap, experts, few.shown
        )  # fmt: skip
        return {f"steps_{n}_{precision}": array for n, array in zip(ARRAYS, values, strict=True)}


@torch.inference_mode(False)
def step_reference(
    network: Network,
    float_network: Network | None,
    joined: Frames,
    spec: EncoderSpec,
    frames: FloatArray | None = None,
) -> StepReference:
    """Choose features, run the eager network on them, and measure what last bits do.

    Args:
        float_network: what ``network`` was rounded from, if it is known.
        joined: speech (frames, F).
        frames: chains that were chosen already; see ``choose_frames``.

    Raises:
        ParityError: the rounded network says something else than the float one.
    """
    if frames is None:
        frames = choose_frames(float_network or network, joined, spec)
    quantized = any(isinstance(m, QuantLinear | QuantLinear4) for m in network.modules())
    floor = FLOORS["quantized" if quantized else "float"]
    runner = Runner(network, spec)
    feats = frames[:, step_places(frames.shape[1], spec)]
    expected, experts = runner.run(feats)
    calm = runner.moved(feats, expected, SEVERAL_BITS) <= floor
    chosen = _most_telling(experts, calm, network)
    frames, feats, expected = (array[chosen] for array in (frames, feats, expected))
    experts = experts[chosen]
    draws = [runner.moved(feats, expected, LAST_BITS, seed) for seed in range(DRAWS)]
    noise: FloatArray = np.max(draws, axis=0)
    peak = np.maximum(runner.moved(feats, expected, COARSE), noise).max((0, 1))
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
    visits = _visits_of_chains(experts, np.ones(experts.shape[:3]), network).sum(0)
    return StepReference(golden, frames, Coverage(visits.astype(np.int64), rounding))


def _most_telling(
    experts: npt.NDArray[np.int64], calm: npt.NDArray[np.bool_], network: Network
) -> npt.NDArray[np.int64]:
    """Chains whose visits count: in which several bits move no integer (N, S, G)."""
    still = np.logical_and.accumulate(calm.reshape(len(calm), -1), axis=1).reshape(calm.shape)
    worth = np.where(still[..., _shown(network)], 1.0, RESTLESS)
    visits = _visits_of_chains(experts, worth, network)
    return visit_order(visits.reshape(len(visits), -1), MOST_CHAINS)


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
    plain, _ = Runner(network, spec).run(feats)
    by_stage = np.median(deviation(plain, expected), axis=(0, 1))
    if not by_stage[-2] <= LARGEST_ROUNDING:
        raise ParityError(
            f"rounding changes encoder_out by {by_stage[-2]:.2f} of its size in the median step, "
            f"allowed {LARGEST_ROUNDING}: the integers are too coarse for this checkpoint; export "
            "it with --precision fp32"
        )
    return by_stage


class Runner:
    """Runs the eager network on many chains at once."""

    def __init__(self, network: Network, spec: EncoderSpec) -> None:
        self.program = EncoderProgram(network).eval()
        self.encoder, self.left_context = network.encoder, spec.left_context

    @torch.no_grad()
    def run(self, feats: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Sketches (N, S, G, K) and chosen experts (N, S, M, k) of chains (N, S, T, F)."""
        steps = feats.shape[1]
        # Room for what the steps leave. The rest of a state is zero, and was never seen.
        room = min(steps, self.left_context)
        state = tuple(self.encoder.zero_state(room, batch=len(feats)))
        layers, sketches = expert_layers(self.program), []
        with router_logits(layers) as logits:
            for step in range(steps):
                given = torch.from_numpy(np.ascontiguousarray(feats[:, step]))
                outputs = self.program(given, torch.tensor([step]), *state)
                state = outputs[2:]
                sketches.append(self._sketch(*outputs))
        chosen = [
            torch.stack([step.topk(layer.n_expert_activated).indices for step in said], dim=1)
            for layer, said in zip(layers, logits, strict=True)
        ]
        empty = np.zeros((*feats.shape[:2], 0, 1), np.int64)
        experts = torch.stack(chosen, dim=2).numpy() if chosen else empty
        return np.stack(sketches, axis=1), experts

    def _sketch(self, encoder_out: Tensor, log_probs: Tensor, *state: Tensor) -> FloatArray:
        key, value, score, conv = state
        missing = self.left_context - score.size(3)
        whole = (
            F.pad(key, (0, 0, missing, 0)),
            F.pad(value, (0, 0, missing, 0)),
            F.pad(score, (missing, 0)),
            conv,
        )
        return sketch(encoder_out.numpy(), log_probs.numpy(), tuple(t.numpy() for t in whole))

    def moved(
        self, feats: FloatArray, expected: FloatArray, amount: float, seed: int = 0
    ) -> FloatArray:
        """Deviations (N, S, G) where every linear layer reads numbers moved by ``amount`` of the
        largest of their row."""
        with moved_inputs([self.program], amount, seed):
            found, _ = self.run(feats)
        return deviation(found, expected)


@contextmanager
def moved_inputs(modules: Sequence[nn.Module], amount: float, seed: int) -> Iterator[None]:
    """Inside, every linear layer of ``modules`` reads numbers moved by ``amount`` of the largest of
    their row."""
    generator = torch.Generator().manual_seed(seed)

    def move(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        x, draw = inputs[0], torch.randn(inputs[0].shape, generator=generator)
        return (x + amount * x.abs().amax(-1, True) * draw,)

    linear = [part for module in modules for part in module.modules() if isinstance(part, _LINEAR)]
    handles = [part.register_forward_pre_hook(move) for part in linear]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _visits_of_chains(
    experts: npt.NDArray[np.int64], worth: npt.NDArray[np.float64], network: Network
) -> npt.NDArray[np.float64]:
    """How often each chain visits each expert, (N, M, E), where a visit is worth (N, S, M)."""
    count, (chains, _, layers, _) = network.conf.feed_forward.n_expert, experts.shape
    visits = np.zeros((chains, layers, count))
    for expert in range(count):
        visits[..., expert] = ((experts == expert).any(3) * worth).sum(1)
    return visits


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
