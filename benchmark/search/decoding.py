"""``python -m benchmark.search.decoding PACKAGE LIST...``: what each part of the search is
worth.

Word errors of greedy search, prefix search, the second pass and a language model, at several
chunks, with what each costs in time. ``python -m benchmark.search.decoding_tune`` chooses the
weights on other utterances.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import edge_asr
from benchmark.options import add_package, add_recordings, add_speed, page_parser
from benchmark.page import Origin, command_line, write
from benchmark.replay import read_clips, record_all, set_name, texts
from benchmark.search.decoding_report import Rate, Report, Row, page
from benchmark.search.decoding_speed import Played, measure_speed
from benchmark.words.errors import UtteranceErrors, count_errors
from edge_asr.audio.recordings import read_recordings
from edge_asr.audio.windows import ChunkMs
from edge_asr.bench.play import choose_clips
from edge_asr.errors import UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.programs.loading import load_language_model
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer


def ways(
    recognizer: Recognizer, language_model: LanguageModel | None, ctc_weight: float | None
) -> dict[str, Decoding]:
    """What is compared, by name; greedy search first, which the others are compared with."""
    prefix = Decoding(second_pass="off", language_model="off")
    # "inline", so that all work is in one thread.
    inline = replace(prefix, second_pass="inline")
    tuned = replace(inline, ctc_weight=ctc_weight)
    found = {"greedy": Decoding(search="greedy", second_pass="off"), "prefix": prefix}
    if recognizer.decoder is not None:
        found["prefix + second pass"] = inline
        if ctc_weight is not None:
            found[f"prefix + second pass, CTC weight {ctc_weight:g}"] = tuned
    if language_model is not None:
        found["prefix + LM"] = replace(prefix, language_model=language_model)
        if recognizer.decoder is not None:
            name = "prefix + LM + second pass"
            name += "" if ctc_weight is None else f", CTC weight {ctc_weight:g}"
            found[name] = replace(tuned, language_model=language_model)
    return found


def chunks_ms(recognizer: Recognizer, chunks: Sequence[str]) -> dict[str, ChunkMs]:
    """Chunks in encoder frames, or "whole", as streams take them.

    Raises:
        UsageError: not a number.
    """
    frame_ms = recognizer.package.manifest.frame_ms
    found: dict[str, ChunkMs] = {}
    for chunk in chunks:
        if chunk != "whole" and not chunk.isdecimal():
            raise UsageError(f"chunk {chunk!r}; allowed are numbers of encoder frames, and whole")
        found[chunk] = "whole" if chunk == "whole" else round(int(chunk) * frame_ms)
    return found


def measure(options: argparse.Namespace, command: str) -> Report:
    """Everything.

    Raises:
        EdgeAsrError: a package, a recording list, a recording or the language model cannot be used.
    """
    recognizer = edge_asr.load(options.package)
    if options.lm is None:  # that of the package with weights of its own, if it has one
        model = load_language_model(recognizer.package)
    else:
        model = LanguageModel.read(
            options.lm,
            recognizer.package.units,
            weight=options.lm_weight,
            word_bonus=options.word_bonus,
        )
    compared = ways(recognizer, model, options.ctc_weight)
    chunks = chunks_ms(recognizer, options.chunks.split(","))
    sets = {set_name(path): read_recordings(path) for path in options.recordings}
    rows = [Row(way, chunk) for chunk in chunks for way in compared]
    for name, utterances in sets.items():
        clips = read_clips(utterances)
        truth = [utterance.text for utterance in utterances]
        for chunk, chunk_ms in chunks.items():
            label = f"{name}, chunk {chunk}"
            recordings = record_all(recognizer, utterances, clips, chunk_ms, label)
            greedy: UtteranceErrors | None = None
            for row in (row for row in rows if row.chunk == chunk):
                errors = count_errors(truth, texts(recognizer, recordings, compared[row.name]))
                greedy = greedy or errors
                row.rates[name] = Rate.of(errors, greedy)
    clips = choose_clips(next(iter(sets.values())), options.audio_s) if options.rounds else []
    if options.rounds:
        played = [Played(chunks[row.chunk], compared[row.name]) for row in rows]
        speeds = measure_speed(recognizer, played, clips, options.rounds)
        for row, speed in zip(rows, speeds, strict=True):
            row.speed = speed
    said = ""
    if model is not None:
        said = (
            f"The language model has the weight {model.weight:g} and {model.word_bonus:g} nats for "
            "every word, and what it adds counts in both passes."
        )
    return Report(
        origin=Origin.of(recognizer, command, shared=options.shared),
        rounds=options.rounds,
        audio_s=sum(clip.duration_s for clip in clips),
        weights=said,
        rows=rows,
    )


@errors_as_lines("benchmark.search.decoding")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.search.decoding", __doc__)
    add_package(parser)
    add_recordings(parser)
    add_speed(parser, rounds=3, audio_s=30)
    add = parser.add_argument
    add("--lm", type=Path, help="an ARPA file, as edge-asr lm writes it")
    add("--chunks", default="4,8,16,whole", help="encoder frames (default: 4,8,16,whole)")
    add("--ctc-weight", type=float, help="of the second pass, next to the package's own")
    add("--lm-weight", type=float, default=0.3, help="of the language model (default: 0.3)")
    add("--word-bonus", type=float, default=0.0, help="nats per word (default: 0)")
    options = parser.parse_args(argv)
    report = measure(options, command_line(parser.prog, argv))
    write(page(report), report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
