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
        help="hypotheses, 1 to 64 (default: 10; with its own language model, what a package wants)",
    )  # fmt: skip
    search.add_argument(
        "--blank-penalty", type=float, metavar="X",
        help="nats against words left out (default: 0; with its own language model, as for --beam)",
    )  # fmt: skip
    search.add_argument(
        "--second-pass",
        choices=("background", "inline", "off"),
        help="let the decoders choose among the texts of a segment: while the next one is heard, "
        f"before it, or not at all (default: {second_pass}; off where the package has none)",
    )
    search.add_argument(
        "--nbest", type=int, metavar="N", help="texts of a segment that jsonl lists (default: 1)"
    )
    search.add_argument(
        "--left-context-ms",
        type=int,
        metavar="N",
        help="how far the encoder looks back (default: as far as the package can)",
    )


def _add_expectations(expect: argparse._ArgumentGroup, follows_file: bool) -> None:
    expect.add_argument(
        "--hotword",
        action="append",
        default=[],
        metavar="PHRASE",
        help="a phrase to prefer; can be given several times",
    )
    again = "; read again when it changes, and where it is broken then, the old ones stay"
    expect.add_argument(
        "--hotwords",
        metavar="FILE",
        help="one hotword per line, alone or with a tab and its bonus"
        + (again if follows_file else ""),
    )
    expect.add_argument(
        "--hotword-bonus",
        type=float,
        metavar="X",
        help="of those without their own: nats per unit (default: 1.5)",
    )
    expect.add_argument(
        "--lm",
        metavar="FILE",
        help="an n-gram model in ARPA format, as edge-asr lm makes it (default: the package's, if "
        "it has one)",
    )
    expect.add_argument(
        "--lm-weight",
        type=float,
        metavar="X",
        help="of it; the package's has its own (default: 0.5)",
    )
    expect.add_argument(
        "--lm-word-bonus",
        type=float,
        metavar="X",
        help="nats for each word; the package's has its own (default: 0)",
    )
    expect.add_argument(
        "--lm-level", choices=("word", "unit"), help="what FILE is made of (default: word)"
    )
    expect.add_argument(
        "--no-lm", action="store_true", help="leave out the language model of the package"
    )
    expect.add_argument(
        "--grammar",
        metavar="FILE",
        help="allow nothing else than these: one phrase per line, or JSGF",
    )


def _add_segments(segments: argparse._ArgumentGroup) -> None:
    segments.add_argument(
        "--silence-ms", type=int, metavar="N", help="a segment ends after it (default: 1000)"
    )
    segments.add_argument(
        "--max-segment-ms",
        type=int,
        metavar="N",
        help="a segment ends at a pause before, 1000 to 30000 (default: 20000)",
    )
    segments.add_argument(
        "--keep-context",
        action="store_true",
        help="let the encoder look back over the silence that ended a segment (default: it starts "
        "afresh, as the utterances of its training do)",
    )
    segments.add_argument(
        "--commit-margin",
        type=float,
        metavar="X",
        help="commit a word when all texts that are at most X nats worse than the best agree on "
        "it (default: 1)",
    )
    segments.add_argument(
        "--commit-latest-ms",
        type=float,
        metavar="N",
        help="commit a word of this age whatever they say; inf waits (default: 5000)",
    )
