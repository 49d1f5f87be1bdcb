"""Floors: counted operations equal those that torch counts, bytes those that are stored."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.limits import Limits
from benchmark.paper.floors import (
    Part,
    Routing,
    Weights,
    by_kind,
    decoder_parts,
    encoder_parts,
    evenly_touched,
    floor_s,
    overlapped_floor_s,
    stored_bytes,
    total,
)
from benchmark.paper.models import SCALES, Size, config_tree
from benchmark.paper.workload import features, input_frames
from model.config import network_config
from model.convolution import PointwiseConv
from model.network import Network
from tests.benchmark.paper.sizes import DENSE, MOE, conf

LIMITS = Limits(1, read_bytes_per_s=1e9, int8_macs_per_s=1e10)
AS_TRAINED = Routing()


def counted_macs(run: object) -> float:
    """Multiply-adds of a function, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run()  # type: ignore[operator]
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("size", [DENSE, MOE], ids=lambda size: size.name)
@pytest.mark.parametrize(("frames", "left"), [(1, 0), (16, 0), (5, 8)])
def test_multiply_adds_of_the_encoder_are_those_that_torch_counts(
    size: Size, frames: int, left: int
) -> None:
    network = Network(conf(size)).eval()
    feats = torch.from_numpy(features(input_frames(frames)))
    state = network.encoder.zero_state(left)
    found = counted_macs(lambda: network.step(feats, torch.tensor([left]), state))
    assert total(encoder_parts(conf(size), frames, left, Weights(), AS_TRAINED)).macs == found


@pytest.mark.parametrize("size", [DENSE, MOE], ids=lambda size: size.name)
def test_multiply_adds_of_the_second_pass(size: Size) -> None:
    hyps, units, memory = 3, 5, 11
    network = Network(conf(size)).eval()
    tokens = torch.full((hyps, units + 1), 4)
    encoder_out = torch.randn(1, memory, size.dim)
    valid = torch.ones(hyps, units + 1).bool(), torch.ones(1, memory).bool()

    def rescore() -> None:
        for decoder in network.decoder.children():
            decoder(tokens, valid[0], encoder_out, valid[1])

    parts = decoder_parts(conf(size), hyps, units, memory, Weights(), AS_TRAINED)
    # torch scores every pair of tokens, also those that the mask hides.
    hidden = hyps * (units + 1) * units / 2
    layers = 2 * size.decoder_blocks
    assert total(parts).macs + layers * 2 * hidden * size.dim == counted_macs(rescore)


@pytest.mark.parametrize("size", [DENSE, MOE], ids=lambda size: size.name)
def test_bytes_are_those_of_all_weights(size: Size) -> None:
    with torch.device("meta"):
        network = Network(conf(size))
    expected = 0
    for name, module in network.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            continue
        # What stays float32: routers, the depthwise convolution, the first convolution.
        small = name.endswith((".gate", ".depthwise_conv", "embed.conv.0"))
        outputs, numel = module.weight.size(0), module.weight.numel()
        assert small or isinstance(module, nn.Linear | PointwiseConv | nn.Conv2d)
        expected += 4 * numel if small else numel + 4 * outputs
        expected += 0 if module.bias is None else 4 * outputs
    expected += sum(4 * p.numel() for n, p in network.named_parameters() if "pos_bias" in n)
    assert stored_bytes(conf(size), Weights(), decoders=True) == pytest.approx(expected, rel=1e-9)


def test_int4_experts_halve_the_experts_and_nothing_else() -> None:
    eight = encoder_parts(conf(MOE), 16, 64, Weights(8), AS_TRAINED)
    four = encoder_parts(conf(MOE), 16, 64, Weights(4, group=32), AS_TRAINED)
    for before, after in zip(eight, four, strict=True):
        if "feed_forward" in before.name:
            assert 0.5 < after.weight_bytes / before.weight_bytes < 0.65
        else:
            assert before == after
    assert encoder_parts(conf(DENSE), 16, 64, Weights(4), AS_TRAINED) == encoder_parts(
        conf(DENSE), 16, 64, Weights(8), AS_TRAINED
    )


def test_only_the_experts_touched_are_read() -> None:
    layer = "encoder.encoders.0.feed_forward"
    few = encoder_parts(conf(MOE), 16, 0, Weights(), Routing(touched={layer: 3.0}))
    all_of_them = encoder_parts(conf(MOE), 16, 0, Weights(), Routing(everywhere=8.0))
    bytes_of = {part.name: part.weight_bytes for part in few}
    router = MOE.n_expert * MOE.dim * 4
    whole = next(part.weight_bytes for part in all_of_them if part.name == layer)
    assert bytes_of[layer] - router == pytest.approx((whole - router) * 3 / 8)
    capped = encoder_parts(conf(MOE), 16, 0, Weights(), Routing(at_most=2))
    assert total(capped).macs == total(few).macs
    assert total(capped).weight_bytes < total(few).weight_bytes


@given(st.integers(1, 16), st.data())
@settings(max_examples=40, deadline=None)
def test_experts_touched_by_even_choice(experts: int, data: st.DataObject) -> None:
    per_frame = data.draw(st.integers(1, experts))
    rows = data.draw(st.integers(1, 100))
    touched = evenly_touched(experts, per_frame, rows)
    assert evenly_touched(experts, per_frame, 1) == pytest.approx(per_frame)
    assert per_frame - 1e-9 <= touched <= experts
    assert touched <= evenly_touched(experts, per_frame, rows + 1) + 1e-12


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_a_floor_is_at_least_each_limit_alone(sizes: list[tuple[float, float]]) -> None:
    parts = [Part(str(i), macs, size) for i, (macs, size) in enumerate(sizes)]
    everything = total(parts)
    floor = floor_s(parts, LIMITS)
    assert floor >= overlapped_floor_s(parts, LIMITS) * (1 - 1e-9)
    assert floor <= (everything.macs / 1e10 + everything.weight_bytes / 1e9) * (1 + 1e-9)


def test_at_the_sizes_of_the_paper() -> None:
    """The model of 225 M does what DESIGN counted: 1.5 G in feed-forward layers, 1.6 G in the
    second convolution; and reading a mixture of experts costs more than multiplying it."""
    dense, moe, _ = (network_config(config_tree(size), size.name) for size in SCALES["paper"])
    kinds = by_kind(encoder_parts(dense, 16, 64, Weights(), AS_TRAINED))
    assert kinds["feed_forward"].macs == pytest.approx(1.51e9, rel=0.01)
    assert kinds["conv"].macs == pytest.approx(1.62e9, rel=0.01)
    here = Limits(1, 25e9, 234e9)
    everything = total(encoder_parts(moe, 16, 64, Weights(), AS_TRAINED))
    assert everything.floor_s(here) == everything.weight_bytes / 25e9
    assert everything.floor_s(here) / 0.64 == pytest.approx(0.052, rel=0.02)


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="no such weights"):
        Weights(expert_bits=3)
    tree = config_tree(DENSE)
    tree["encoder_conf"]["input_layer"] = "conv2d6"
    with pytest.raises(ValueError, match="conv2d6"):
        encoder_parts(network_config(tree, "test"), 16, 0, Weights(), AS_TRAINED)
