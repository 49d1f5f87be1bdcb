"""What routers choose: terms of the loss that change it, and how many experts a chunk touches.

The paper (arXiv 2404.16407) trains without any such term; they are here to be measured. A program
reads the weights of every expert that one frame of a chunk asks for, so for speed it is the number
of distinct experts per chunk that counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.feed_forward import MoeFeedForward


def expert_layers(network: nn.Module) -> dict[str, MoeFeedForward]:
    """Every mixture of experts by its name, in the order in which they run."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, MoeFeedForward)
    }


@contextmanager
def watch_routers(network: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Inside ``with``, the logits (B, T, E) of every router by its layer's name, one tensor for
    each call."""
    seen: dict[str, list[Tensor]] = {}

    def see(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, MoeFeedForward)
        seen.setdefault(name, []).append(layer.router_logits(inputs[0]))

    hooks = [
        layer.register_forward_pre_hook(partial(see, name))
        for name, layer in expert_layers(network).items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def balance_loss(logits: Tensor, valid: Tensor, activated: int) -> Tensor:
    """1 where all experts are used alike, E where one is used alone: E times the sum over experts
    of the share of frames that choose it times its mean probability (Switch Transformer,
    arXiv 2101.03961, section 2.2, of top-k choices).

    Args:
        logits: (B, T, E); valid: (B, T) bool.
    """
    rows = logits[valid]
    experts = rows.size(-1)
    chosen = F.one_hot(rows.topk(activated, dim=-1).indices, experts).sum(dim=1).float()
    return experts * (chosen.mean(dim=0) / activated * rows.softmax(dim=-1).mean(dim=0)).sum()


def chunk_loss(logits: Tensor, valid: Tensor, chunk: int, activated: int) -> Tensor:
    """How far frames are from choosing what the whole of their chunk would: the mean over frames of
    softplus(a - b), where b is the least logit of the experts that are most probable over the
    chunk, and a the greatest of the others. Near 0 where a chunk touches no more experts than a
    frame does.

    Args:
        logits: (B, T, E); valid: (B, T) bool; chunk: frames that run through a program together.
    """
    batch, frames, experts = logits.shape
    padding = -frames % chunk
    weight = F.pad(valid.float(), (0, padding)).reshape(batch, -1, chunk)
    per_chunk = F.pad(logits, (0, 0, 0, padding)).reshape(batch, -1, chunk, experts)
    shares = (per_chunk.detach().softmax(dim=-1) * weight.unsqueeze(-1)).sum(dim=2)
    chosen = torch.zeros_like(shares, dtype=torch.bool)
    chosen = chosen.scatter_(-1, shares.topk(activated, dim=-1).indices, True).unsqueeze(2)
    least = per_chunk.masked_fill(~chosen, math.inf).amin(dim=-1)
    greatest = per_chunk.masked_fill(chosen, -math.inf).amax(dim=-1)
    return (F.softplus(greatest - least) * weight).sum() / weight.sum()


def experts_per_chunk(
    logits: Sequence[Tensor], lengths: Sequence[int], chunk: int, activated: int
) -> list[list[int]]:
    """Distinct experts of every whole chunk, one list per layer; what is left over of an utterance
    that ends inside a chunk is not counted."""
    found: list[list[int]] = []
    for layer in logits:
        chosen = layer.topk(activated, dim=-1).indices
        counts = []
        for row, length in zip(chosen, lengths, strict=True):
            for begin in range(0, length - chunk + 1, chunk):
                counts.append(len(row[begin : begin + chunk].unique()))
        found.append(counts)
    return found
