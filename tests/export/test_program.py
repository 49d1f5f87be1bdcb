"""The decoder program in eager torch: WeNet's scores, and nothing that hypotheses share by chance.

That the lowered programs equal it is in test_decoder_lowerings.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from export.eager import EagerDecoder
from export.program import DecoderProgram, decoder_spec
from model.attention import Attention
from model.checkpoint import load_checkpoint
from model.network import Network
from tests.model.networks import network
from tests.paths import DATA


def memory_of(net: Network, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, frames, net.conf.dim, generator=generator)


@torch.inference_mode()
def scores(net: Network, hyps: list[list[int]], memory: Tensor, fill: int = 0) -> list[Tensor]:
    """Left and right scores of hypotheses, padded with ``fill`` to one place more than needed."""
    width = max(map(len, hyps)) + 1
    rows = torch.tensor([hyp + [fill] * (width - len(hyp)) for hyp in hyps])
    return list(DecoderProgram(net).eval()(rows, torch.tensor(list(map(len, hyps))), memory))


@torch.inference_mode()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["wenet-dense", "wenet-moe"])
def test_scores_are_those_of_wenet(name: str, side: str) -> None:
    """``expected.npz`` holds the logits that WeNet's own decoders give after random tokens, see
    tests/model/test_wenet.py; the first of them stands where sos does."""
    program = DecoderProgram(load_checkpoint(DATA / name).network).eval()
    with np.load(DATA / name / "expected.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    tokens = arrays["tokens" if side == "left" else "reverse_tokens"]
    for row, length in enumerate(arrays["token_lengths"].tolist()):
        units = tokens[row, 1:length]
        targets = torch.cat([units, torch.tensor([program.eos])])
        log_probs = torch.log_softmax(arrays[side][row, :length], dim=-1)
        expected = log_probs[torch.arange(length), targets]
        program.sos = int(tokens[row, 0])
        memory = arrays["memory"][row : row + 1]
        if side == "left":
            found = program(units[None], torch.tensor([length - 1]), memory)[0][0]
        else:
            found = program(units.flip(0)[None], torch.tensor([length - 1]), memory)[1][0]
            found = torch.cat([found[:-1].flip(0), found[-1:]])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def net() -> Network:
    return network()


@settings(deadline=None, max_examples=25)
@given(
    hyps=st.lists(st.lists(st.integers(0, 10), max_size=9), min_size=1, max_size=5),
    frames=st.integers(1, 30),
    fill=st.integers(0, 10),
)
def test_each_hypothesis_is_scored_as_if_alone(
    net: Network, hyps: list[list[int]], frames: int, fill: int
) -> None:
    memory = memory_of(net, frames)
    found = scores(net, hyps, memory, fill)
    eager = EagerDecoder(net)
    for row, hyp in enumerate(hyps):
        alone = eager.score(np.array([hyp], np.int64), np.array([len(hyp)]), memory.numpy())
        for ours, theirs in zip(found, (alone.left, alone.right), strict=True):
            np.testing.assert_allclose(ours[row, : len(hyp) + 1], theirs[0], atol=1e-5)
            assert not ours[row, len(hyp) + 1 :].any() and ours[row, : len(hyp) + 1].all()


def test_scores_of_every_next_unit_make_a_distribution(net: Network) -> None:
    """Left: what may follow [3, 5], or eos. Right: what may stand before [3, 5], or nothing."""
    memory, both = memory_of(net, 12), ((0, 2), (1, 0))
    others = [unit for unit in range(net.conf.vocab_size) if unit != net.conf.eos]
    ends = scores(net, [[3, 5]], memory)
    for side, place in both:
        hyps = [[3, 5, unit] if side == 0 else [unit, 3, 5] for unit in others]
        total = scores(net, hyps, memory)[side][:, place].exp().sum() + ends[side][0, 2].exp()
        torch.testing.assert_close(total, torch.tensor(1.0))


def test_keys_of_the_speech_are_computed_once(
    net: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, ...]] = []
    program = DecoderProgram(net).eval()
    cross = [name for name, _ in program.named_modules() if name.endswith("src_attn.linear_k")]
    for name in cross:
        program.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs: sizes.append(tuple(inputs[0].shape))
        )
    program(torch.ones(7, 4, dtype=torch.int64), torch.full((7,), 4), memory_of(net, 12))
    assert sizes == [(1, 12, net.conf.dim)] * len(cross) and len(cross) == 2
    assert isinstance(program.get_submodule(cross[0].rpartition(".")[0]), Attention)


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder": "transformer"},
        {"model_conf": {"ctc_weight": 0.3, "reverse_weight": 0.0}},
    ],
    ids=["one decoder", "right decoder never trained"],
)
def test_without_a_right_decoder_its_scores_are_zero(changes: dict[str, Any]) -> None:
    one_way = network(**changes)
    left, right = scores(one_way, [[3, 5], []], memory_of(one_way, 12))
    assert left.any() and not right.any() and right.shape == left.shape
    names = dict(DecoderProgram(one_way).named_parameters())
    assert not any(name.startswith("right") for name in names)
    spec = decoder_spec(one_way)
    assert (spec.bidirectional, spec.reverse_weight) == (False, 0.0)
