"""The options of commands that write captions: how speech becomes text.

Each is a field of ``edge_asr.search.decoding.Decoding`` or of one of its rules. They check it, and
their errors get the name of the option here.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge_asr.console import complain
from edge_asr.errors import UsageError

if TYPE_CHECKING:  # brings numpy, which --help need not wait for
    from edge_asr.audio.windows import ChunkMs
    from edge_asr.fusion.hotword_file import HotwordList
    from edge_asr.search.decoding import Decoding, SecondPassMode
    from edge_asr.search.endpoint import EndpointRule
    from edge_asr.streams.recognizer import Recognizer
    from edge_asr.streams.session import Stream

_SEGMENT_MS = 1000, 30_000  # shortest and longest --max-segment-ms
_OPTIONS = {
    "beam": "--beam",
    "blank_penalty": "--blank-penalty",
    "nbest": "--nbest",
    "silence_ms": "--silence-ms",
    "margin": "--commit-margin",
    "latest_ms": "--commit-latest-ms",
    "weight": "--lm-weight",
    "word_bonus": "--lm-word-bonus",
    "left_context_ms": "--left-context-ms",
}


def add_decoding_arguments(
    parser: argparse.ArgumentParser, second_pass: SecondPassMode, *, follows_file: bool = False
) -> None:
    """The options of every command that writes captions.

    Args:
        second_pass: the mode where none is asked for.
        follows_file: whether a file of hotwords is read again when it changes.
    """
    search = parser.add_argument_group("search")
    search.add_argument(
        "--search",
        choices=("prefix", "greedy"),
        default="prefix",
        help="prefix keeps a beam of texts, greedy is cheaper (default: prefix)",
    )
    search.add_argument(
        "--beam", type=int, metavar="N",
        help="hypotheses, 1 to 64 (default: 10; with a package's language model, its value)",
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
    expect = parser.add_argument_group("what to expect (prefix search only)")
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
    segments = parser.add_argument_group("segments, and when words are settled")
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
        action="store_true",
        help="let the encoder look back over the silence that ended a segment (default: it "
        "restarts there, like an utterance of its training)",
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


def wants_language_model(arguments: argparse.Namespace) -> bool:
    """Whether the options leave the package's language model as it is, so that ``load`` may read
    it."""
    others = (arguments.lm, arguments.lm_weight, arguments.lm_word_bonus, arguments.grammar)
    return arguments.search == "prefix" and not arguments.no_lm and others == (None,) * len(others)


@dataclass(frozen=True)
class StreamOptions:
    """What the options say of a stream."""

    recognizer: Recognizer
    chunk_ms: ChunkMs
    left_context_ms: int | None
    decoding: Decoding
    hotwords: HotwordList

    def open(self) -> Stream:
        """A new stream.

        Raises:
            UsageError: a value outside what is allowed.
        """
        stream = self.recognizer.stream(
            self.chunk_ms, hotwords=self.hotwords.phrases, decoding=self.decoding
        )
        if self.left_context_ms is not None:
            with _said_of_options():
                stream.set_left_context_ms(self.left_context_ms)
        return stream


def stream_options(
    arguments: argparse.Namespace, recognizer: Recognizer, second_pass: SecondPassMode
) -> StreamOptions:
    """Options into values; files are read.

    Args:
        second_pass: as in ``add_decoding_arguments``.

    Raises:
        InputMissingError: a file is missing or may not be read.
        UsageError: a file holds something else, or a value is outside what is allowed.
    """
    from edge_asr.fusion.hotword_file import HotwordList

    with _said_of_options():
        decoding = _decoding(arguments, recognizer, second_pass)
    hotwords = HotwordList(arguments.hotword, arguments.hotwords)
    return StreamOptions(
        recognizer, arguments.chunk_ms, arguments.left_context_ms, decoding, hotwords
    )


def warn_of_hotwords(stream: Stream) -> None:
    """Say on stderr which hotwords a new stream leaves out."""
    from edge_asr.fusion.hotword_file import warning_lines

    for line in warning_lines(stream.hotword_warnings):
        complain(line)


def _decoding(
    arguments: argparse.Namespace, recognizer: Recognizer, second_pass: SecondPassMode
) -> Decoding:
    from edge_asr.fusion.grammar import Grammar
    from edge_asr.fusion.language_model import LanguageModel
    from edge_asr.programs.loading import load_language_model
    from edge_asr.search.commit import CommitRule
    from edge_asr.search.decoding import Decoding

    lm_settings = _given(
        arguments, weight="lm_weight", word_bonus="lm_word_bonus", level="lm_level"
    )
    own = recognizer.package.manifest.language_model
    if lm_settings and arguments.lm is None and (own is None or "level" in lm_settings):
        raise UsageError(
            "--lm-weight, --lm-word-bonus and --lm-level are of a model; give --lm FILE"
        )
    if arguments.no_lm and (arguments.lm is not None or lm_settings):
        raise UsageError("--no-lm leaves out what --lm and its weights are for; give one of them")
    if arguments.search == "greedy" and (
        arguments.hotword or arguments.hotwords or arguments.lm or lm_settings or arguments.grammar
    ):
        raise UsageError(
            "greedy search takes no hotwords, language model or grammar; leave --search out"
        )
    decoding = Decoding(
        search=arguments.search,
        second_pass=arguments.second_pass or (second_pass if recognizer.decoder else "off"),
        endpoint=_endpoint_rule(arguments),
        fresh_context=not arguments.keep_context,
        commit=CommitRule(
            **_given(arguments, margin="commit_margin", latest_ms="commit_latest_ms")
        ),
        **_given(
            arguments,
            beam="beam",
            blank_penalty="blank_penalty",
            nbest="nbest",
            hotword_bonus="hotword_bonus",
        ),
    )
    # Files take longer, so all other mistakes were found before.
    units, grammar = recognizer.package.units, None
    model: LanguageModel | Literal["off"] | None = "off" if arguments.no_lm else None
    if arguments.grammar is not None:
        grammar = Grammar.read(Path(arguments.grammar), units)
    if arguments.lm is not None:
        model = LanguageModel.read(arguments.lm, units, **lm_settings)
    elif lm_settings:
        model = load_language_model(recognizer.package, **lm_settings)
        decoding = decoding.beside(own)
    return dataclasses.replace(decoding, grammar=grammar, language_model=model)


def _endpoint_rule(arguments: argparse.Namespace) -> EndpointRule:
    from edge_asr.search.endpoint import EndpointRule

    silence, longest = _given(arguments, silence_ms="silence_ms"), arguments.max_segment_ms
    usual = EndpointRule(**silence)
    if longest is None:
        return usual
    low, high = _SEGMENT_MS
    if not low <= longest <= high:
        raise UsageError(f"--max-segment-ms is {longest}; allowed are {low} to {high}")
    # In shorter segments the search for a pause, too, begins earlier.
    return EndpointRule(
        **silence,
        max_segment_ms=longest,
        relax_from_ms=min(usual.relax_from_ms, longest // 2),
        hold_ms=min(usual.hold_ms, longest // 4),
        cut_words_from_ms=min(high, longest + usual.cut_words_from_ms - usual.max_segment_ms),
    )


def _given(arguments: argparse.Namespace, **options: str) -> dict[str, Any]:
    """Fields of the options that were given; the others keep their defaults."""
    found = {field: getattr(arguments, option) for field, option in options.items()}
    return {field: value for field, value in found.items() if value is not None}


@contextlib.contextmanager
def _said_of_options() -> Iterator[None]:
    """Gives a field that an error begins with the name of its option."""
    try:
        yield
    except UsageError as error:
        field, is_, rest = str(error).partition(" is ")
        if field not in _OPTIONS:
            raise
        raise UsageError(f"{_OPTIONS[field]}{is_}{rest}") from error
