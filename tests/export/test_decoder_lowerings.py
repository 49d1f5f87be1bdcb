"""Every decoder program equals the eager decoders of its precision, whatever it is given.

Run through the runtime's own backends, from their bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edge_asr.backends import Decoder, FloatArray, IntArray, open_decoder
from edge_asr.package.manifest import DecoderSpec, Precision
from export.eager import EagerDecoder
from export.lowerings import lowering
from export.program import DecoderProgram, decoder_interface, decoder_spec
from tests.export.checkpoints import Case, network_at, portable_cases

pytestmark = pytest.mark.timeout(900)  # ExecuTorch compiles for long

QUICK: list[Case] = [
    ("wenet-moe", "onnx", "int8"),
    ("wenet-moe", "torchscript", "fp32"),
]
COMPILED_LONG: list[Case] = [
    ("wenet-dense", "executorch", "fp32"),
    ("unusual", "executorch", "int8"),
    ("whisper", "executorch", "int8"),
]


@dataclass(frozen=True)
class Lowered:
    """A program, what it was made from, and how far single values may move."""

    decoder: Decoder
    eager: EagerDecoder
    spec: DecoderSpec
    vocab_size: int
    dim: int
    precision: Precision

    def example(
        self, lengths: list[int], frames: int, seed: int = 0
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """Hypotheses of these lengths, with anything behind them, and frames to hear them in."""
        rng = np.random.default_rng(seed)
        hyps = rng.integers(0, self.vocab_size, (len(lengths), max(1, *lengths)))
        memory = rng.standard_normal((1, frames, self.dim)).astype(np.float32)
        return hyps, np.array(lengths), memory


@pytest.fixture(
    scope="module",
    params=portable_cases(QUICK, COMPILED_LONG),
    ids="-".join,
)
def lowered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    name, backend, precision = request.param
    network = network_at(name, precision, tmp_path_factory.mktemp("checkpoint"))
    spec = decoder_spec(network)
    lower, _ = lowering(backend)
    program = lower(DecoderProgram(network).eval(), decoder_interface(network, spec))
    decoder = open_decoder(backend, program, spec)
    conf = network.conf
    eager = EagerDecoder(network)
    return Lowered(decoder, eager, spec, conf.vocab_size, conf.dim, precision)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lengths", "frames"),
    [
        ([0], 9),
        ([1], 40),
        ([12], 1),
        ([0, 0, 0, 0], 3),
        ([2, 1], 3),
        ([0, 1, 7, 7, 30, 3, 12, 60, 2, 5], 100),
        ([3, 200], 500),
    ],
    ids=str,
)
def test_hypotheses_of_every_length(lowered: Lowered, lengths: list[int], frames: int) -> None:
    given = lowered.example(lengths, frames)
    found, expected = lowered.decoder.score(*given), lowered.eager.score(*given)
    for ours, theirs in ((found.left, expected.left), (found.right, expected.right)):
        assert ours.shape == (len(lengths), max(1, *lengths) + 1) and ours.dtype == np.float32
        np.testing.assert_array_equal(ours[theirs == 0], 0)
        errors = np.abs(ours - theirs)
        # An integer that a last bit moves changes what its hypothesis says, by little.
        assert np.quantile(errors, 0.9) <= 1e-4
        assert errors.max() <= (1e-4 if lowered.precision == "fp32" else 0.05)
    assert found.right.any() == lowered.spec.bidirectional


@pytest.mark.slow
def test_padding_and_neighbours_do_not_matter(lowered: Lowered) -> None:
    hyps, lengths, memory = lowered.example([4, 0, 6, 2], 20)
    together = lowered.decoder.score(hyps, lengths, memory)
    inside = np.arange(hyps.shape[1]) < lengths[:, None]
    other = np.where(inside, hyps, (hyps + 1) % lowered.vocab_size)
    again = lowered.decoder.score(other, lengths, memory)
    np.testing.assert_array_equal(again.left, together.left)
    np.testing.assert_array_equal(again.right, together.right)
    for row, length in enumerate(lengths):
        alone = lowered.decoder.score(hyps[row : row + 1, : max(1, length)], lengths[[row]], memory)
        size = alone.left.shape[1]
        np.testing.assert_allclose(alone.left[0], together.left[row, :size], atol=1e-3)
        np.testing.assert_allclose(alone.right[0], together.right[row, :size], atol=1e-3)


@pytest.mark.slow
def test_all_inputs_matter(lowered: Lowered) -> None:
    """The comparisons above would not pass for a program that ignores one."""
    hyps, lengths, memory = lowered.example([4, 5], 20)
    first = lowered.decoder.score(hyps, lengths, memory).left
    for changed in (
        ((hyps + 1) % lowered.vocab_size, lengths, memory),
        (hyps, lengths[::-1].copy(), memory),
        (hyps, lengths, -8 * memory),
    ):
        assert np.abs(lowered.decoder.score(*changed).left - first).max() > 0.01
