"""Rounding is measured by layer and expert, and blamed for what it does."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from edge_asr.package.manifest import EncoderSpec
from export.parity import ParityError
from export.program import encoder_spec
from export.rounding import LARGEST, NOTABLE, Rounding, Words, measure_rounding
from export.step_features import candidates
from model.checkpoint import load_checkpoint
from model.network import Network
from quant.checkpoint import QuantizedCheckpoint, quantize
from tests.export.checkpoints import feats_of
from tests.paths import DATA

WORDS = Words(["ONE TWO", "three"], ["one two", "three"], ["one two", "three four"])


def checkpoint(factor: float) -> tuple[QuantizedCheckpoint, Network]:
    """int8 of a network with one channel in front of each feed-forward layer that is ``factor``
    times as large, which the next layer undoes; and the network without."""
    found = load_checkpoint(DATA / "wenet-moe")
    before = copy.deepcopy(found.network).eval().requires_grad_(False)
    with torch.no_grad():
        for layer in found.network.encoder.encoders:
            for norm, block in (
                (layer.norm_ff_macaron, layer.feed_forward_macaron),
                (layer.norm_ff, layer.feed_forward),
            ):
                norm.weight[0] *= factor
                norm.bias[0] *= factor
                for linear in (block.gate, *(expert.w_1 for expert in block.experts)):
                    linear.weight[:, 0] /= factor
    return quantize(found, "int8"), before


def measured(factor: float) -> Rounding:
    made, _ = checkpoint(factor)
    assert made.float_network is not None
    spec = encoder_spec(made.network, 16, 8, 32)
    frames = candidates(feats_of(spec, 32, 0)[0], spec)[::16]
    return measure_rounding(made.network, made.float_network, frames, WORDS, spec, "int8")


@pytest.fixture(scope="module")
def usual() -> Rounding:
    return measured(1)


def test_every_layer_and_expert_is_measured(usual: Rounding) -> None:
    row = usual.row()
    assert len(usual.experts) == 2 * 2 * 8
    assert {"encoder.embed.conv.2", "ctc.ctc_lo"} <= set(row["by_layer"])
    assert not any(".experts." in name for name in row["by_layer"])
    assert 0 < row["by_expert"]["0%"] <= row["by_expert"]["50%"] <= row["by_expert"]["100%"] < 0.02
    assert row["by_expert"]["largest"] in usual.experts
    assert usual.notable() is None
    usual.refuse()


def test_an_outlier_is_told_or_refused_and_rounding_has_the_blame(usual: Rounding) -> None:
    told = measured(60)
    assert "feed_forward" in (told.notable() or "") and "\n" not in str(told.notable())
    told.refuse()
    large = measured(1000)
    with pytest.raises(
        ParityError, match=r"rounding, not a program, changes what .*fp32"
    ) as caught:
        large.refuse()
    assert "\n" not in str(caught.value)
    # Only what reads the outlier is worse.
    for name, error in usual.layers.items():
        assert large.layers[name] < max(2 * error, NOTABLE["int8"]), name


def test_the_outlier_changes_nothing_in_float32() -> None:
    made, before = checkpoint(60)
    spec: EncoderSpec = encoder_spec(before, 16, 8, 32)
    feats = torch.from_numpy(feats_of(spec, 16, 1))
    lengths = torch.tensor([feats.size(1)])
    assert made.float_network is not None
    one, other = (net.whole(feats, lengths, 8, 16)[0] for net in (before, made.float_network))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1.01 * LARGEST["int8"]])
def test_what_is_no_number_is_refused(usual: Rounding, wrong: float) -> None:
    bad = replace(usual, layers=usual.layers | {"ctc.ctc_lo": wrong})
    with pytest.raises(ParityError, match=r"what ctc\.ctc_lo gives"):
        bad.refuse()


def test_words_of_both_networks_are_counted(usual: Rounding) -> None:
    row = usual.row()
    assert (row["texts"], row["texts_equal_to_float"]) == (2, 1)
    assert (row["word_errors"], row["float_word_errors"]) == (25.0, 25.0)
    assert "1 of 2 texts are those of float32, word errors 25.0 % and 25.0 %" in str(usual)
    silent = replace(usual, words=Words(["a"], ["b"], [""])).row()
    assert silent["texts_equal_to_float"] == 0 and "word_errors" not in silent
