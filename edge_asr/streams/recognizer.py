"""A loaded package: weights that any number of streams share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edge_asr.audio.read import Source, read_blocks
from edge_asr.audio.windows import ChunkMs, chunk_frames
from edge_asr.backends import Decoder, Encoder, find_backend
from edge_asr.errors import TruncatedError, UsageError, check_type
from edge_asr.events import Event, Final
from edge_asr.fusion.hotword_text import Phrases
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.machine import usable_cores
from edge_asr.native.library import Levers
from edge_asr.package import DEFAULT_PACKAGE
from edge_asr.package.files import Package, open_package
from edge_asr.package.manifest import BackendName, Dispatch, Precision, Program
from edge_asr.programs.golden import check_golden
from edge_asr.programs.golden_decoder import check_decoder_golden
from edge_asr.programs.loading import (
    as_trained,
    choose_program,
    load_decoder,
    load_encoder,
    load_language_model,
    offers,
    set_levers,
)
from edge_asr.search.decoding import Decoding
from edge_asr.search.readers import Readers
from edge_asr.search.second_pass import SecondPass
from edge_asr.streams.stream import Stream

MAX_THREADS = 64
_FILE_BLOCK_S = 10.0
# The arguments of ``load`` in their order: name, types, what is allowed in words.
_ARGUMENTS: tuple[tuple[str, Any, str], ...] = (
    ("package", str | os.PathLike, "paths and names of packages"),
    ("backend", str | None, "names of backends"),
    ("precision", str | None, "names of precisions"),
    ("dispatch", str | None, "'native' and 'portable'"),
    ("levers", Levers | None, "Levers"),
    ("threads", Integral, f"1 to {MAX_THREADS}"),
    ("second_pass", bool, "True and False"),
    ("language_model", bool, "True and False"),
)


def load(
    package: str | os.PathLike[str] = DEFAULT_PACKAGE,
    *,
    backend: BackendName | str | None = None,
    precision: Precision | str | None = None,
    dispatch: Dispatch | str | None = None,
    levers: Levers | None = None,
    threads: int = 1,
    second_pass: bool = True,
    language_model: bool = True,
) -> Recognizer:
    """Load a package and prove with its golden vector that it computes what it should.

    Args:
        package: a directory, or the name of a package that came with edge_asr.
        backend: one of those that ``edge-asr doctor`` lists, such as "onnx"; None takes the first
            that the package has a program for.
        precision: "int8", "fp32" or "int4"; None takes int8 where there is one.
        dispatch: "native" or "portable"; None takes native programs where they can run here.
        levers: less work of the experts than trained, for native programs. They hold for every
            recognizer of the same package; None leaves those that another one was loaded with.
        threads: of the backend; one is fastest for small models.
        second_pass: load the decoders too, where the package has them for this backend.
        language_model: read the package's language model too, where it has one.

    Raises:
        PackageError: there is no such package or program, or it is damaged.
        BackendError: the backend is not installed or refuses the program.
        UsageError: an argument of another type, an unknown backend, a thread count that is not 1 to
            64, or levers for a portable program.
    """
    _check(package, backend, precision, dispatch, levers, threads, second_pass, language_model)
    opened = open_package(package)
    program = choose_program(opened, "encoder", backend, precision, dispatch)
    encoder = load_encoder(opened, program, threads)
    with as_trained(opened, program):
        check_golden(opened, encoder, program)
    decoder = None
    if second_pass and offers(opened, "decoder", program.backend):
        decoder_program = choose_program(opened, "decoder", program.backend, precision, dispatch)
        decoder = load_decoder(opened, decoder_program, threads)
        check_decoder_golden(opened, decoder, decoder_program, whole=False)
    if levers is not None:
        set_levers(opened, program, levers)
    model = load_language_model(opened) if language_model else None
    return Recognizer(opened, program, encoder, decoder, model)


@dataclass(frozen=True)
class Transcript:
    """A file, recognised."""

    segments: tuple[Final, ...]
    duration_ms: int

    @property
    def text(self) -> str:
        """All segments, with spaces between them."""
        return " ".join(segment.text for segment in self.segments if segment.text)


@dataclass(frozen=True)
class Recognizer:
    """A package with one of its programs loaded. Streams are cheap and share it, and the threads
    of its second pass: one for every two cores."""

    package: Package
    program: Program
    encoder: Encoder
    decoder: Decoder | None = None
    language_model: LanguageModel | None = None

    @property
    def backend(self) -> BackendName:
        """Which backend runs the program."""
        return self.program.backend

    def stream(
        self,
        chunk_ms: ChunkMs = None,
        *,
        hotwords: Phrases = (),
        decoding: Decoding | None = None,
    ) -> Stream:
        """A new stream.

        Args:
            chunk_ms: how much audio one encoder step reads: the latency. None is the package's
                default; "whole" is as much as the program takes at once, for whole utterances.
            hotwords: phrases to expect; see ``Stream.set_hotwords``.
            decoding: search, second pass, language model, endpoints; None are the defaults.

        Raises:
            UsageError: a chunk that is not a multiple of the encoder frame or outside the
                program's bounds; hotwords or decoding that cannot be; a second pass without a
                decoder.
        """
        check_type("decoding", decoding, Decoding | None, "a Decoding and None")
        manifest, decoding = self.package.manifest, decoding or Decoding()
        if decoding.takes_language_model:
            decoding = decoding.with_package_model(self.language_model, manifest.language_model)
        return Stream(
            self.encoder,
            manifest,
            self.package.units,
            chunk_frames(manifest, chunk_ms),
            decoding,
            self._second_pass(decoding),
            hotwords,
        )

    def transcribe(
        self,
        audio: Source | npt.NDArray[Any],
        chunk_ms: ChunkMs = None,
        *,
        sample_rate: float | None = None,
        hotwords: Phrases = (),
        decoding: Decoding | None = None,
    ) -> Transcript:
        """Recognise a whole recording: the same as pushing its blocks into a stream and flushing.
        The second pass reads each segment at once, so the text does not depend on the load.

        Args:
            audio: a path, a file object opened in binary mode, or samples (N,) or (N, C), float in
                [-1, 1) or int16.
            chunk_ms, hotwords, decoding: see ``stream``.
            sample_rate: of samples, in Hz; files say their own.

        Raises:
            InputMissingError: there is no such file.
            AudioError: it is not readable as audio.
            TruncatedError: it has, or promises, more than could be read; the transcript of what
                there is is its ``partial``.
            UsageError: another type, samples without their rate; see ``stream``.
        """
        cut: TruncatedError | None = None
        events: list[Event] = []
        blocks = _blocks(audio, sample_rate)
        with self.stream(chunk_ms, hotwords=hotwords, decoding=self._inline(decoding)) as stream:
            try:
                for block, rate in blocks:
                    events += stream.push(block, rate)
            except TruncatedError as error:
                cut = error
            events += stream.flush()
            duration_ms = stream.position_ms
        finals = tuple(event for event in events if isinstance(event, Final))
        transcript = Transcript(finals, duration_ms)
        if cut is not None:
            cut.partial = transcript
            raise cut
        return transcript

    @cached_property
    def _readers(self) -> Readers:
        return Readers(max(1, usable_cores() // 2))

    def _inline(self, decoding: Decoding | None) -> Decoding | None:
        """With the second pass in the same thread, where there is one."""
        check_type("decoding", decoding, Decoding | None, "a Decoding and None")
        decoding = decoding or Decoding()
        is_chosen = decoding.second_pass is not None or self.decoder is not None
        if decoding.second_pass == "off" or not is_chosen:
            return decoding
        return replace(decoding, second_pass="inline")

    def _second_pass(self, decoding: Decoding) -> SecondPass | None:
        spec, wanted = self.package.manifest.decoder, decoding.second_pass
        if wanted == "off" or (wanted is None and self.decoder is None):
            return None
        if self.decoder is None or spec is None:
            raise UsageError(
                f"{self.package.root}: no decoder is loaded for backend {self.backend}, so there "
                "is no second pass; choose second_pass off, or export the package with decoders"
            )
        ctc, reverse = decoding.ctc_weight, decoding.reverse_weight
        return SecondPass(
            self.decoder,
            spec,
            spec.ctc_weight if ctc is None else ctc,
            spec.reverse_weight if reverse is None else reverse,
            self._readers,
        )


def _check(*arguments: Any) -> None:
    """Raise UsageError for arguments of ``load`` that can never be."""
    given = {}
    for (name, types, allowed), value in zip(_ARGUMENTS, arguments, strict=True):
        check_type(name, value, types, allowed)
        given[name] = value
    if not 1 <= given["threads"] <= MAX_THREADS:
        raise UsageError.of_setting("threads", given["threads"], f"1 to {MAX_THREADS}")
    if given["backend"] is not None:
        find_backend(given["backend"])


def _blocks(
    audio: Source | npt.NDArray[Any], sample_rate: float | None
) -> Iterable[tuple[npt.NDArray[Any], float]]:
    is_array = hasattr(audio, "__array__")
    if is_array and sample_rate is None:
        raise UsageError("samples do not say their rate; give it: sample_rate=16000")
    if not is_array and sample_rate is not None:
        raise UsageError("sample_rate is for samples; a file says its own, so leave it out")
    if sample_rate is not None:
        return [(np.asarray(audio), sample_rate)]
    return read_blocks(cast(Source, audio), _FILE_BLOCK_S)
