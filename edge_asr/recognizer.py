"""A loaded package: weights that any number of streams share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from edge_asr.audio import read_blocks
from edge_asr.backends import BACKENDS, Encoder
from edge_asr.errors import UsageError
from edge_asr.events import Event, Final
from edge_asr.golden import check_golden
from edge_asr.loading import choose_program, load_encoder, set_levers
from edge_asr.manifest import BackendName, Dispatch, Manifest, Precision, Program
from edge_asr.native.library import Levers
from edge_asr.package import DEFAULT_PACKAGE, Package, open_package
from edge_asr.session import Stream

# Audio per encoder step; None is the default of the package.
ChunkMs = int | Literal["whole"] | None
MAX_THREADS = 64
_FILE_BLOCK_S = 10.0


def load(
    package: str | os.PathLike[str] = DEFAULT_PACKAGE,
    *,
    backend: BackendName | str | None = None,
    precision: Precision | str | None = None,
    dispatch: Dispatch | str | None = None,
    levers: Levers | None = None,
    threads: int = 1,
) -> Recognizer:
    """Load a package and prove with its golden vector that it computes what it should.

    Args:
        package: a directory, or the name of a package that came with edge_asr.
        backend: "onnx", "executorch" or "torchscript"; None takes the first that the package
            has a program for.
        precision: "int8", "fp32" or "int4"; None takes int8 where there is one.
        dispatch: "native" or "portable"; None takes native programs where they can run here.
        levers: less work of the experts than trained, for native programs. They hold for every
            recognizer of the same package.
        threads: of the backend; one is fastest for small models.

    Raises:
        PackageError: there is no such package or program, or it is damaged.
        BackendError: the backend is not installed or refuses the program.
        UsageError: an unknown backend, a thread count that is not 1 to 64, or levers for a
            portable program.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"threads is {threads}; allowed are 1 to {MAX_THREADS}")
    if backend is not None and backend not in BACKENDS:
        raise UsageError(f"backend {backend!r} is unknown; choose one of: {', '.join(BACKENDS)}")
    opened = open_package(package)
    program = choose_program(opened, "encoder", backend, precision, dispatch)
    encoder = load_encoder(opened, program, threads)
    set_levers(opened, program, Levers())
    check_golden(opened, encoder, program)
    if levers is not None:
        set_levers(opened, program, levers)
    return Recognizer(opened, program, encoder)


@dataclass(frozen=True)
class Transcript:
    """A file, recognised."""

    segments: tuple[Final, ...]
    duration_ms: int

    @property
    def text(self) -> str:
        """All segments, with spaces between them."""
        return " ".join(segment.text for segment in self.segments)


@dataclass(frozen=True)
class Recognizer:
    """A package with one of its programs loaded. Streams are cheap and share it."""

    package: Package
    program: Program
    encoder: Encoder

    @property
    def backend(self) -> BackendName:
        """Which backend runs the program."""
        return self.program.backend

    def stream(self, chunk_ms: ChunkMs = None) -> Stream:
        """A new stream.

        Args:
            chunk_ms: how much audio one encoder step reads: the latency. None is the package's
                default; "whole" is as much as the program takes at once, for whole utterances.

        Raises:
            UsageError: not a multiple of the encoder frame, or outside the program's bounds.
        """
        manifest = self.package.manifest
        return Stream(self.encoder, manifest, self.package.units, _frames(manifest, chunk_ms))

    def transcribe(self, path: str | os.PathLike[str], chunk_ms: ChunkMs = None) -> Transcript:
        """Recognise a whole file: the same as pushing its blocks into a stream and flushing.

        Raises:
            InputMissingError: there is no such file.
            AudioError: it is not readable as audio.
            UsageError: see ``stream``.
        """
        events: list[Event] = []
        with self.stream(chunk_ms) as stream:
            for block, sample_rate in read_blocks(path, _FILE_BLOCK_S):
                events += stream.push(block, sample_rate)
            events += stream.flush()
            duration_ms = stream.position_ms
        finals = tuple(event for event in events if isinstance(event, Final))
        return Transcript(finals, duration_ms)


def _frames(manifest: Manifest, chunk_ms: ChunkMs) -> int:
    """``chunk_ms`` in encoder frames, checked."""
    spec, features = manifest.encoder, manifest.features
    if chunk_ms is None:
        return spec.default_chunk
    if chunk_ms == "whole":
        return spec.max_chunk
    frame_ms = features.shift_samples * spec.subsampling_rate * 1000 / features.sample_rate
    is_number = not isinstance(chunk_ms, str) and 0 < chunk_ms < 1 << 31
    frames = round(chunk_ms / frame_ms) if is_number else 0
    if frames * frame_ms != chunk_ms or not spec.min_chunk <= frames <= spec.max_chunk:
        raise UsageError(
            f"chunk_ms is {chunk_ms}; allowed are multiples of {frame_ms:g} from "
            f"{spec.min_chunk * frame_ms:g} to {spec.max_chunk * frame_ms:g}, and 'whole' for "
            "whole utterances"
        )
    return frames
