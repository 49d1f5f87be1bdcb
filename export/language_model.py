"""``python -m export.language_model PACKAGE ARPA``: gives a package a language model of its own.

Its programs stay as they are, byte for byte. The weights belong to it: choose them on development
data first (``python -m benchmark.search.decoding_tune``).
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import msgspec

from edge_asr.exits import errors_as_lines
from edge_asr.fusion.arpa import ngram_lines, read_ngrams
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.package.files import Package
from edge_asr.package.manifest import LanguageModelSpec
from edge_asr.package.writer import write_package
from edge_asr.search.decoding import Decoding
from export.addition import join_files, join_programs, open_whole

FILE = "language_model.arpa.gz"
DIGITS = 4  # a fifth less to pack than seven, and the same perplexity


def add_language_model(base: Package, arpa: Path, spec: LanguageModelSpec) -> Package:
    """Write ``base`` anew with the model of an ARPA file, in the place of one that it had.

    Raises:
        InputMissingError, UsageError: the file is none that can be read, or none of the package's
            words, or a weight is out of its range.
        PackageError: the package is damaged.
        OutputError: it cannot be written.
    """
    ngrams = read_ngrams(arpa)
    LanguageModel.build(
        ngrams, base.units, repr(str(arpa)), weight=spec.weight, word_bonus=spec.word_bonus
    )
    text = "\n".join(ngram_lines(ngrams, DIGITS)) + "\n"
    Decoding().with_settings_of(spec)  # whether its beam and its penalty may be so much
    files = join_files(base, {})
    if base.manifest.language_model is not None:
        del files[base.manifest.language_model.file]
    files[spec.file] = gzip.compress(text.encode(), mtime=0)
    manifest = msgspec.structs.replace(base.manifest, language_model=spec)
    return write_package(base.root, manifest, join_programs(base, []), files, replace=True)


@errors_as_lines("export.language_model")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m export.language_model", description=__doc__)
    parser.add_argument("package", type=Path, help="the package's directory")
    parser.add_argument("arpa", type=Path, help="an ARPA file of words, as edge-asr lm writes it")
    parser.add_argument("--weight", type=float, required=True, help="of its log-probabilities")
    parser.add_argument("--word-bonus", type=float, default=0.0,
                        help="nats for every word (default: 0)")  # fmt: skip
    parser.add_argument("--beam", type=int, help="hypotheses of the search with it (default: 10)")
    parser.add_argument("--blank-penalty", type=float, default=0.0,
                        help="nats taken from blank with it (default: 0)")  # fmt: skip
    options = parser.parse_args(arguments)
    base = open_whole(options.package)
    spec = LanguageModelSpec(
        file=FILE,
        weight=options.weight,
        word_bonus=options.word_bonus,
        beam=options.beam,
        blank_penalty=options.blank_penalty,
    )
    found = add_language_model(base, options.arpa, spec)
    print(f"{found.root / FILE}: {found.entry(FILE).bytes / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
