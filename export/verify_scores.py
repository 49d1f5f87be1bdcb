"""Short hypotheses that visit every expert of the decoders: what eager torch gives for them, and
how far a right program may be from that; see ``edge_asr.programs.golden_scores``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge_asr.backends import Decoder, FloatArray, IntArray
from edge_asr.package.manifest import DecoderSpec
from edge_asr.programs.golden_scores import (
    ARRAYS,
    PREFIXES,
    SHARED,
    GoldenScores,
    complaint,
    run_cases,
)
from export.parity import GOLDEN_SAFETY, ParityError
from export.program import reads_both_ways
from export.step_features import expert_layers, router_logits, visit_order
from export.verify_steps import COARSE, DRAWS, LAST_BITS, RESTLESS, SEVERAL_BITS, moved_inputs
from model.decoder import BiDecoder
from model.network import Network

CANDIDATES = 256  # cases
MOST_CASES = 96  # that programs are verified with
GOLDEN_CASES = PREFIXES[-1]  # of them, those that travel with the package
FRAMES, HYPOTHESES, UNITS = 6, 2, 3  # of a case
# What a score may differ by where no integer moves, and for each unit of its own size: right
# programs do by 2e-6 in 99 of 100 scores.
FLOOR, FLOOR_OF_SIZE = 1e-5, 1e-6
LOWEST_CAP = 1.0  # a router that takes its next choice does as much

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class ScoreReference:
    """The cases, and how often they visit the experts of each layer (M, E)."""

    golden: GoldenScores
    visits: IntArray

    def arrays(self, precision: str) -> dict[str, npt.NDArray[np.generic]]:
        """What travels with the package."""
        few = self.golden.some(slice(GOLDEN_CASES))
        shared: dict[str, npt.NDArray[np.generic]] = {
            "memory": few.memory.astype(np.float16),
            "hyps": few.hyps,
        }
        values: tuple[npt.NDArray[np.generic], ...] = (
            few.expected,
            few.bound,
            np.array(few.cap, np.float32),
            few.experts.astype(np.uint8),
            few.sides.astype(np.uint8),
        )
        own = {f"{n}_{precision}": array for n, array in zip(ARRAYS, values, strict=True)}
        return {f"short_{name}": array for name, array in (shared | own).items()}

    @property
    def not_reached(self) -> list[str]:
        """Experts that no case visits, as LAYER.EXPERT."""
        return [f"{layer}.{expert}" for layer, expert in np.argwhere(self.visits == 0)]


@torch.inference_mode(False)
def score_reference(
    network: Network, memories: list[FloatArray], spec: DecoderSpec, chosen: Arrays
) -> ScoreReference:
    """Choose cases, score them with the eager decoders, and measure what last bits do.

    Args:
        memories: encoder_out (1, T', D) of clips.
        chosen: the golden file so far, whose cases are taken if it has some.
    """
    runner = Runner(network)
    names = [f"short_{name}" for name in SHARED]
    if all(name in chosen for name in names):
        memory, hyps = chosen[names[0]].astype(np.float32), chosen[names[1]].astype(np.int64)
        expected, experts = runner.run(memory, hyps)
    else:
        memory, hyps = candidates(memories, spec, network.conf.vocab_size)
        expected, experts = runner.run(memory, hyps)
        calm = np.abs(runner.moved(memory, hyps, SEVERAL_BITS) - expected) <= _floor(expected)
        order = visit_order(_worth(experts, calm, runner.sides, network), MOST_CASES)
        memory, hyps, expected, experts = (
            memory[order],
            hyps[order],
            expected[order],
            experts[order],
        )
    draws = [
        np.abs(runner.moved(memory, hyps, LAST_BITS, seed) - expected) for seed in range(DRAWS)
    ]
    noise = np.max(draws, axis=0)
    coarse = np.abs(runner.moved(memory, hyps, COARSE) - expected)
    cap = max(LOWEST_CAP, GOLDEN_SAFETY * float(max(coarse.max(), noise.max())))
    bound = np.maximum(_floor(expected), GOLDEN_SAFETY * noise).astype(np.float32)
    golden = GoldenScores(memory, hyps, expected, bound, cap, experts, runner.sides)
    return ScoreReference(golden, _visits(experts, network).sum((0, 1, 2)).astype(np.int64))


def verify_scores(decoder: Decoder, golden: GoldenScores, program: str) -> None:
    """Compare a loaded program with the eager decoders, score by score.

    Raises:
        ParityError: it differs by more than moved integers explain.
    """
    if wrong := complaint(run_cases(decoder, golden), golden):
        raise ParityError(f"{program}: {wrong}; no package was written")


def _floor(expected: FloatArray) -> FloatArray:
    floor: FloatArray = (FLOOR + FLOOR_OF_SIZE * np.abs(expected)).astype(np.float32)
    return floor


def candidates(
    memories: list[FloatArray], spec: DecoderSpec, vocab_size: int
) -> tuple[FloatArray, IntArray]:
    """Pieces (G, T', D) of encoder_out, as the package stores them, and hypotheses (G, N, U) of any
    units over them."""
    rng = np.random.default_rng(0)
    frames = min(FRAMES, spec.max_frames, *(memory.shape[1] for memory in memories))
    pieces = []
    for _ in range(CANDIDATES):
        rows = memories[rng.integers(len(memories))][0]
        start = int(rng.integers(len(rows) - frames + 1))
        pieces.append(rows[start : start + frames])
    memory = np.stack(pieces).astype(np.float16).astype(np.float32)
    size = CANDIDATES, min(HYPOTHESES, spec.max_hyps), min(UNITS, spec.max_units)
    return memory, rng.integers(0, vocab_size, size)


class Runner:
    """Scores many cases at once with the eager decoders."""

    def __init__(self, network: Network) -> None:
        decoder = network.decoder
        self.decoders: list[nn.Module] = [decoder]
        if isinstance(decoder, BiDecoder):
            both = [decoder.left_decoder, decoder.right_decoder]
            self.decoders = both[: 1 + reads_both_ways(network)]
        self.conf = network.conf
        counts = [len(expert_layers(one)) for one in self.decoders]
        self.sides: IntArray = np.repeat(np.arange(len(counts)), counts).astype(np.int64)

    @torch.no_grad()
    def run(self, memory: FloatArray, hyps: IntArray) -> tuple[FloatArray, IntArray]:
        """Scores (G, N, U+1, S) of cases, and chosen experts (G, N, U+1, M, k)."""
        shape = (*hyps.shape[:2], hyps.shape[2] + 1)
        rows = torch.from_numpy(np.repeat(memory, hyps.shape[1], axis=0))
        units = torch.from_numpy(hyps.reshape(-1, hyps.shape[2]))
        scores, chosen = [], []
        for side, decoder in enumerate(self.decoders):
            layers = expert_layers(decoder)
            with router_logits(layers) as logits:
                scores.append(self._score(decoder, units.flip(1) if side else units, rows))
            for layer, (said,) in zip(layers, logits, strict=True):
                best = said.topk(layer.n_expert_activated).indices
                chosen.append(best.reshape(*shape, -1))
        found: FloatArray = torch.stack(scores, dim=-1).reshape(*shape, -1).numpy()
        empty = np.zeros((*shape, 0, 1), np.int64)
        return found, torch.stack(chosen, dim=3).numpy() if chosen else empty

    def moved(self, memory: FloatArray, hyps: IntArray, amount: float, seed: int = 0) -> FloatArray:
        """Scores where every linear layer reads numbers moved by ``amount`` of the largest of their
        row."""
        with moved_inputs(self.decoders, amount, seed):
            return self.run(memory, hyps)[0]

    def _score(self, decoder: nn.Module, units: Tensor, memory: Tensor) -> Tensor:
        """Log-probabilities (B, U+1) of units (B, U) and eos over memory (B, T', D)."""
        ends = torch.ones(len(units), 1, dtype=torch.long)
        tokens = torch.cat([self.conf.sos * ends, units], dim=1)
        heard = torch.ones(memory.shape[:2], dtype=torch.bool)
        logits = decoder(tokens, torch.ones_like(tokens, dtype=torch.bool), memory, heard)
        targets = torch.cat([units, self.conf.eos * ends], dim=1)
        return logits.log_softmax(-1).gather(2, targets[..., None])[..., 0]


def _visits(experts: IntArray, network: Network) -> npt.NDArray[np.bool_]:
    """Whether each place visits each expert, (G, N, U+1, M, E)."""
    count = network.conf.decoder_feed_forward.n_expert
    visits = np.zeros((*experts.shape[:4], count), np.bool_)
    for expert in range(count):
        visits[..., expert] = (experts == expert).any(-1)
    return visits


def _worth(
    experts: IntArray, calm: npt.NDArray[np.bool_], sides: IntArray, network: Network
) -> npt.NDArray[np.float64]:
    """What the visits of each case count, (G, M * E): less where several bits move an integer."""
    still = np.logical_and.accumulate(calm, axis=2)[..., sides]
    visits = _visits(experts, network) * np.where(still, 1.0, RESTLESS)[..., None]
    return visits.sum((1, 2)).reshape(len(experts), -1)
