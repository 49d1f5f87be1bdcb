"""A loss on what the second pass does: choosing the best of the first pass's texts.

Of each text the score is the sum of its log-probabilities in CTC and, as a mean of both directions,
in the decoders; the loss is minus the log of what a softmax over the texts gives to those with the
fewest errors (as in the minimum word error training of Prabhavalkar et al., 1712.01818, but of the
mass on the best, and not of the expected errors).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor
from torch.nn import functional as F

from edge_asr.search.prefix import PrefixSearch
from model.network import IGNORED, Network

TEXTS = 4  # per item; the right one is seldom further down


@dataclass(frozen=True)
class Choice:
    """An item's place in its batch, its texts as units, their CTC scores, and which are best."""

    item: int
    texts: list[list[int]]
    ctc_scores: list[float]
    best: list[bool]


@torch.no_grad()
def choices(
    network: Network, encoder_out: Sequence[Tensor], labels: Sequence[list[int]]
) -> list[Choice]:
    """The items of a batch, outputs (T', D) each, whose texts of the first pass differ in errors:
    the others leave nothing to choose."""
    found = []
    for item, (rows, label) in enumerate(zip(encoder_out, labels, strict=True)):
        search = PrefixSearch(network.conf.blank)
        search.push(network.ctc(rows.float().unsqueeze(0))[0].numpy())
        hypotheses = search.cut(search.frames)[:TEXTS]
        texts = [[token.id for token in hypothesis.tokens] for hypothesis in hypotheses]
        errors = [Levenshtein.distance(label, text) for text in texts]
        if len(set(errors)) > 1:
            scores = [hypothesis.ctc_score for hypothesis in hypotheses]
            found.append(Choice(item, texts, scores, [e == min(errors) for e in errors]))
    return found


def choice_loss(
    network: Network, memory: Tensor, memory_mask: Tensor, given: Sequence[Choice], noise: float
) -> Tensor:
    """The loss per item of a batch, memory (B, T', D) with its mask (B, T'), in float32.

    ``noise`` is that of ``Network.predict``.
    """
    if not given:
        return torch.zeros(())
    texts = [text for choice in given for text in choice.texts]
    item = torch.tensor([choice.item for choice in given for _ in choice.texts])
    ways = (False, True) if network.conf.bidirectional else (False,)
    scores = torch.tensor([score for choice in given for score in choice.ctc_scores])
    for reverse in ways:
        logits, target = network.predict(texts, memory[item], memory_mask[item], reverse, noise)
        log_probs = -F.cross_entropy(
            logits.float().transpose(1, 2), target, ignore_index=IGNORED, reduction="none"
        )
        scores = scores + log_probs.sum(dim=1) / len(ways)
    total = torch.zeros(())
    for choice, part in zip(
        given, scores.split([len(choice.texts) for choice in given]), strict=True
    ):
        mass = torch.log_softmax(part, dim=0)[torch.tensor(choice.best)]
        total = total - torch.logsumexp(mass, dim=0)
    return total / len(memory)
