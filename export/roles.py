"""The programs of each role: built for every backend, each verified, and their golden vector."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_asr.backends import FloatArray, open_decoder, open_encoder
from edge_asr.package.files import GOLDEN
from edge_asr.package.manifest import DecoderSpec
from edge_asr.package.writer import NewProgram
from edge_asr.programs.golden_decoder import GOLDEN_DECODER
from edge_asr.programs.streaming import cut, stream_log_probs, whole_features
from export.build import Built, build_programs
from export.eager import EagerDecoder, EagerEncoder
from export.parity import Parity
from export.program import DecoderProgram, EncoderProgram, decoder_interface, encoder_interface
from export.rounding import Words, measure_rounding
from export.source import Source
from export.speech import Speech
from export.step_features import choose_frames
from export.verify import (
    Reference,
    check_texts,
    greedy_text,
    reference,
    verify_program,
    verify_streaming,
)
from export.verify_decoder import Segment, decoder_reference, verify_decoder
from export.verify_scores import score_reference, verify_scores
from export.verify_steps import StepReference, step_reference, verify_steps
from quant.checkpoint import QuantizedCheckpoint

GOLDEN_SECONDS = 4.0
RECORDED = 128  # chains whose rows show what rounding does

Arrays = dict[str, npt.NDArray[np.generic]]
Say = Callable[[str], None]


class RoleExport(Protocol):
    """How a role's programs are made."""

    def programs(self, quantized: QuantizedCheckpoint) -> Iterator[tuple[Built, Parity]]:
        """Those of one precision for every backend and dispatch.

        Raises:
            ParityError: one does not equal the network.
        """

    def golden_file(self) -> tuple[str, bytes]:
        """Name and content of what the eager networks of all precisions say."""


class EncoderExport:
    """Encoders, whose network must stream, too."""

    def __init__(self, source: Source, speech: Speech, say: Say) -> None:
        self.source, self.speech, self.say = source, speech, say
        self.streaming: dict[str, float] = {}  # by precision, see verify_streaming
        self.coverage: dict[str, Any] = {}  # by precision, see verify_steps.Coverage
        self.rounding: dict[str, Any] = {}  # by precision, see Rounding
        self.frames: FloatArray | None = None  # see choose_frames
        # A few seconds of the clips, as they follow one another.
        samples = np.concatenate(speech.clips)
        rate = source.features.sample_rate
        self.golden: Arrays = {"samples": samples[: round(GOLDEN_SECONDS * rate)]}

    def programs(self, quantized: QuantizedCheckpoint) -> Iterator[tuple[Built, Parity]]:
        """See ``RoleExport``."""
        conf, spec, units = self.source.conf, self.source.encoder, self.source.units
        network, precision = quantized.network, quantized.precision
        self._verify_streaming(quantized)
        self._add_golden(quantized)
        expected = reference(network, self.speech, spec)
        check_texts(expected, units, network.conf.blank)
        self._measure_rounding(quantized, expected)
        steps = self._steps(quantized)
        self.golden |= steps.arrays(precision)
        self.coverage[precision] = steps.coverage.row()
        self.say(f"{precision}: {steps.coverage}")
        interface = encoder_interface(network, spec)
        for built in build_programs(
            EncoderProgram(network), interface, precision, conf.backends, conf.dispatches
        ):
            backend, blank = built.program.backend, network.conf.blank
            encoder = open_encoder(backend, built.data, spec)
            label = (backend, precision)
            parity = verify_program(encoder, expected, spec, units, blank, label)
            verify_steps(encoder, steps.golden, spec, f"{backend} {precision}")
            yield built, parity

    def golden_file(self) -> tuple[str, bytes]:
        """See ``RoleExport``."""
        return GOLDEN, _npz(self.golden)

    def _chains(self, quantized: QuantizedCheckpoint) -> FloatArray:
        """What all precisions choose their steps from."""
        if self.frames is None:
            known = quantized.float_network or quantized.network
            self.frames = choose_frames(known, self.speech.joined, self.source.encoder)
        return self.frames

    def _steps(self, quantized: QuantizedCheckpoint) -> StepReference:
        network, plain = quantized.network, quantized.float_network
        chains, spec = self._chains(quantized), self.source.encoder
        return step_reference(network, plain, self.speech.joined, spec, chains)

    def _measure_rounding(self, quantized: QuantizedCheckpoint, expected: Reference) -> None:
        """Of a quantized network whose float one is known."""
        network, plain, precision = quantized.network, quantized.float_network, quantized.precision
        if plain is None or precision == "fp32":
            return
        spec, units, blank = self.source.encoder, self.source.units, network.conf.blank
        eager = EagerEncoder(plain)
        heard = [stream_log_probs(eager, clip.steps, spec) for clip in expected.clips]
        words = Words(
            [greedy_text(clip.log_probs, units, blank) for clip in expected.clips],
            [greedy_text(rows, units, blank) for rows in heard],
            self.speech.texts,
        )
        chains = self._chains(quantized)[:RECORDED]
        rounding = measure_rounding(network, plain, chains, words, spec, precision)
        self.say(f"{precision}: {rounding}")
        if notable := rounding.notable():
            self.say(f"warning: {notable}")
        rounding.refuse()
        self.rounding[precision] = rounding.row()

    def _verify_streaming(self, quantized: QuantizedCheckpoint) -> None:
        """Of the float32 network too, whatever is exported, where it is known."""
        networks = {"fp32": quantized.float_network, quantized.precision: quantized.network}
        for precision, network in networks.items():
            if network is not None and precision not in self.streaming:
                self.streaming[precision] = verify_streaming(
                    network, self.speech, self.source.encoder, precision
                )
        precision = quantized.precision
        self.say(f"{precision}: streaming equals offline to {self.streaming[precision]:.1e}")

    def _add_golden(self, quantized: QuantizedCheckpoint) -> None:
        """What the eager network of this precision says to the golden samples."""
        samples, spec = self.golden["samples"].astype(np.float32), self.source.encoder
        steps = cut(whole_features(samples, self.source.features), spec)
        log_probs = stream_log_probs(EagerEncoder(quantized.network), steps, spec)
        self.golden[f"log_probs_{quantized.precision}"] = log_probs
        text = greedy_text(log_probs, self.source.units, quantized.network.conf.blank)
        self.golden[f"text_{quantized.precision}"] = np.array(text)


