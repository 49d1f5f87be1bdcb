"""``python -m benchmark.search.decoding_tune PACKAGE LIST...``: weights for
``benchmark.search.decoding``.

First of the second pass, then of the language model and its bonus together, which depend on one
another: those with the fewest word errors over all utterances. Give it dev sets, never those that
are measured later.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import edge_asr
from benchmark.options import add_package, add_recordings
from benchmark.page import table
from benchmark.replay import Recording, read_clips, record_all, texts
from benchmark.search.decoding import ways
from benchmark.words.errors import count_errors
from edge_asr.audio.recordings import read_recordings
from edge_asr.errors import UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.fusion.arpa import Ngrams, read_ngrams
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.package.manifest import MAX_BEAM
from edge_asr.search.decoding import Decoding
from edge_asr.search.prefix import BEAM
from edge_asr.streams.recognizer import Recognizer

CTC_WEIGHTS = (0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0)
LM_WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
WORD_BONUSES = (0.0, 1.0, 2.0, 3.0, 4.0)
TITLES = ("search", "CTC weight", "LM weight", "word bonus", "WER %")


@dataclass(frozen=True)
class Weights:
    """Of the second pass (None: the package's) and the language model."""

    ctc: float | None = None
    language_model: float = 0.3
    word_bonus: float = 0.0


Tried = tuple[str, Weights, int]  # what was tried, its weights, the word errors


@dataclass(frozen=True)
class _Counting:
    """Counts the word errors of weights, with all that stays the same."""

    recognizer: Recognizer
    recordings: Sequence[Recording]
    arpa: Path | None
    ngrams: Ngrams | None  # read from ``arpa``
    beam: int | None
    blank_penalty: float | None

    def errors(self, name: str, weights: Weights) -> int:
        """Over all recordings, by the way of decoding whose name begins so."""
        model = self._model(weights) if "LM" in name else None
        way = _way(ways(self.recognizer, model, weights.ctc), name)
        decoding = replace(way, beam=self.beam, blank_penalty=self.blank_penalty)
        said = texts(self.recognizer, self.recordings, decoding)
        return int(count_errors([one.text for one in self.recordings], said).edits.sum())

    def best(self, name: str, tried: Sequence[Weights]) -> Iterator[Tried]:
        """All of them, and the best once more."""
        found = []
        for weights in tried:
            found.append((name, weights, self.errors(name, weights)))
            yield found[-1]
        _, chosen, count = min(found, key=lambda one: one[2])
        yield f"chosen for {name}", chosen, count

    def _model(self, weights: Weights) -> LanguageModel | None:
        if self.ngrams is None:
            return None
        return LanguageModel.build(
            self.ngrams,
            self.recognizer.package.units,
            repr(str(self.arpa)),
            weight=weights.language_model,
            word_bonus=weights.word_bonus,
        )


def tune(
    recognizer: Recognizer,
    recordings: Sequence[Recording],
    arpa: Path | None,
    beam: int | None = None,
    blank_penalty: float | None = None,
) -> Iterator[Tried]:
    """What was tried, its weights and the word errors; the best of each kind once more, as
    "chosen".

    Raises:
        InputMissingError, UsageError: the language model cannot be used.
    """
    ngrams = None if arpa is None else read_ngrams(arpa)
    counting = _Counting(recognizer, recordings, arpa, ngrams, beam, blank_penalty)
    chosen = Weights()
    if recognizer.decoder is not None:
        name = "prefix + second pass, CTC weight"
        for what, chosen, count in counting.best(name, [Weights(one) for one in CTC_WEIGHTS]):
            yield what, chosen, count
    if ngrams is None:
        return
    name = "prefix + LM" + (" + second pass" if recognizer.decoder is not None else "")
    pairs = itertools.product(LM_WEIGHTS, WORD_BONUSES)
    yield from counting.best(
        name, [replace(chosen, language_model=one, word_bonus=other) for one, other in pairs]
    )


def cells(tried: Tried, words: int) -> tuple[str, ...]:
    """Those of ``TITLES``, with the errors per word."""
    name, weights, errors = tried
    return (
        name,
        f"{weights.ctc or 'default'}",
        f"{weights.language_model:g}",
        f"{weights.word_bonus:g}",
        f"{100 * errors / max(1, words):.2f}",
    )


def _way(found: dict[str, Decoding], name: str) -> Decoding:
    return next(decoding for full, decoding in found.items() if full.startswith(name))


@errors_as_lines("benchmark.search.decoding_tune")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.search.decoding_tune", description=__doc__
    )
    add = parser.add_argument
    add_package(parser)
    add_recordings(parser, "dev sets")
    add("--lm", type=Path, help="an ARPA file, as edge-asr lm writes it")
    add("--beam", type=int, help=f"hypotheses, 1 to {MAX_BEAM} (default: {BEAM})")
    add("--blank-penalty", type=float, help="nats taken from blank, with all weights (default: 0)")
    add("--utterances", type=int, help="of each set, drawn by chance (default: all)")
    options = parser.parse_args(argv)
    if options.utterances is not None and options.utterances < 1:
        raise UsageError("--utterances must be 1 or more")
    recognizer = edge_asr.load(options.package)
    recordings: list[Recording] = []
    for path in options.recordings:
        utterances = read_recordings(path)
        drawn = np.random.default_rng(0).permutation(len(utterances))[: options.utterances]
        utterances = [utterances[i] for i in sorted(drawn)]
        clips = read_clips(utterances)
        recordings += record_all(recognizer, utterances, clips, None, str(path.parent.name))
    words = sum(len(one.text.split()) for one in recordings)
    tried = tune(recognizer, recordings, options.lm, options.beam, options.blank_penalty)
    for line in table(TITLES, (cells(one, words) for one in tried)):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
