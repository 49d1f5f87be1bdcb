"""Honest figures of a package on this machine.

Speed is measured over a minute of audio: the golden samples of the package, or the first minute
of what is given. All clips are played once and thrown away, then ``runs`` times in turns, so that
a machine that slows down slows all clips alike. Accuracy is measured over all
recordings that are given.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_asr.errors import ConfigError, UsageError
from edge_asr.package import DEFAULT_PACKAGE

if TYPE_CHECKING:
    from edge_asr.audio.recordings import Utterance
    from edge_asr.audio.windows import ChunkMs
    from edge_asr.bench.load import LoadFigures
    from edge_asr.bench.play import Clip, Tally, TimedEncoder
    from edge_asr.bench.report import BenchReport, ExpertFigures, Percentiles, WordErrors
    from edge_asr.native.library import Levers
    from edge_asr.search.decoding import Decoding
    from edge_asr.streams.recognizer import Recognizer

AUDIO_S = 60.0  # in each run
MAX_RUNS = 1000
_MAX_ENDPOINT_CLIPS = 20

Progress = Callable[[str, int, int], None]  # what is measured, how many are done, of how many


@dataclass(frozen=True)
class BenchConfig:
    """What to measure. ``recordings``, a recording list, and ``audio`` exclude each other."""

    package: str | os.PathLike[str] = DEFAULT_PACKAGE
    backend: str | None = None
    precision: str | None = None
    dispatch: str | None = None
    levers: Levers | None = None
    recordings: Path | None = None
    audio: tuple[Path, ...] = ()
    threads: int = 1
    chunk_ms: ChunkMs = None  # the package's own
    runs: int = 5
    second_pass: bool = True  # where the package has decoders


def measure(config: BenchConfig, progress: Progress = lambda what, done, of: None) -> BenchReport:
    """Measure everything.

    Raises:
        UsageError: a setting outside what is allowed.
        PackageError, BackendError: the package cannot be loaded.
        InputMissingError, AudioError: a recording or the list cannot be read.
        ConfigError: the list is malformed or empty, or jiwer is not installed.
    """
    if not 1 <= config.runs <= MAX_RUNS:
        raise UsageError.of_setting("runs", config.runs, f"1 to {MAX_RUNS}")
    if config.recordings and config.audio:
        raise UsageError("recordings and audio exclude each other; the list names its audio")

    from edge_asr.bench.play import Tally, TimedDecoder, TimedEncoder

    utterances: list[Utterance] = []
    if config.recordings:
        import_jiwer()  # before the work of minutes
        utterances = _read_utterances(config.recordings)
    loaded = _load(config)
    encoder = TimedEncoder(loaded.encoder)
    decoder = TimedDecoder(loaded.decoder) if loaded.decoder else None
    recognizer = dataclasses.replace(loaded, encoder=encoder, decoder=decoder)
    chunk_ms = recognizer.stream(config.chunk_ms).chunk_ms  # refuses a wrong chunk at once
    clips, source = _clips(config, recognizer, utterances)

    progress("loading", 0, 1)
    load_figures = _measure_load(config, recognizer)
    expert_figures(recognizer)  # loading is not what is measured
    runs = [Tally() for _ in range(config.runs + 1)]
    for number, tally in enumerate(runs):
        progress("speed", number, len(runs))
        _play_all(recognizer, encoder, clips, chunk_ms, tally)
    experts = expert_figures(recognizer)
    progress("endpoints", 0, 1)
    endpoints = _play_with_quiet(recognizer, encoder, clips, chunk_ms)
    report = _report(config, recognizer, source, load_figures, runs[1:], endpoints, experts)
    if not utterances:
        return report
    errors = measure_word_errors(loaded, utterances, chunk_ms, progress)
    return dataclasses.replace(report, word_errors=errors)


def _load(config: BenchConfig) -> Recognizer:
    from edge_asr.streams.recognizer import load

    return load(
        config.package,
        backend=config.backend,
        precision=config.precision,
        dispatch=config.dispatch,
        levers=config.levers,
        threads=config.threads,
        second_pass=config.second_pass,
    )


def _measure_load(config: BenchConfig, recognizer: Recognizer) -> LoadFigures:
    """The same program as that of ``recognizer``, in a process of its own."""
    from edge_asr.bench.load import measure_load

    program = recognizer.program
    return measure_load(
        recognizer.package.root,
        program.backend,
        program.precision,
        program.dispatch,
        config.threads,
        config.second_pass,
    )


def _report(
    config: BenchConfig,
    recognizer: Recognizer,
    source: str,
    load: LoadFigures,
    runs: Sequence[Tally],
    endpoints: Tally,
    experts: ExpertFigures | None,
) -> BenchReport:
    from edge_asr.bench.report import BenchReport, Percentiles, Spread
    from edge_asr.machine import describe_machine, peak_memory_bytes
    from edge_asr.native.library import Levers, running_kernel

    def every(name: str) -> Percentiles | None:
        return Percentiles.of([ms for tally in runs for ms in getattr(tally, name)])

    package, program = recognizer.package, recognizer.program
    weight_bytes = package.entry(program.weights).bytes if program.weights else 0
    return BenchReport(
        package=package.manifest.name,
        backend=program.backend,
        precision=program.precision,
        dispatch=program.dispatch,
        kernel=running_kernel() if program.dispatch == "native" else None,
        levers=config.levers or Levers(),
        program_bytes=program.bytes + weight_bytes,
        threads=config.threads,
        chunk_ms=recognizer.stream(config.chunk_ms).chunk_ms,
        source=source,
        audio_s=runs[0].audio_s,
        runs=len(runs),
        machine=describe_machine(),
        load=load,
        rtf=Spread.of([tally.work_s / tally.audio_s for tally in runs]),
        second_pass=recognizer.decoder is not None,
        encoder_share=Spread.of([tally.encoder_s / tally.work_s for tally in runs]),
        decoder_share=Spread.of([tally.decoder_s / tally.work_s for tally in runs]),
        python_share=Spread.of(
            [1 - (tally.encoder_s + tally.decoder_s) / tally.work_s for tally in runs]
        ),
        push_ms=every("push_ms"),
        first_partial_ms=every("first_partial_ms"),
        final_after_flush_ms=every("final_after_flush_ms"),
        endpoint_ms=Percentiles.of(endpoints.endpoint_ms),
        memory_peak_bytes=peak_memory_bytes(),
        experts=experts,
        word_errors=None,
    )


def expert_figures(recognizer: Recognizer) -> ExpertFigures | None:
    """What the expert layers did since the last time; None where none did, or nothing counts.

    They count for all streams of a package's native programs together.
    """
    from edge_asr.bench.report import ExpertFigures
    from edge_asr.programs.loading import load_weights

    weights = load_weights(recognizer.package, recognizer.program)
    counters = weights.counters() if weights else None
    if counters is None or not counters.calls or not counters.rows:
        return None
    return ExpertFigures(counters.experts / counters.calls, counters.pairs / counters.rows)


def _play_all(
    recognizer: Recognizer,
    encoder: TimedEncoder,
    clips: Iterable[Clip],
    chunk_ms: int,
    tally: Tally,
) -> None:
    from edge_asr.bench.play import TimedDecoder, play

    decoder = recognizer.decoder
    before_s = decoder.spent_s if isinstance(decoder, TimedDecoder) else 0.0
    for clip in clips:
        with recognizer.stream(chunk_ms, decoding=_decoding(recognizer)) as stream:
            play(stream, encoder, clip, tally)
    if isinstance(decoder, TimedDecoder):
        tally.decoder_s += decoder.spent_s - before_s


def _play_with_quiet(
    recognizer: Recognizer, encoder: TimedEncoder, clips: Sequence[Clip], chunk_ms: int
) -> Tally:
    """Some of the clips, each with quiet until the endpoint."""
    from edge_asr.bench.play import Tally

    quiet_s = (1000 + 2 * chunk_ms + 500) / 1000  # until the endpoint, and two chunks more
    # One at a time: the memory of the process is measured too.
    quiet = (clip.with_quiet(quiet_s) for clip in clips[:_MAX_ENDPOINT_CLIPS])
    tally = Tally()
    _play_all(recognizer, encoder, quiet, chunk_ms, tally)
    return tally


def _decoding(recognizer: Recognizer) -> Decoding:
    """That of everybody, but with all of its work where it is timed."""
    from edge_asr.search.decoding import Decoding

    return Decoding(second_pass="inline" if recognizer.decoder else "off")


def _clips(
    config: BenchConfig, recognizer: Recognizer, utterances: Sequence[Utterance]
) -> tuple[list[Clip], str]:
    """At least AUDIO_S of audio, repeated if need be, and what it is."""
    from edge_asr.bench.play import Clip, choose_clips, read_clips

    if config.recordings:
        clips, source = choose_clips(utterances, AUDIO_S), config.recordings.name
    elif config.audio:
        clips, source = read_clips(map(str, config.audio), AUDIO_S), "the audio given"
    else:
        package = recognizer.package
        samples = package.golden()["samples"]
        clips = [Clip(samples[:, None], package.manifest.features.sample_rate)]
        source = "the golden samples"
    return clips * math.ceil(AUDIO_S / sum(clip.duration_s for clip in clips)), source


def _read_utterances(path: Path) -> list[Utterance]:
    from edge_asr.audio.recordings import read_recordings

    utterances = read_recordings(path)
    if not any(utterance.text.split() for utterance in utterances):
        raise ConfigError(f"{path}: holds no words to compare with; give a test set")
    return utterances


def measure_word_errors(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    chunk_ms: int,
    progress: Progress = lambda what, done, of: None,
) -> WordErrors:
    """Stream every utterance and count.

    Raises:
        InputMissingError, AudioError: a recording cannot be read.
        ConfigError: jiwer is not installed.
    """
    from edge_asr.bench.report import WordErrors

    jiwer, decoding = import_jiwer(), _decoding(recognizer)
    said: list[str] = []
    for number, utterance in enumerate(utterances):
        progress("word errors", number, len(utterances))
        said.append(recognizer.transcribe(utterance.path, chunk_ms, decoding=decoding).text)
    found = jiwer.process_words([utterance.text for utterance in utterances], said)
    return WordErrors(
        wer=found.wer,
        substitutions=found.substitutions,
        deletions=found.deletions,
        insertions=found.insertions,
        words=found.hits + found.substitutions + found.deletions,
        utterances=len(utterances),
        speakers=len({utterance.speaker for utterance in utterances}),
    )


def import_jiwer() -> Any:
    """The library that counts word errors.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise ConfigError(
            "word errors need jiwer, which is not installed; run: pip install jiwer"
        ) from error
    return jiwer
