"""The options of commands that write captions: how speech becomes text.

Each is a setting of ``edge_asr.search.decoding_options``, which checks it; ``stream_options`` says
which.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # brings numpy, which --help need not wait for
    from edge_asr.search.decoding import SecondPassMode


def add_decoding_arguments(
    parser: argparse.ArgumentParser, second_pass: SecondPassMode, *, follows_file: bool = False
) -> None:
    """The options of every command that writes captions.

    Args:
        second_pass: the mode where none is asked for.
        follows_file: whether a file of hotwords is read again when it changes.
    """
    _add_search(parser.add_argument_group("search"), second_pass)
    _add_expectations(
        parser.add_argument_group("what to expect (prefix search only)"), follows_file
    )
    _add_segments(parser.add_argument_group("segments, and when words are settled"))


def _add_search(search: argparse._ArgumentGroup, second_pass: SecondPassMode) -> None:
    search.add_argument(
        "--search",
        choices=("prefix", "greedy"),
        default="prefix",
        help="prefix keeps a beam of texts, greedy is cheaper (default: prefix)",
    )
    search.add_argument(
        "--beam", type=int, metavar="N",
        help="hypotheses of prefix search, 1 to 64 (default: 10; with a package's language model, "
        "its value)",
    )  # fmt: skip
    search.add_argument(
        "--blank-penalty", type=float, metavar="X",
        help="nats against missing words (default: 0; with a package's language model, its value)",
    )  # fmt: skip
    search.add_argument(
        "--second-pass",
        choices=("background", "inline", "off"),
        help="when the decoders choose among the texts of a segment: during the next one, "
        f"before it, or never (default: {second_pass}; off if the package has no decoders)",
    )
    search.add_argument(
        "--nbest", type=int, metavar="N", help="texts per segment in jsonl (default: 1)"
    )
    search.add_argument(
        "--left-context-ms",
        type=int,
        metavar="N",
        help="how far the encoder looks back (default: all that the package allows)",
    )


def _add_expectations(expect: argparse._ArgumentGroup, follows_file: bool) -> None:
    expect.add_argument(
        "--hotword",
        action="append",
        default=[],
        metavar="PHRASE",
        help="a phrase to prefer; may be repeated",
    )
    again = "; read again when it changes; if it is invalid then, the old ones stay"
    expect.add_argument(
        "--hotwords",
        metavar="FILE",
        help="one hotword per line, optionally a tab and its bonus"
        + (again if follows_file else ""),
    )
    expect.add_argument(
        "--hotword-bonus",
        type=float,
        metavar="X",
        help="bonus of hotwords without their own, in nats per unit (default: 1.5)",
    )
    _add_language(expect)


def _add_language(expect: argparse._ArgumentGroup) -> None:
    expect.add_argument(
        "--lm",
        metavar="FILE",
        help="an n-gram model in ARPA format, see edge-asr lm (default: the package's, if it has "
        "one)",
    )
    expect.add_argument(
        "--lm-weight",
        type=float,
        metavar="X",
        help="weight of the language model (default: 0.5; of the package's, its value)",
    )
    expect.add_argument(
        "--lm-word-bonus",
        type=float,
        metavar="X",
        help="nats added per word (default: 0; with the package's model, its value)",
    )
    expect.add_argument(
        "--lm-level",
        choices=("word", "unit"),
        help="what the n-grams of FILE are made of (default: word)",
    )
    expect.add_argument(
        "--no-lm", action="store_true", help="do not use the language model of the package"
    )
    expect.add_argument(
        "--grammar",
        metavar="FILE",
        help="allow only these phrases: one per line, or JSGF",
    )


def _add_segments(segments: argparse._ArgumentGroup) -> None:
    segments.add_argument(
        "--silence-ms", type=int, metavar="N", help="silence that ends a segment (default: 1000)"
    )
    segments.add_argument(
        "--max-segment-ms",
        type=int,
        metavar="N",
        help="longest segment, ended at a pause; 1000 to 30000 (default: 20000)",
    )
    segments.add_argument(
        "--keep-context",
        action=argparse.BooleanOptionalAction,
        help="let the encoder look back over the silence that ended a segment, or restart it "
        "there, like an utterance of its training (default: the package's choice)",
    )
    segments.add_argument(
        "--commit-margin",
        type=float,
        metavar="X",
        help="commit a word when all hypotheses within X nats of the best agree on it (default: 1)",
    )
    segments.add_argument(
        "--commit-latest-ms",
        type=float,
        metavar="N",
        help="commit a word of this age even if they disagree; inf: never (default: 5000)",
    )
