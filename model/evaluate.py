"""Word error rate of a network on recordings, greedy CTC, under a chunk mask."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from model.data import Example, batches
from model.masks import length_mask
from model.network import Network
from model.tokenizer import Tokenizer


def greedy_units(best: Sequence[int], blank: int) -> list[int]:
    """Collapse repeats and drop blanks (Graves 2006)."""
    units: list[int] = []
    before = blank
    for unit in best:
        if unit not in (before, blank):
            units.append(unit)
        before = unit
    return units


def word_error_rate(
    network: Network,
    examples: Sequence[Example],
    texts: Sequence[str],
    tokenizer: Tokenizer,
    chunk: int,
    left_context: int,
) -> float:
    """WER in percent over all examples (their first speed)."""
    edits, words = count_word_errors(network, examples, texts, tokenizer, chunk, left_context)
    return 100 * edits / max(1, words)


@torch.inference_mode()
def count_word_errors(
    network: Network,
    examples: Sequence[Example],
    texts: Sequence[str],
    tokenizer: Tokenizer,
    chunk: int,
    left_context: int,
) -> tuple[int, int]:
    """Words substituted, deleted and inserted over all examples, and words that were said."""
    network.eval()
    hypotheses = [""] * len(examples)
    lengths = [len(example.frames[0]) for example in examples]
    for batch in batches(lengths, 20000, np.random.default_rng(0)):
        feats = [torch.from_numpy(examples[i].frames[0].astype(np.float32)) for i in batch]
        sizes = torch.tensor([len(feat) for feat in feats])
        padded = pad_sequence(feats, batch_first=True)
        encoder_out, frames = network.whole(padded, sizes, chunk, left_context)
        best = network.ctc(encoder_out).argmax(dim=-1)
        for row, index in enumerate(batch):
            units = greedy_units(best[row, : frames[row]].tolist(), network.conf.blank)
            hypotheses[index] = tokenizer.decode(units)
    if not examples:
        return 0, 0
    found = jiwer.process_words(list(texts), hypotheses)
    edits = found.substitutions + found.deletions + found.insertions
    return edits, found.substitutions + found.deletions + found.hits


@torch.inference_mode()
def unit_accuracy(
    network: Network,
    examples: Sequence[Example],
    labels: Sequence[list[int]],
    chunk: int,
    left_context: int,
) -> list[float]:
    """Percent of units, the end included, that each direction of the decoder finds most likely
    after the right units before them; over all examples (their first speed)."""
    network.eval()
    lengths = [len(example.frames[0]) for example in examples]
    right = np.zeros(2 if network.conf.bidirectional else 1)
    total = sum(len(label) + 1 for label in labels)
    for batch in batches(lengths, 20000, np.random.default_rng(0)):
        feats = [torch.from_numpy(examples[i].frames[0].astype(np.float32)) for i in batch]
        sizes = torch.tensor([len(feat) for feat in feats])
        encoder_out, frames = network.whole(
            pad_sequence(feats, batch_first=True), sizes, chunk, left_context
        )
        memory_mask = length_mask(frames, encoder_out.size(1))
        for way in range(len(right)):
            logits, target = network.predict(
                [labels[i] for i in batch], encoder_out, memory_mask, bool(way)
            )
            right[way] += int((logits.argmax(dim=-1) == target).sum())
    return (100 * right / total).tolist()
