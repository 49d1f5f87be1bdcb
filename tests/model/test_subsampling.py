"""Subsampling: WeNet's frame counts, and WeNet's names and shapes of weights."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from model.config import SUBSAMPLING
from model.encoder import subsampled_frames
from model.subsampling import Conv1dSubsampling, Subsampling, build_subsampling
from tests.model.networks import network

# What WeNet's state_dict holds at 80 bins: the linear layer's name and its inputs per channel.
LINEAR = {"conv2d": ("out.0", 19), "conv2d6": ("linear", 12), "conv2d8": ("linear", 9)}
KERNELS = {"conv2d": (3, 3), "conv2d6": (3, 5), "conv2d8": (3, 3, 3)}


@pytest.mark.parametrize("kind", list(SUBSAMPLING))
def test_frames(kind: str) -> None:
    net = network({"input_layer": kind})
    rate, right_context = SUBSAMPLING[kind]
    for frames in range(right_context + 1, right_context + 1 + 5 * rate):
        found = net.encoder.embed(torch.zeros(1, frames, 80)).size(1)
        assert (
            found == subsampled_frames(frames, net.conf) == (frames - right_context - 1) // rate + 1
        )


@pytest.mark.parametrize(
    ("frames", "expected"), [(7, 1), (30, 6), (40, 9), (66, 15), (67, 16), (70, 16), (71, 17)]
)
def test_frames_that_wenet_gives(frames: int, expected: int) -> None:
    assert subsampled_frames(frames, network().conf) == expected


@pytest.mark.parametrize("kind", list(LINEAR))
def test_names_and_shapes(kind: str) -> None:
    shapes = {name: tuple(t.shape) for name, t in Subsampling(kind, 80, 8).state_dict().items()}
    linear, inputs = LINEAR[kind]
    expected: dict[str, tuple[int, ...]] = {
        f"{linear}.weight": (8, 8 * inputs),
        f"{linear}.bias": (8,),
    }
    for index, kernel in enumerate(KERNELS[kind]):
        expected[f"conv.{2 * index}.weight"] = (8, 8 if index else 1, kernel, kernel)
        expected[f"conv.{2 * index}.bias"] = (8,)
    assert shapes == expected


@pytest.mark.parametrize("kind", list(SUBSAMPLING))
def test_a_frame_reads_its_window_only(kind: str) -> None:
    """Frame k reads from k * rate to right_context more, as the runtime's windows assume."""
    torch.manual_seed(0)
    rate, right_context = SUBSAMPLING[kind]
    embed = build_subsampling(kind, 80, 8).eval().requires_grad_(False)
    feats = torch.randn(1, right_context + 1 + 4 * rate, 80)
    before = embed(feats)
    for changed in range(feats.size(1)):
        moved = feats.clone()
        moved[0, changed] += 10
        differs = (embed(moved) - before).abs().amax(dim=-1)[0] > 1e-6
        for frame in range(before.size(1)):
            inside = frame * rate <= changed <= frame * rate + right_context
            assert bool(differs[frame]) == inside


def test_conv1d4_is_two_convolutions_and_pairs() -> None:
    torch.manual_seed(3)
    layer, feats = Conv1dSubsampling(80, 6), torch.randn(2, 29, 80)
    first = layer.first.weight.unflatten(1, (3, 80)).transpose(1, 2)
    second = layer.second.weight.unflatten(1, (3, 6)).transpose(1, 2)
    x = F.silu(F.conv1d(feats.transpose(1, 2), first, layer.first.bias))
    x = F.silu(F.conv1d(x, second, layer.second.bias, stride=2)).transpose(1, 2)
    pairs = x[:, : x.size(1) // 2 * 2].unflatten(1, (-1, 2)).flatten(2)
    torch.testing.assert_close(layer(feats), layer.merge(pairs))
