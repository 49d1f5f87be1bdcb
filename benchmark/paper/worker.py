"""A worker that runs one program of one of our packages (see ``benchmark.paper.lines``).

It loads what ``edge_asr.load`` loads, in the same order, without the golden check.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.paper.lines import Answer, Handler, Request, serve, timed
from benchmark.paper.variants import Variant
from benchmark.paper.workload import (
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
from edge_asr.backends import Decoder, Encoder
from edge_asr.backends.state import State, zero_state
from edge_asr.machine import peak_memory_bytes
from edge_asr.native.library import Levers, NativeWeights
from edge_asr.package.files import Package, open_package
from edge_asr.package.manifest import EncoderSpec, Program, Role
from edge_asr.programs.loading import (
    choose_program,
    load_decoder,
    load_encoder,
    load_weights,
    set_levers,
)


def find_program(package: Package, role: Role, variant: Variant) -> Program:
    """The program of the package that a variant runs.

    Raises:
        PackageError: there is none.
        BackendError: it is native, and native programs cannot run here.
    """
    return choose_program(package, role, variant.backend, variant.precision, variant.dispatch)


class CountedExperts:
    """What the expert layers of native programs did; portable programs count nothing."""

    def __init__(self) -> None:
        self._weights: list[NativeWeights] = []

    def watch(self, package: Package, program: Program) -> None:
        """Count the layers of this program too; programs may share their weights."""
        weights = load_weights(package, program)
        if weights is not None and weights not in self._weights:
            self._weights.append(weights)

    def since_last(self) -> dict[str, float]:
        """Experts per call and per frame since the last time; empty where nothing was counted."""
        counters = [weights.counters() for weights in self._weights]
        calls, rows = sum(c.calls for c in counters), sum(c.rows for c in counters)
        if not calls or not rows:
            return {}
        return {
            "experts_per_call": sum(c.experts for c in counters) / calls,
            "experts_per_frame": sum(c.pairs for c in counters) / rows,
        }


def load(path: Path, variant: Variant, threads: int) -> tuple[Answer, Mapping[str, Handler]]:
    """Load a variant; what loading took, and the tasks that it does."""
    importlib.import_module(backends.BACKENDS[variant.backend].module)
    before = peak_memory_bytes()
    began = time.perf_counter()
    package = open_package(path)
    program = find_program(package, "encoder", variant)
    encoder = load_encoder(package, program, threads)
    set_levers(package, program, variant.levers)
    load_s = time.perf_counter() - began
    player = Player(package, encoder, variant, threads)
    loaded = {
        "load_s": load_s,
        "memory_before_bytes": before,
        "memory_loaded_bytes": peak_memory_bytes(),
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
        self._experts = CountedExperts()
        self._experts.watch(package, find_program(package, "encoder", variant))

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
            program = find_program(self._package, "decoder", self._variant)
            self._decoder = load_decoder(self._package, program, self._threads)
            set_levers(self._package, program, self._variant.levers)
            self._experts.watch(self._package, program)
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
        self._experts.since_last()
        return {"times_s": timed(run, count), **self._experts.since_last()}


def main(arguments: list[str] | None = None) -> int:
    """``python -m benchmark.paper.worker PACKAGE VARIANT-AS-JSON --threads N``."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.paper.worker", description=__doc__)
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
