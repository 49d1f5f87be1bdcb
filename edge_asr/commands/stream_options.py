"""From the options of ``decoding_arguments`` to a stream."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_asr.commands.model_options import MODEL_OPTIONS, named_as_options
from edge_asr.console import complain
from edge_asr.errors import UsageError, settings_of

if TYPE_CHECKING:  # brings numpy, which --help need not wait for
    from edge_asr.audio.windows import ChunkMs
    from edge_asr.fusion.hotword_file import HotwordList
    from edge_asr.search.decoding import Decoding, SecondPassMode
    from edge_asr.streams.recognizer import Recognizer
    from edge_asr.streams.stream import Stream

# Settings of ``decoding_from``, and the options that they are.
_DECODING_OPTIONS = {
    "search": "--search",
    "beam": "--beam",
    "blank_penalty": "--blank-penalty",
    "second_pass": "--second-pass",
    "nbest": "--nbest",
    "hotword_bonus": "--hotword-bonus",
    "endpoint.silence_ms": "--silence-ms",
    "endpoint.max_segment_ms": "--max-segment-ms",
    "commit.margin": "--commit-margin",
    "commit.latest_ms": "--commit-latest-ms",
}
_LANGUAGE_MODEL_OPTIONS = {
    "weight": "--lm-weight",
    "word_bonus": "--lm-word-bonus",
    "level": "--lm-level",
}
_OPTIONS = {
    **MODEL_OPTIONS,
    **_DECODING_OPTIONS,
    **{f"language_model.{name}": option for name, option in _LANGUAGE_MODEL_OPTIONS.items()},
    "left_context_ms": "--left-context-ms",
}


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
        with named_as_options(_OPTIONS):
            stream = self.recognizer.stream(
                self.chunk_ms, hotwords=self.hotwords.phrases, decoding=self.decoding
            )
            if self.left_context_ms is not None:
                stream.set_left_context_ms(self.left_context_ms)
        return stream


def stream_options(
    arguments: argparse.Namespace, recognizer: Recognizer, second_pass: SecondPassMode
) -> StreamOptions:
    """Options into values; files are read.

    Args:
        recognizer: loaded without the language model of its package, which is read here where
            the options leave it in use.
        second_pass: as in ``add_decoding_arguments``.

    Raises:
        InputMissingError: a file is missing or may not be read.
        PackageError: the language model of the package is damaged.
        UsageError: a file holds something else, or a value is outside what is allowed.
    """
    from edge_asr.fusion.hotword_file import HotwordList

    with named_as_options(_OPTIONS):
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
    from edge_asr.search.decoding_options import decoding_from

    model_settings = _given(arguments, _LANGUAGE_MODEL_OPTIONS)
    _check_combination(arguments, model_settings, recognizer)
    settings = {
        "second_pass": second_pass if recognizer.decoder else "off",
        "fresh_context": None if arguments.keep_context is None else not arguments.keep_context,
        "language_model": "off" if arguments.no_lm else None,
        **_nested(_given(arguments, _DECODING_OPTIONS)),
    }
    decoding = decoding_from(settings)
    # Files take longer, so all other mistakes were found before.
    if arguments.grammar is not None:
        grammar = Grammar.read(Path(arguments.grammar), recognizer.package.units)
        decoding = dataclasses.replace(decoding, grammar=grammar)
    with settings_of("language_model"):
        return _with_language_model(decoding, arguments.lm, model_settings, recognizer)


def _check_combination(
    arguments: argparse.Namespace, model_settings: dict[str, Any], recognizer: Recognizer
) -> None:
    """UsageError for options that need or exclude each other."""
    own = recognizer.package.manifest.language_model
    if model_settings and arguments.lm is None and (own is None or "level" in model_settings):
        raise UsageError(
            "--lm-weight, --lm-word-bonus and --lm-level are of a model; give --lm FILE"
        )
    if arguments.no_lm and (arguments.lm is not None or model_settings):
        raise UsageError("--no-lm leaves out what --lm and its weights are for; give one of them")
    for_prefix = arguments.hotword, arguments.hotwords, arguments.lm, arguments.grammar
    if arguments.search == "greedy" and (any(for_prefix) or model_settings):
        raise UsageError(
            "greedy search takes no hotwords, language model or grammar; leave --search out"
        )


def _with_language_model(
    decoding: Decoding, file: str | None, settings: dict[str, Any], recognizer: Recognizer
) -> Decoding:
    from edge_asr.fusion.language_model import LanguageModel
    from edge_asr.programs.loading import load_language_model

    package = recognizer.package
    if file is not None:
        model = LanguageModel.read(file, package.units, **settings)
        return dataclasses.replace(decoding, language_model=model)
    if settings or decoding.takes_language_model:  # settings ask for it, whatever the grammar
        own = load_language_model(package, **settings)
        return decoding.with_package_model(own, package.manifest.language_model)
    return decoding


def _given(arguments: argparse.Namespace, options: dict[str, str]) -> dict[str, Any]:
    """The settings whose options were given; the others keep their defaults."""
    values = {
        setting: getattr(arguments, option.removeprefix("--").replace("-", "_"))
        for setting, option in options.items()
    }
    return {setting: value for setting, value in values.items() if value is not None}


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    """``{"commit.margin": 1}`` as ``{"commit": {"margin": 1}}``."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        group, _, field = name.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[field] = value
    return nested
