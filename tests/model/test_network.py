"""Decoders and the joint loss."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.decoder import BiDecoder, Decoder
from model.masks import chunk_mask, length_mask
from model.network import Network
from tests.model.networks import network, speech

LABELS = [[3, 5, 5, 7], [4], []]


def encoded(net: Network) -> tuple[torch.Tensor, torch.Tensor]:
    feats = torch.cat([speech(80, seed=index) for index in range(len(LABELS))])
    return net.whole(feats, torch.tensor([80, 61, 40]), 0, -1)


def test_decoder_sees_no_later_token() -> None:
    net = network()
    assert isinstance(net.decoder, BiDecoder)
    memory, lengths = encoded(net)
    memory_mask = length_mask(lengths, memory.size(1))
    tokens = torch.tensor([[2, 3, 4, 5, 6]] * 3)
    for decoder in (net.decoder.left_decoder, net.decoder.right_decoder):
        before = decoder(tokens, torch.ones(3, 5, dtype=torch.bool), memory, memory_mask)
        for changed in range(1, 5):
            other = tokens.clone()
            other[:, changed] = 9
            after = decoder(other, torch.ones(3, 5, dtype=torch.bool), memory, memory_mask)
            torch.testing.assert_close(after[:, :changed], before[:, :changed], atol=1e-6, rtol=0)
            difference = (after[:, changed] - before[:, changed]).abs().amax(dim=-1)
            assert (difference > 1e-3).all()


def test_decoder_sees_its_own_memory_only() -> None:
    net = network()
    assert isinstance(net.decoder, BiDecoder)
    memory, lengths = encoded(net)
    memory_mask = length_mask(lengths, memory.size(1))
    tokens, token_mask = torch.tensor([[2, 3, 4]] * 3), torch.ones(3, 3, dtype=torch.bool)
    expected = net.decoder.left_decoder(tokens, token_mask, memory, memory_mask)
    damaged = memory.masked_fill(~memory_mask.unsqueeze(-1), 1e4)
    found = net.decoder.left_decoder(tokens, token_mask, damaged, memory_mask)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    # One memory for many hypotheses is the same as that memory repeated.
    shared = net.decoder.left_decoder(tokens, token_mask, memory[:1], memory_mask[:1])
    torch.testing.assert_close(shared[0], expected[0], atol=1e-6, rtol=0)


def naive_attention_loss(
    decoder: Decoder, net: Network, memory: torch.Tensor, lengths: torch.Tensor, reverse: bool
) -> float:
    """Kullback-Leibler divergence from WeNet's smoothed target, unit by unit, in float64."""
    size, smoothing = net.conf.vocab_size, net.conf.label_smoothing
    total = 0.0
    for row, label in enumerate(LABELS):
        ordered = label[::-1] if reverse else label
        given_tokens = torch.tensor([[net.conf.sos, *ordered]])
        own = memory[row : row + 1, : lengths[row]]
        logits = decoder(
            given_tokens,
            torch.ones(given_tokens.shape, dtype=torch.bool),
            own,
            torch.ones(own.shape[:2], dtype=torch.bool),
        )[0].double()
        for position, unit in enumerate([*ordered, net.conf.eos]):
            log_probs = torch.log_softmax(logits[position], 0)
            for other in range(size):
                share = 1 - smoothing if other == unit else smoothing / (size - 1)
                if share > 0:
                    total += share * (math.log(share) - float(log_probs[other]))
    return total / len(LABELS)


