"""The loss on choosing among the texts of the first pass."""

from __future__ import annotations

import pytest
import torch

from edge_asr.search.prefix import PrefixSearch
from model.choice import TEXTS, Choice, choice_loss, choices
from model.masks import length_mask
from model.network import Network
from tests.model.networks import network


def batch(net: Network) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Outputs (T', D) of three items, and the same padded with their mask."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randn(size, net.conf.dim, generator=generator) for size in (6, 9, 4)]
    memory = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1e3)
    return rows, memory, length_mask(torch.tensor([6, 9, 4]), 9)


def test_choices_are_of_the_search_and_have_a_best() -> None:
    net = network()
    rows, _, _ = batch(net)
    with torch.inference_mode():
        search = PrefixSearch(net.conf.blank)
        search.push(net.ctc(rows[1][None])[0].numpy())
    expected = search.cut(search.frames)[:TEXTS]
    second = [token.id for token in expected[1].tokens]
    found = choices(net, rows, [[3], second, [4, 5]])
    (ours,) = [choice for choice in found if choice.item == 1]
    assert ours.texts == [[token.id for token in one.tokens] for one in expected]
    assert ours.ctc_scores == [one.ctc_score for one in expected]
    assert ours.best == [False, True, False, False]


def test_texts_as_wrong_as_each_other_leave_nothing_to_choose() -> None:
    net = network()
    net.ctc.ctc_lo.weight.zero_()
    net.ctc.ctc_lo.bias.copy_(torch.arange(net.conf.vocab_size) == net.conf.blank).mul_(50)
    rows, _, _ = batch(net)
    assert choices(net, rows, [[3], [], [4, 5]]) == []


@pytest.mark.parametrize("decoder", ["bitransformer", "transformer"])
def test_loss_is_that_of_each_text_alone(decoder: str) -> None:
    net = network(decoder=decoder)
    rows, memory, memory_mask = batch(net)
    given_choices = [
        Choice(2, [[3, 4], [3], [5, 3, 3]], [-1.0, -0.5, -2.0], [False, True, True]),
        Choice(0, [[], [7]], [-3.0, -1.0], [True, False]),
    ]
    expected = 0.0
    for choice in given_choices:
        own = rows[choice.item][None]
        seen = torch.ones(1, own.size(1), dtype=torch.bool)
        scores = []
        for text, ctc_score in zip(choice.texts, choice.ctc_scores, strict=True):
            ways = []
            for reverse in (False, True) if decoder == "bitransformer" else (False,):
                logits, target = net.predict([text], own, seen, reverse)
                log_probs = logits[0].double().log_softmax(-1)
                ways.append(sum(float(log_probs[i, unit]) for i, unit in enumerate(target[0])))
            scores.append(sum(ways) / len(ways) + ctc_score)
        shares = torch.tensor(scores).softmax(0)
        expected -= float(shares[torch.tensor(choice.best)].sum().log())
    found = choice_loss(net, memory, memory_mask, given_choices, noise=0.0)
    assert float(found) == pytest.approx(expected / 3, rel=1e-4)
    assert float(choice_loss(net, memory, memory_mask, [], noise=0.0)) == 0.0


def test_a_step_against_the_gradient_chooses_better() -> None:
    net = network()
    net.decoder.requires_grad_(True)
    _, memory, memory_mask = batch(net)
    given_choices = [Choice(1, [[3, 4], [3, 5]], [-1.0, -0.5], [True, False])]
    before = choice_loss(net, memory, memory_mask, given_choices, noise=0.0)
    before.backward()
    with torch.no_grad():
        for parameter in net.decoder.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    assert choice_loss(net, memory, memory_mask, given_choices, noise=0.0) < before
