"""Greedy decoding and the word error rate of a network."""

from __future__ import annotations

import itertools

import jiwer
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data import Example
from model.evaluate import greedy_units, unit_accuracy, word_error_rate
from model.tokenizer import Tokenizer
from tests.model.networks import network, speech

SYMBOLS = ["<blank>", "<unk>", "<sos/eos>", *(f"▁{letter}" for letter in "ABCDEFGH")]


@given(best=st.lists(st.integers(0, 3), max_size=30), blank=st.integers(0, 3))
def test_greedy_collapses_repeats_then_drops_blanks(best: list[int], blank: int) -> None:
    expected = [unit for unit, _ in itertools.groupby(best) if unit != blank]
    assert greedy_units(best, blank) == expected


@pytest.mark.parametrize(("chunk", "left"), [(0, -1), (4, 8)])
def test_word_error_rate_is_that_of_each_utterance_alone(chunk: int, left: int) -> None:
    net, tokenizer = network(), Tokenizer(SYMBOLS)
    net.ctc.ctc_lo.bias[0] = 0.5  # some blanks among the random units
    examples, texts, hypotheses = [], [], []
    for index, frames in enumerate((90, 40, 300, 7, 131)):
        feats = speech(frames, seed=index).half()
        examples.append(Example((feats[0].numpy(),), []))
        with torch.inference_mode():
            out, _ = net.whole(feats.float(), torch.tensor([frames]), chunk, left)
            best = net.ctc(out)[0].argmax(-1).tolist()
        hypotheses.append(tokenizer.decode(greedy_units(best, 0)))
        # Half right: the rate then depends on which text belongs to which utterance.
        words = hypotheses[-1].split() or ["A"]
        texts.append(" ".join([*words[: len(words) // 2], "SOMETHING", "ELSE"]))
    expected = 100 * jiwer.wer(texts, hypotheses)
    assert 0 < expected
    found = word_error_rate(net, examples, texts, tokenizer, chunk, left)
    assert found == pytest.approx(expected)
    assert not net.training and np.isfinite(found)


@pytest.mark.parametrize("decoder", ["bitransformer", "transformer"])
def test_unit_accuracy_is_that_of_each_utterance_alone(decoder: str) -> None:
    net = network(decoder=decoder)
    examples, labels = [], []
    right = np.zeros(2 if decoder == "bitransformer" else 1)
    for index, frames in enumerate((90, 40, 300, 7, 131)):
        feats = speech(frames, seed=index).half()
        examples.append(Example((feats[0].numpy(),), []))
        out, sizes = net.whole(feats.float(), torch.tensor([frames]), 4, 8)
        memory_mask = torch.ones(1, int(sizes[0]), dtype=torch.bool)
        # Every second unit is what the decoder says itself, reading left to right.
        label: list[int] = []
        for position in range(index):
            logits, _ = net.predict([[*label, 3]], out, memory_mask, False)
            best = int(logits[0, position].argmax())
            label.append(best if position % 2 == 0 else 4)
        labels.append(label)
        for way in range(len(right)):
            logits, target = net.predict([label], out, memory_mask, bool(way))
            right[way] += int((logits.argmax(-1) == target).sum())
    total = sum(len(label) + 1 for label in labels)
    assert 0 < right[0] < total
    found = unit_accuracy(net, examples, labels, 4, 8)
    assert found == pytest.approx((100 * right / total).tolist())
