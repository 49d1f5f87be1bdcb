"""A decoder program that is wrong in any way is refused, and a right one is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge_asr.audio.features import fbank
from edge_asr.backends import DecoderScores, FloatArray, IntArray
from edge_asr.package.manifest import DecoderSpec, FeatureSpec, Precision
from export.eager import EagerDecoder
from export.parity import ParityError
from export.program import decoder_spec, encoder_spec
from export.speech import Speech
from export.verify_decoder import (
    N_BEST,
    DecoderReference,
    alternatives,
    decoder_reference,
    verify_decoder,
)
from model.network import Network
from quant.checkpoint import load_at
from tests.paths import DATA

Change = Callable[[FloatArray, FloatArray, IntArray], tuple[FloatArray, FloatArray]]


class Changed:
    """The eager decoder, its scores changed."""

    def __init__(self, network: Network, change: Change) -> None:
        self.eager = EagerDecoder(network)
        self.change = change

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        scores = self.eager.score(hyps, hyp_lengths, encoder_out)
        return DecoderScores(*self.change(scores.left, scores.right, hyp_lengths))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def expected(
    request: pytest.FixtureRequest,
) -> tuple[Network, DecoderReference, DecoderSpec, Precision]:
    (quantized,) = load_at(DATA / "wenet-moe", [request.param])
    network, features = quantized.network, FeatureSpec()
    rng = np.random.default_rng(0)
    clips = [(3000 * rng.standard_normal(size)).astype(np.float32) for size in (16000, 40000)]
    frames = [fbank(clip / np.float32(32768), features) for clip in clips]
    speech = Speech(clips, frames, np.concatenate(frames), [""] * len(clips))
    spec = decoder_spec(network)
    reference = decoder_reference(network, speech, encoder_spec(network, 16, 8, 64), spec)
    return network, reference, spec, request.param


def same(left: FloatArray, right: FloatArray, _: IntArray) -> tuple[FloatArray, FloatArray]:
    return left, right


def scaled(left: FloatArray, right: FloatArray, _: IntArray) -> tuple[FloatArray, FloatArray]:
    return 1.01 * left, right


def swapped(left: FloatArray, right: FloatArray, _: IntArray) -> tuple[FloatArray, FloatArray]:
    return right, left


def one_way(left: FloatArray, right: FloatArray, _: IntArray) -> tuple[FloatArray, FloatArray]:
    return left, np.zeros_like(right)


def backwards(
    left: FloatArray, right: FloatArray, lengths: IntArray
) -> tuple[FloatArray, FloatArray]:
    """In the order of the right decoder instead of the text's."""
    right = right.copy()
    for row, length in zip(right, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    return left, right


def no_numbers(left: FloatArray, right: FloatArray, _: IntArray) -> tuple[FloatArray, FloatArray]:
    return left, np.float32("nan") * right


def without_eos(left: FloatArray, right: FloatArray, _: IntArray) -> tuple[FloatArray, FloatArray]:
    return left[:, :-1], right[:, :-1]


def padding_scored(
    left: FloatArray, right: FloatArray, _: IntArray
) -> tuple[FloatArray, FloatArray]:
    return np.where(left == 0, np.float32(-1), left), right


@pytest.mark.slow
def test_a_right_program_passes(
    expected: tuple[Network, DecoderReference, DecoderSpec, Precision],
) -> None:
    network, reference, spec, precision = expected
    found = verify_decoder(Changed(network, same), reference, spec, ("onnx", precision))
    assert found.max_abs == 0 and found.equal == found.compared == 2
    assert found.amounts["hypotheses"] == 2 * (N_BEST + 3)
    lengths = {int(n) for segment in reference.segments for n in segment.hyp_lengths}
    assert {0, 1} < lengths and {len(s.hyps) for s in reference.segments} == {1, N_BEST}
    rounded = reference.rounding_mean_abs
    assert rounded == 0 if precision == "fp32" else 0 < rounded < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [scaled, swapped, one_way, backwards, no_numbers, without_eos, padding_scored]
)
def test_a_wrong_program_is_refused(
    expected: tuple[Network, DecoderReference, DecoderSpec, Precision], change: Change
) -> None:
    network, reference, spec, precision = expected
    with pytest.raises(ParityError) as caught:
        verify_decoder(Changed(network, change), reference, spec, ("onnx", precision))
    assert str(caught.value).startswith(f"onnx {precision} decoder: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("said", [[], [3], [3, 3], list(range(9)) * 5])
@pytest.mark.parametrize("vocab_size", [2, 4000])
def test_alternatives_differ(said: list[int], vocab_size: int) -> None:
    said = [unit % vocab_size for unit in said]
    for seed in range(5):
        found = alternatives(said, vocab_size, np.random.default_rng(seed))
        assert len(found) == len(set(map(tuple, found))) == N_BEST
        assert said in found and [] in found and any(len(hyp) == 1 for hyp in found)
        assert all(0 <= unit < vocab_size for hyp in found for unit in hyp)
