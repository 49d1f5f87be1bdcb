"""The programs of a package on the bench: each can be exchanged for a mutant and judged."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.proof.effect import DecoderEffect, Effect, EncoderEffect, unheard
from benchmark.proof.judges import JUDGES, Check, DecoderJudges, EncoderJudges, refusals
from benchmark.proof.mutants import Mutant, Target
from benchmark.proof.work import CLIPS
from edge_asr.audio.features import Frames
from edge_asr.backends import FloatArray, open_decoder, open_encoder
from edge_asr.errors import EdgeAsrError
from edge_asr.native.library import library
from edge_asr.package.files import Package, open_package
from edge_asr.package.manifest import Precision, Program
from edge_asr.programs.loading import choose_program, load_operators, load_weights
from edge_asr.programs.streaming import cut, stream
from export.eager import EagerDecoder, EagerEncoder
from export.native import pack
from export.native_weights import WeightsFile
from export.program import DecoderProgram, EncoderProgram
from export.speech import Speech, load_speech
from export.stripping import find_inserts
from export.verify import Reference, reference
from export.verify_decoder import DecoderReference, decoder_reference
from export.verify_scores import ScoreReference, score_reference
from export.verify_steps import StepReference, step_reference
from export.verify_weights import verify_inserts, verify_weights
from model.network import Network
from quant.checkpoint import load_at

STEPS = 20  # of the longest stream, as the exporter's
SINGLE_FRAMES, UNHEARD_SEED = 600, 7
DOUBTED = 19  # every so many mutants all judges are asked, of all programs in turn
# Program, and how many of 20 mutants are its own.
SHARES: dict[tuple[str, str, Precision], int] = {
    ("encoder", "native", "int8"): 8,
    ("decoder", "native", "int8"): 4,
    ("encoder", "portable", "int8"): 3,
    ("decoder", "portable", "int8"): 3,
    ("encoder", "native", "int4"): 2,
}
NAMES = [" ".join(key) for key, share in SHARES.items() for _ in range(share)]


@dataclass(frozen=True)
class References:
    """What the exporter compares programs of one precision with."""

    streams: Reference
    steps: StepReference
    decoder: DecoderReference | None
    scores: ScoreReference | None
    memory: FloatArray  # encoder_out (1, T', D) of speech that the exporter has not heard


@dataclass(frozen=True)
class Finding:
    """What came of a mutant.

    Attributes:
        found: by which judges, and what they say.
        effect: of a mutant that some judge did not find: none, rounding, or missed.
        times: and how many times as far it goes as another right program; -1: no number says.
        doubts: judges that were said to find it without being asked, and did not.
    """

    seed: int
    program: str
    kind: str
    where: str
    found: dict[str, str]
    effect: str = ""
    times: float = 0.0
    doubts: tuple[str, ...] = ()


def make_reference(checkpoint: Path, package: Path, precision: Precision) -> References:
    """Of one precision; a minute or two."""
    torch.set_num_threads(1)
    opened = open_package(package)
    manifest, speech = opened.manifest, exporters_speech(opened)
    (quantized,) = load_at(checkpoint, [precision])
    network, spec, decoder, scores = quantized.network, manifest.encoder, None, None
    if manifest.decoder is not None:
        decoder = decoder_reference(network, speech, spec, manifest.decoder)
        memories = [segment.encoder_out for segment in decoder.segments]
        scores = score_reference(network, memories, manifest.decoder, {})
    frames = unheard(speech.clips, manifest.features, UNHEARD_SEED)
    return References(
        reference(network, speech, spec),
        step_reference(network, quantized.float_network, speech.joined, spec),
        decoder,
        scores,
        np.concatenate(list(_outputs(EagerEncoder(network), frames, opened)), axis=1),
    )


def _outputs(eager: EagerEncoder, frames: Frames, package: Package) -> Iterator[FloatArray]:
    spec = package.manifest.encoder
    steps = cut(frames, spec)
    for step, (_, result) in zip(steps, stream(eager, steps, spec), strict=True):
        yield result.encoder_out[:, : step.keep]


def exporters_speech(package: Package) -> Speech:
    """What the exporter verifies with."""
    spec = package.manifest.encoder
    frames = spec.input_frames(STEPS * spec.default_chunk)
    return load_speech(CLIPS, package.manifest.features, frames)


class Bench:
    """One program of a package."""

    def __init__(
        self, package: Package, references: References, network: Network, name: str
    ) -> None:
        """``name`` is one of NAMES; ``network`` what its program was made from."""
        role, dispatch, precision = name.split()
        self.name, self.role, self.package = name, role, package
        program = choose_program(package, role, "onnx", precision, dispatch)  # type: ignore[arg-type]
        self.program: Program = program
        self._where = f"{package.root / program.file}: "
        self.weights = load_weights(package, program)
        data = None
        if self.weights is not None and program.weights is not None:
            load_operators("onnx")
            data = package.read(program.weights)
        self.target = Target(name, package.read_program(program), data)
        self.right = self._open(self.target.program)
        self.judges: EncoderJudges | DecoderJudges
        if role == "encoder":
            self.judges = EncoderJudges(package, program, references.streams, references.steps)
        else:
            assert references.decoder is not None and references.scores is not None
            self.judges = DecoderJudges(package, program, references.decoder, references.scores)
        self._references, self._network = references, network

    def try_mutant(self, number: int, seed: int) -> Finding:
        """Judge a mutant, and where nobody finds it, what it changes."""
        mutant = self.target.mutant(number, seed)
        try:
            return self._judge(mutant, seed)
        finally:
            if mutant.weights is not None:
                self._put(self.target.weights)

    def refusals(self) -> dict[str, str]:
        """Of the right program, which are false alarms."""
        return refusals(self.judges.checks(self.right), all_of_them=True)

    def _judge(self, mutant: Mutant, seed: int) -> Finding:
        what = (seed, self.name, mutant.kind, mutant.where)
        if refused := self._put(mutant.weights):
            return Finding(*what, dict.fromkeys(JUDGES, refused))
        program: Any = self.right
        if mutant.program is not None:
            try:
                program = self._open(mutant.program)
            except EdgeAsrError as error:
                return Finding(*what, dict.fromkeys(JUDGES, str(error)))
        checks = self._checks(mutant, program)
        found = refusals(checks)
        doubts: tuple[str, ...] = ()
        if seed % DOUBTED == 0 and any(said.startswith("as ") for said in found.values()):
            really = refusals(checks, all_of_them=True)
            doubts = tuple(sorted(set(found) - set(really)))
        missed = len(found) < len(JUDGES)
        effect, times = self._effect_of(mutant, program) if missed else ("", 0.0)
        said = {judge: words.removeprefix(self._where)[:160] for judge, words in found.items()}
        return Finding(*what, said, effect, times if np.isfinite(times) else -1.0, doubts)

    def _put(self, data: bytes | None) -> str:
        """Let the program run with these weights; why they cannot be loaded, or nothing."""
        if data is None or self.weights is None:
            return ""
        opened = library()
        memory = opened.edge_asr_allocate(len(data))
        ctypes.memmove(memory, data, len(data))
        if opened.edge_asr_load(self.weights.number, memory, len(data)) == 0:
            return ""
        opened.edge_asr_free(memory, len(data))
        said: bytes = opened.edge_asr_error()
        return said.decode()

    def _open(self, program: bytes) -> Any:
        manifest = self.package.manifest
        if self.role == "encoder":
            return open_encoder("onnx", program, manifest.encoder)
        assert manifest.decoder is not None
        return open_decoder("onnx", program, manifest.decoder)

    def _checks(self, mutant: Mutant, program: Any) -> dict[str, Check]:
        """Those of the judges; the exporter reads all weights back too."""
        checks = self.judges.checks(program)
        runs, file = checks["export"], self._packed

        def export() -> None:
            if mutant.weights is not None:
                verify_weights(mutant.weights, file.layers, self.name)
            elif self.weights is None and mutant.program is not None:
                inserts = find_inserts(mutant.program, file)
                verify_inserts(mutant.program, inserts, file, self.name)
            runs()

        return checks | {"export": export}

    @cached_property
    def _packed(self) -> WeightsFile:
        network, whole = self._network, self.role == "encoder"
        return pack(EncoderProgram(network) if whole else DecoderProgram(network)).file

    def _effect_of(self, mutant: Mutant, program: Any) -> Effect:
        if "_effect" not in vars(self):  # which is measured with the right weights
            self._put(self.target.weights)
            assert self._effect
            self._put(mutant.weights)
        return self._effect.of(program)

    @cached_property
    def _effect(self) -> EncoderEffect | DecoderEffect:
        """Compared with eager torch, the other right program that there always is."""
        manifest = self.package.manifest
        if self.role == "encoder":
            frames = unheard(exporters_speech(self.package).clips, manifest.features, UNHEARD_SEED)
            eager = EagerEncoder(self._network)
            return EncoderEffect(self.right, eager, frames, manifest.encoder, SINGLE_FRAMES)
        vocab_size, spec = manifest.encoder.vocab_size, manifest.decoder
        assert spec is not None
        decoder, memory = EagerDecoder(self._network), self._references.memory
        return DecoderEffect(self.right, decoder, memory, vocab_size, spec.max_units)
