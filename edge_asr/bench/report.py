"""What the benchmark found: values with their units in their names, as JSON and as a table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from edge_asr.bench.load import LoadFigures
from edge_asr.machine import Machine
from edge_asr.native.library import Levers

REPORT_VERSION = 2
_MB = 1e6


@dataclass(frozen=True)
class Spread:
    """One figure over the runs."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value per run."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Percentiles:
    """One figure over many events, all runs together."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles | None:
        """None where nothing was observed."""
        if not values:
            return None
        p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
        return cls(len(values), p50, p95, p99, max(values))


@dataclass(frozen=True)
class ExpertFigures:
    """Work of the expert layers of a native program; the weights that a step reads follow it."""

    per_call: float  # experts that had rows in one call of one layer: a step of the encoder
    per_frame: float


@dataclass(frozen=True)
class WordErrors:
    """Word errors over a whole test set, streamed, without text normalisation."""

    wer: float
    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int
    speakers: int


@dataclass(frozen=True)
class BenchReport:
    """All figures; see docs/benchmarks for what they mean.

    ``rtf`` counts all work: features, encoder, search and second pass; ``python_share`` is what is
    neither encoder nor decoder. ``push_ms``: of the pushes that completed a chunk; with a second
    pass, those that end a segment wait for it. ``first_partial_ms``: from the end of the first word
    of a segment to the first event that has it. ``final_after_flush_ms``: from the end of the
    audio. ``endpoint_ms``: from the end of speech to a Final that no flush asked for. The ends of
    words are those that the model itself gave.
    """

    package: str
    backend: str
    precision: str
    dispatch: str
    kernel: str | None  # the instruction set that our operators use; None without them
    levers: Levers
    program_bytes: int  # its weights included
    threads: int
    chunk_ms: int
    source: str
    audio_s: float  # in each run
    runs: int
    machine: Machine
    load: LoadFigures
    rtf: Spread
    second_pass: bool  # decoders were loaded, and read every segment within the time of its push
    encoder_share: Spread
    decoder_share: Spread  # of the second pass
    python_share: Spread
    push_ms: Percentiles | None
    first_partial_ms: Percentiles | None
    final_after_flush_ms: Percentiles | None
    endpoint_ms: Percentiles | None
    memory_peak_bytes: int | None
    experts: ExpertFigures | None  # None where nothing counts them
    word_errors: WordErrors | None
    report_version: int = REPORT_VERSION

    def as_json(self) -> str:
        """One JSON object with these fields."""
        fields: dict[str, Any] = dataclasses.asdict(self)
        return json.dumps(fields, indent=2)

    def as_table(self) -> str:
        """The same for people: aligned lines."""
        rows = [
            ("package", f"{self.package}, {self.backend} {self.precision} {self.dispatch}, "
                        f"{self.program_bytes / _MB:.1f} MB"),
            ("kernel", self.kernel or ""),
            ("levers", self._levers()),
            ("setting", f"{_count(self.threads, 'thread')}, chunks of {self.chunk_ms} ms"),
            ("audio", f"{self.audio_s:.0f} s of {self.source}, {_count(self.runs, 'run')} "
                      "after one thrown away"),
            ("machine", f"{self.machine.cpu}, {self.machine.usable_cores} of "
                        f"{_count(self.machine.cores, 'core')}"),
            ("", " ".join(self.machine.cpu_features)),
            ("system", f"{self.machine.system}, Python {self.machine.python}"),
            ("libraries", ", ".join(f"{k} {v}" for k, v in self.machine.libraries.items())),
            ("load", f"{self.load.load_s:.2f} s, and {self.load.import_s:.2f} s of imports"),
            ("RTF", _spread(self.rtf, "{:.4f}")),
            ("encoder", f"{_spread(self.encoder_share, '{:.1%}')} of the time"),
            ("second pass", self._second_pass()),
            ("python", f"{_spread(self.python_share, '{:.1%}')} of the time"),
            ("push", _percentiles(self.push_ms)),
            ("first partial", _percentiles(self.first_partial_ms)),
            ("final, flush", _percentiles(self.final_after_flush_ms)),
            ("final, endpoint", _percentiles(self.endpoint_ms)),
            ("memory", self._memory()),
            ("experts", self._experts()),
            ("WER", _word_errors(self.word_errors)),
        ]  # fmt: skip
        return "\n".join(f"{name:<16} {value}".rstrip() for name, value in rows if value)

    def _levers(self) -> str:
        pulled = {name: value for name, value in vars(self.levers).items() if value}
        return ", ".join(f"{name} {value}" for name, value in pulled.items())

    def _second_pass(self) -> str:
        return f"{_spread(self.decoder_share, '{:.1%}')} of the time" if self.second_pass else "off"

    def _experts(self) -> str:
        if self.experts is None:
            return ""
        return f"{self.experts.per_call:.2f} a call, {self.experts.per_frame:.2f} a frame"

    def _memory(self) -> str:
        before, loaded = self.load.memory_before_bytes / _MB, self.load.memory_loaded_bytes / _MB
        peak = f", {self.memory_peak_bytes / _MB:.0f} MB at most" if self.memory_peak_bytes else ""
        return f"{before:.0f} MB before loading, {loaded:.0f} MB after{peak}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _spread(spread: Spread, style: str) -> str:
    low, high = style.format(spread.min), style.format(spread.max)
    return f"{style.format(spread.median)} ({low} to {high})"


def _percentiles(figures: Percentiles | None) -> str:
    if figures is None:
        return "nothing observed"
    return (
        f"p50 {figures.p50:.1f}, p95 {figures.p95:.1f}, p99 {figures.p99:.1f}, "
        f"max {figures.max:.1f} ms, {figures.count} times"
    )


def _word_errors(errors: WordErrors | None) -> str:
    if errors is None:
        return ""
    return (
        f"{errors.wer:.2%}: {errors.substitutions} substitutions, {errors.deletions} deletions, "
        f"{errors.insertions} insertions in {errors.words} words, {errors.utterances} utterances, "
        f"{_count(errors.speakers, 'speaker')}"
    )
