"""What a training step lowers: the joint loss of the paper, and the terms that a recipe adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from model.config import POSITION_PERIOD
from model.masks import length_mask
from model.network import Network
from model.recipe import TrainConfig
from model.routing import balance_loss, chunk_loss, watch_routers

NATIVE_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # the last one is ARM's
ROUTED_TOGETHER = 16  # encoder frames; the chunk that packages stream with


@dataclass(frozen=True)
class View:
    """What the encoder may see in a step: see ``Network.whole``."""

    chunk: int = 0
    left_context: int = -1
    offset: int = 0


def draw_view(conf: TrainConfig, rng: np.random.Generator) -> View:
    """Another chunk and left context for each step (arXiv 2012.05481), and positions that do not
    always begin at 0: streams run for days."""
    chunk = int(rng.choice(conf.chunk_choices))
    left_context = int(rng.choice(conf.left_context_choices))
    offset = int(rng.integers(POSITION_PERIOD)) if rng.random() < 0.5 else 0
    return View(chunk, left_context, offset)


def objective(
    network: Network, conf: TrainConfig, drawn: Sequence[tuple[Tensor, list[int]]], view: View
) -> Tensor:
    """The loss per utterance of features (T, F) with their labels, a scalar."""
    lengths = torch.tensor([len(frames) for frames, _ in drawn])
    padded = pad_sequence([frames for frames, _ in drawn], batch_first=True)
    labels = [label for _, label in drawn]
    encoder = network.encoder
    block = encoder.encoders[network.conf.blocks // 2 - 1]
    routed = conf.balance_weight > 0 or conf.chunk_weight > 0
    with ExitStack() as stack:
        routers = stack.enter_context(watch_routers(encoder)) if routed else {}
        middle = stack.enter_context(_outputs(block.norm_final))
        out, sizes = network.whole(padded, lengths, view.chunk, view.left_context, view.offset)
    loss = network.loss(out, sizes, labels)
    if conf.middle_ctc:  # arXiv 2102.03216
        ctc = network.ctc_loss(encoder.after_norm(middle[0]), sizes, labels)
        loss = (1 - conf.middle_ctc) * loss + conf.middle_ctc * ctc
    if routers:  # a dense model has none
        logits = [calls[0] for calls in routers.values()]
        loss = loss + _router_terms(logits, length_mask(sizes, out.size(1)), network, conf)
    return loss


def _router_terms(
    logits: list[Tensor], valid: Tensor, network: Network, conf: TrainConfig
) -> Tensor:
    """The terms on routers that the recipe asks for, as a mean over layers."""
    total = torch.zeros(())
    activated = network.conf.feed_forward.n_expert_activated
    for layer in logits:
        total = total + conf.balance_weight * balance_loss(layer, valid, activated)
        total = total + conf.chunk_weight * chunk_loss(layer, valid, ROUTED_TOGETHER, activated)
    return total / len(logits)


def mixed_precision(conf: TrainConfig) -> torch.autocast:
    """bf16 inside ``with`` where the recipe allows it and the processor multiplies it. Elsewhere it
    would be emulated, at several times the time of float32."""
    offered = torch.cpu.get_capabilities()
    fast = any(offered.get(name, False) for name in NATIVE_BF16)
    return torch.autocast("cpu", torch.bfloat16, enabled=conf.bf16 and fast)


@contextmanager
def _outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Inside ``with``, what the module gives, one tensor per call."""
    found: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, __, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()
