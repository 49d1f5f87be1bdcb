"""The parser of every command, and the options of those that run a model."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from edge_asr.backends.table import backend_choices
from edge_asr.console import complain
from edge_asr.errors import UsageError
from edge_asr.package import DEFAULT_PACKAGE

if TYPE_CHECKING:  # brings numpy, which --help need not wait for
    from edge_asr.native.library import Levers
    from edge_asr.streams.recognizer import Recognizer

_MAX_USAGE_CHARS = 300  # of argparse, which repeats what it was given
_MAX_COUNT = 64  # of experts
# Settings that ``load`` and a stream refuse, and the options that they are.
MODEL_OPTIONS = {"backend": "--backend", "threads": "--threads", "chunk_ms": "--chunk-ms"}


class Parser(argparse.ArgumentParser):
    """argparse with our one line, and our exit code for wrong usage."""

    def error(self, message: str) -> NoReturn:
        if len(message) > _MAX_USAGE_CHARS:
            message = f"{message[:_MAX_USAGE_CHARS]}..."
        complain(f"{message}; run: {self.prog} --help")
        sys.exit(UsageError.exit_code)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every command that runs a model."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--package",
        default=DEFAULT_PACKAGE,
        help="model package: a name that came with edge_asr, or a directory, written with a /",
    )
    group.add_argument("--backend", help=f"{backend_choices()} (default: the first)")
    group.add_argument("--precision", help="int8, fp32 or int4 (default: int8 where there is one)")
    group.add_argument(
        "--dispatch",
        choices=("portable", "native"),
        help="stock operators, or our native ones (default: native where it can run)",
    )
    group.add_argument(
        "--levers",
        type=levers,
        metavar="NAME=N,...",
        help="run fewer experts than in training (native programs only): top_k=1 (experts per "
        "frame), min_weight=0.3 (a second expert only from this weight on), max_experts=4 (per "
        "step); default: none",
    )
    group.add_argument(
        "--chunk-ms",
        type=_chunk_ms,
        metavar="N",
        help="audio per step, or 'whole' for whole utterances (default: the package's, often 640)",
    )
    group.add_argument("--threads", type=int, default=1, help="threads of the backend (default: 1)")


def load_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the options say of ``load``, by the names of its arguments."""
    names = ("package", "backend", "precision", "dispatch", "levers", "threads")
    return {name: getattr(arguments, name) for name in names}


def load_recognizer(arguments: argparse.Namespace) -> Recognizer:
    """The recognizer of a command that writes captions, without the language model of the package:
    ``stream_options`` reads that where the options leave it in use.

    Raises:
        EdgeAsrError: what ``load`` raises.
    """
    from edge_asr.streams.recognizer import load

    with named_as_options(MODEL_OPTIONS):
        return load(
            **load_options(arguments),
            second_pass=arguments.second_pass != "off",
            language_model=False,
        )


@contextlib.contextmanager
def named_as_options(options: Mapping[str, str]) -> Iterator[None]:
    """Gives the setting that an error is about the name of its option, by ``options``."""
    try:
        yield
    except UsageError as error:
        if error.field not in options:
            raise
        raise error.renamed(options[error.field]) from error


def _chunk_ms(text: str) -> int | str:
    try:
        return text if text == "whole" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'whole'") from None


def levers(text: str) -> Levers:
    """The levers that ``top_k=1,min_weight=0.3,max_experts=4`` or a part of it names.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    from edge_asr.native.library import Levers

    counts: dict[str, int] = {}
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name in counts or name in weights:
            raise argparse.ArgumentTypeError(f"{name} is given twice")
        if name in ("top_k", "max_experts"):
            whole = value.isascii() and value.isdigit() and len(value) <= 2
            if not whole or not 1 <= int(value) <= _MAX_COUNT:
                raise argparse.ArgumentTypeError(
                    f"{name} is {value!r}; allowed are 1 to {_MAX_COUNT}"
                )
            counts[name] = int(value)
        elif name == "min_weight":
            if not re.fullmatch(r"0?\.[0-9]{1,9}", value, re.ASCII) or float(value) == 0:
                raise argparse.ArgumentTypeError(
                    f"{name} is {value!r}; allowed are decimals between 0 and 1, e.g. 0.3"
                )
            weights[name] = float(value)
        else:
            raise argparse.ArgumentTypeError(
                f"{part!r} is no lever; allowed are top_k=N, min_weight=W and max_experts=N"
            )
    return Levers(
        top_k=counts.get("top_k", 0),
        min_weight=weights.get("min_weight", 0.0),
        max_experts=counts.get("max_experts", 0),
    )
