"""A worker that runs one program of one of our packages (see ``benchmark.lines``).

It loads what ``edge_asr.load`` loads, in the same order, without the golden check.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.lines import Answer, Handler, Request, serve, timed
from benchmark.variants import Levers, Variant
from benchmark.workload import (
    CHUNK_FRAMES,
    HYPOTHESES,
    HYPOTHESIS_UNITS,
    SECOND_FEATURES,
    WHOLE_FEATURES,
    chunks,
    features,
    hypotheses,
    input_frames,
)
from edge_asr import backends
from edge_asr.backends import Decoder, Encoder, State, zero_state
from edge_asr.errors import BackendError, PackageError
from edge_asr.machine import peak_memory_bytes
from edge_asr.manifest import EncoderSpec, Program
from edge_asr.package import Package, open_package


def find_program(package: Package, role: str, variant: Variant) -> Program:
    """The program of the package that a variant runs.

    Raises:
        PackageError: there is none.
    """
    fitting = [
        program
        for program in package.manifest.programs
        if (program.role, program.backend) == (role, variant.backend)
        and program.precision == variant.precision
        and bool(program.native_ops) == (variant.dispatch == "native")
    ]
    if not fitting:
        raise PackageError(f"{package.root}: no {role} program for {variant.label}; export it")
    return fitting[0]


def open_encoder(package: Package, variant: Variant, threads: int) -> Encoder:
    """Load the encoder of a variant.

    Raises:
        PackageError: the package has no such program.
        BackendError: the backend refuses it, or its levers cannot be set.
    """
    program = find_program(package, "encoder", variant)
    data = package.read(program.file)
    encoder = backends.open_encoder(program.backend, data, package.manifest.encoder, threads)
    _set_levers(variant)
    return encoder


def open_decoder(package: Package, variant: Variant, threads: int) -> Decoder:
    """Load the decoder of a variant, as ``open_encoder`` does."""
    program = find_program(package, "decoder", variant)
    spec = package.manifest.decoder
    assert spec is not None, "a manifest with a decoder has its interface"
    decoder = backends.open_decoder(program.backend, package.read(program.file), spec, threads)
    _set_levers(variant)
    return decoder


def native_weights() -> list[Any]:
    """The native weights in memory; none where no native program is loaded."""
    library = sys.modules.get("edge_asr.native.library")
    return list(library._loaded.values()) if library is not None else []


def _set_levers(variant: Variant) -> None:
    if not variant.levers.arguments:
        return
    weights = native_weights()
    if not weights:
        raise BackendError(f"{variant.label}: the program has no native weights to set levers of")
    from edge_asr.native import library

    for each in weights:
        each.set_levers(library.Levers(**variant.levers.arguments))


def counted_experts() -> dict[str, float]:
    """Experts per call and per frame since the last time; empty where nothing counts them."""
    counters = [weights.counters() for weights in native_weights()]
    calls, rows = sum(c.calls for c in counters), sum(c.rows for c in counters)
    if not calls or not rows:
        return {}
    return {
        "experts_per_call": sum(c.experts for c in counters) / calls,
        "experts_per_frame": sum(c.pairs for c in counters) / rows,
    }


def load(path: Path, variant: Variant, threads: int) -> tuple[Answer, Mapping[str, Handler]]:
    """Load a variant; what loading took, and the tasks that it does."""
    module, _ = backends.BACKENDS[variant.backend]
    importlib.import_module(module)
    before = peak_memory_bytes()
    began = time.perf_counter()
    package = open_package(path)
    encoder = open_encoder(package, variant, threads)
    load_s = time.perf_counter() - began
    player = Player(package, encoder, variant, threads)
    loaded = {
        "load_s": load_s,
        "memory_before_bytes": before,
        "memory_loaded_bytes": peak_memory_bytes(),
        "program_bytes": find_program(package, "encoder", variant).bytes,
    }
    return loaded, player.handlers()


class Player:
    """The tasks of the benchmark, on our programs."""

    def __init__(self, package: Package, encoder: Encoder, variant: Variant, threads: int) -> None:
        self._package = package
        self._spec: EncoderSpec = package.manifest.encoder
        self._encoder = encoder
        self._variant, self._threads = variant, threads
        self._states: dict[int, State] = {}
        self._chunks: dict[int, Iterator[npt.NDArray[np.float32]]] = {}
        self._decoder: Decoder | None = None
        self._memory: npt.NDArray[np.float32] | None = None
        self._warm: set[str] = set()

    def handlers(self) -> dict[str, Handler]:
        """Task to function."""
        return {
            "stream": self.stream,
            "whole": self.whole,
            "second": self.second,
            "memory": lambda request: {"peak_bytes": peak_memory_bytes()},
            "probe": self.probe,
        }

    def stream(self, request: Request) -> Answer:
        """Seconds of each of ``count`` chunks of ``chunk`` encoder frames, caches full."""
        chunk, count = request.get("chunk", CHUNK_FRAMES), request["count"]
        left = self._spec.left_context
        if chunk not in self._states:
            self._chunks[chunk] = chunks(chunk)
            self._states[chunk] = zero_state(self._spec)
            for offset in range(0, left, chunk):
                self._chunk(chunk, offset)
        offset = 10 * max(left, chunk)  # in the middle of a stream
        return self._timed(f"{chunk}", lambda: self._chunk(chunk, offset), count)

    def _chunk(self, chunk: int, offset: int) -> None:
        feats = next(self._chunks[chunk])
        self._states[chunk] = self._encoder.step(feats, offset, self._states[chunk]).state

    def whole(self, request: Request) -> Answer:
        """Seconds of each of ``count`` whole utterances in one call."""
        feats = features(WHOLE_FEATURES)
        return self._timed("whole", lambda: self._whole(feats), request["count"])

    def _whole(self, feats: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return self._encoder.step(feats, 0, zero_state(self._spec)).encoder_out

    def second(self, request: Request) -> Answer:
        """Seconds of each of ``count`` second passes, both decoders."""
        if self._decoder is None or self._memory is None:
            self._decoder = open_decoder(self._package, self._variant, self._threads)
            self._memory = self._whole(features(SECOND_FEATURES))
        decoder, memory = self._decoder, self._memory
        units = hypotheses(self._spec.vocab_size)
        lengths = np.full(HYPOTHESES, HYPOTHESIS_UNITS)
        return self._timed(
            "second", lambda: decoder.score(units, lengths, memory), request["count"]
        )

    def probe(self, request: Request) -> Answer:
        """log_probs (T', V) of the first chunk, for a comparison of what is computed."""
        feats = features(input_frames(CHUNK_FRAMES))
        found = self._encoder.step(feats, 0, zero_state(self._spec))
        return {"log_probs": found.log_probs[0].tolist()}

    def _timed(self, what: str, run: Any, count: int) -> Answer:
        """Times of ``count`` runs; the first two ever are thrown away."""
        if what not in self._warm:
            timed(run, 2)
            self._warm.add(what)
        counted_experts()
        return {"times_s": timed(run, count), **counted_experts()}


def main(arguments: list[str] | None = None) -> int:
    """``python -m benchmark.worker PACKAGE VARIANT-AS-JSON --threads N``."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.worker", description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("variant", help="the fields of a Variant as JSON")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    fields = json.loads(options.variant)
    fields["levers"] = Levers(**fields.get("levers", {}))
    variant = Variant(**fields)
    return serve(lambda: load(options.package, variant, options.threads))


if __name__ == "__main__":
    raise SystemExit(main())