class DecoderExport:
    """Decoders of the second pass."""

    def __init__(
        self, source: Source, spec: DecoderSpec, speech: Speech, golden: Mapping[str, npt.NDArray]
    ) -> None:
        self.source, self.spec, self.speech = source, spec, speech
        # A package that is added to has hypotheses already, which more precisions score too.
        self.golden: Arrays = dict(golden)
        self.not_reached: dict[str, list[str]] = {}  # experts, by precision

    def programs(self, quantized: QuantizedCheckpoint) -> Iterator[tuple[Built, Parity]]:
        """See ``RoleExport``."""
        conf, spec = self.source.conf, self.spec
        network, precision = quantized.network, quantized.precision
        expected = decoder_reference(network, self.speech, self.source.encoder, spec)
        self._add_golden(quantized, expected.golden)
        memories = [segment.encoder_out for segment in expected.segments]
        short = score_reference(network, memories, spec, self.golden)
        self.golden |= short.arrays(precision)
        self.not_reached[precision] = short.not_reached
        interface = decoder_interface(network, spec)
        for built in build_programs(
            DecoderProgram(network), interface, precision, conf.backends, conf.dispatches
        ):
            backend = built.program.backend
            decoder = open_decoder(backend, built.data, spec)
            verify_scores(decoder, short.golden, f"{backend} {precision} decoder")
            yield built, verify_decoder(decoder, expected, spec, (backend, precision))

    def golden_file(self) -> tuple[str, bytes]:
        """See ``RoleExport``."""
        return GOLDEN_DECODER, _npz(self.golden)

    def _add_golden(self, quantized: QuantizedCheckpoint, segment: Segment) -> None:
        """What the eager decoders of this precision say. All precisions score the hypotheses of the
        first one over what its encoder heard."""
        golden = self.golden
        if not golden:
            golden["hyps"], golden["hyp_lengths"] = segment.hyps, segment.hyp_lengths
            golden["encoder_out"] = segment.encoder_out
        hyps, lengths = golden["hyps"].astype(np.int64), golden["hyp_lengths"].astype(np.int64)
        memory = golden["encoder_out"].astype(np.float32)
        scores = EagerDecoder(quantized.network).score(hyps, lengths, memory)
        golden[f"left_{quantized.precision}"] = scores.left
        golden[f"right_{quantized.precision}"] = scores.right


@dataclass
class Made:
    """Programs, and what was measured of each."""

    programs: list[NewProgram] = field(default_factory=list)
    parities: dict[str, Parity] = field(default_factory=dict)  # by program file
    weights: dict[str, bytes] = field(default_factory=dict)  # by the file that programs read


def make_programs(roles: Sequence[RoleExport], source: Source, say: Say) -> Made:
    """The programs of all roles at all precisions.

    Raises:
        BackendError, ParityError: a program cannot be made, or does not equal the network.
    """
    made = Made()
    for quantized in source.quantized:
        for role in roles:
            for built, parity in role.programs(quantized):
                program = built.program
                made.programs.append(program)
                made.parities[program.file] = parity
                if program.weights is not None and built.weights is not None:
                    made.weights[program.weights] = built.weights
                size = len(program.data) + len(built.weights or b"")
                say(f"{program.file}: {size / 1e6:.1f} MB, {parity}")
    return made


def _npz(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