def naive_ctc_loss(net: Network, memory: torch.Tensor, lengths: torch.Tensor) -> float:
    """Minus log of the sum over all alignments, by the forward recursion in float64."""
    total = 0.0
    for row, label in enumerate(LABELS):
        probs = net.ctc(memory[row : row + 1])[0].double().exp()
        extended = [net.conf.blank]
        for unit in label:
            extended += [unit, net.conf.blank]
        alpha = torch.zeros(len(extended), dtype=torch.float64)
        alpha[:2] = probs[0, extended[:2]]
        for frame in range(1, int(lengths[row])):
            new = alpha.clone()
            new[1:] += alpha[:-1]
            for state in range(2, len(extended)):
                if extended[state] not in (net.conf.blank, extended[state - 2]):
                    new[state] += alpha[state - 2]
            alpha = new * probs[frame, extended]
        total -= math.log(float(alpha[-2:].sum()))
    return total / len(LABELS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_wenets_formula(smoothing: float) -> None:
    weights = {"ctc_weight": 0.3, "reverse_weight": 0.4, "lsm_weight": smoothing}
    net = network(model_conf=weights)
    assert isinstance(net.decoder, BiDecoder)
    memory, lengths = encoded(net)
    left = naive_attention_loss(net.decoder.left_decoder, net, memory, lengths, False)
    right = naive_attention_loss(net.decoder.right_decoder, net, memory, lengths, True)
    ctc = naive_ctc_loss(net, memory, lengths)
    expected = 0.3 * ctc + 0.7 * (0.6 * left + 0.4 * right)
    assert abs(left - right) > 1e-2  # else the test could not tell them apart
    assert float(net.loss(memory, lengths, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_noise_replaces_what_is_read_and_not_what_is_to_be_said() -> None:
    net = network()
    memory, lengths = encoded(net)
    memory_mask = length_mask(lengths, memory.size(1))
    for reverse in (False, True):
        logits, target = net.predict(LABELS, memory, memory_mask, reverse)
        noisy, same = net.predict(LABELS, memory, memory_mask, reverse, noise=1.0)
        assert torch.equal(target, same)
        torch.testing.assert_close(noisy[:, 0], logits[:, 0], atol=1e-6, rtol=0)  # behind sos
        assert (noisy[:, 1:] - logits[:, 1:]).abs().max() > 1e-2
    exact = net.attention_loss(memory, lengths, LABELS)
    assert float(net.attention_loss(memory, lengths, LABELS, noise=0.9)) != float(exact)
    assert float(net.attention_loss(memory, lengths, LABELS)) == float(exact)


def test_loss_without_decoders_and_with_one() -> None:
    only_ctc = network(model_conf={"ctc_weight": 1.0})
    memory, lengths = encoded(only_ctc)
    expected = naive_ctc_loss(only_ctc, memory, lengths)
    assert float(only_ctc.loss(memory, lengths, LABELS)) == pytest.approx(expected, rel=1e-5)
    one_way = network(decoder="transformer", model_conf={"ctc_weight": 0.0, "reverse_weight": 0.5})
    assert isinstance(one_way.decoder, Decoder)
    memory, lengths = encoded(one_way)
    left = naive_attention_loss(one_way.decoder, one_way, memory, lengths, False)
    assert float(one_way.loss(memory, lengths, LABELS)) == pytest.approx(left, rel=1e-5)


def test_label_longer_than_its_speech_teaches_nothing() -> None:
    net = network(model_conf={"ctc_weight": 1.0}).requires_grad_(True)
    memory, lengths = encoded(net)
    loss = net.loss(memory, lengths, [[3] * 40, [3] * 40, [3] * 40])
    loss.backward()
    assert loss.detach().item() == 0.0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


@settings(max_examples=50, deadline=None)
@given(frames=st.integers(1, 30), chunk=st.integers(-1, 12), left=st.integers(-1, 20))
def test_chunk_mask(frames: int, chunk: int, left: int) -> None:
    mask = chunk_mask(frames, chunk, left)
    for row in range(frames):
        begin = row // chunk * chunk if chunk > 0 else 0
        end = begin + chunk if chunk > 0 else frames
        first = begin - left if chunk > 0 and left >= 0 else 0
        expected = [first <= column < end for column in range(frames)]
        assert mask[row].tolist() == expected
