"""Streaming speech recognition on the device.

    recognizer = edge_asr.load("commands-en")
    with recognizer.stream() as stream:
        for event in stream.push(samples, sample_rate):
            ...
        for event in stream.flush():
            ...

Importing this is quick: numpy comes with the first use of ``load``, and torch or onnxruntime when
a package is loaded. The capture process of the microphone imports it too and stays small.
"""

from __future__ import annotations

import os
import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # This is python -m edge_asr, which looks for every module in the working folder first. A
    # "numpy" that lies there is not meant, unless edge_asr itself is there.
    try:
        _here = os.getcwd()
    except OSError:  # it was removed, and is not looked into
        _here = ""
    if sys.path[0] == _here != os.path.dirname(os.path.dirname(os.path.realpath(__file__))):
        del sys.path[0]

import importlib
from typing import TYPE_CHECKING

from edge_asr.errors import (
    AudioError,
    BackendError,
    ConfigError,
    DeviceError,
    EdgeAsrError,
    InputMissingError,
    OutputError,
    PackageError,
    RunawayError,
    TruncatedError,
    UsageError,
)
from edge_asr.events import Alternative, Event, Final, Gap, Partial, Status, Word, WordUnit

if TYPE_CHECKING:
    from edge_asr.backends import Decoder, DecoderScores, Encoder, EncoderStep
    from edge_asr.fusion import Automaton
    from edge_asr.fusion.grammar import Grammar
    from edge_asr.fusion.language_model import LanguageModel
    from edge_asr.native.library import Levers
    from edge_asr.package.files import Package
    from edge_asr.package.manifest import Program
    from edge_asr.package.units import Units
    from edge_asr.search.commit import CommitRule
    from edge_asr.search.decoding import Decoding
    from edge_asr.search.decoding_options import decoding_from
    from edge_asr.search.endpoint import EndpointRule
    from edge_asr.streams.recognizer import Recognizer, Transcript, load
    from edge_asr.streams.state import EncoderRequest, StreamState
    from edge_asr.streams.stream import Stream

__all__ = [
    "Alternative",
    "AudioError",
    "Automaton",
    "BackendError",
    "CommitRule",
    "ConfigError",
    "Decoder",
    "DecoderScores",
    "Decoding",
    "DeviceError",
    "EdgeAsrError",
    "Encoder",
    "EncoderRequest",
    "EncoderStep",
    "EndpointRule",
    "Event",
    "Final",
    "Gap",
    "Grammar",
    "InputMissingError",
    "LanguageModel",
    "Levers",
    "OutputError",
    "Package",
    "PackageError",
    "Partial",
    "Program",
    "Recognizer",
    "RunawayError",
    "Status",
    "Stream",
    "StreamState",
    "Transcript",
    "TruncatedError",
    "Units",
    "UsageError",
    "Word",
    "WordUnit",
    "decoding_from",
    "load",
]

_LATER = {
    "Automaton": "edge_asr.fusion",
    "CommitRule": "edge_asr.search.commit",
    "Decoder": "edge_asr.backends",
    "DecoderScores": "edge_asr.backends",
    "Decoding": "edge_asr.search.decoding",
    "Encoder": "edge_asr.backends",
    "EncoderRequest": "edge_asr.streams.state",
    "EncoderStep": "edge_asr.backends",
    "EndpointRule": "edge_asr.search.endpoint",
    "Grammar": "edge_asr.fusion.grammar",
    "LanguageModel": "edge_asr.fusion.language_model",
    "Levers": "edge_asr.native.library",
    "Package": "edge_asr.package.files",
    "Program": "edge_asr.package.manifest",
    "Recognizer": "edge_asr.streams.recognizer",
    "Stream": "edge_asr.streams.stream",
    "StreamState": "edge_asr.streams.state",
    "Transcript": "edge_asr.streams.recognizer",
    "Units": "edge_asr.package.units",
    "decoding_from": "edge_asr.search.decoding_options",
    "load": "edge_asr.streams.recognizer",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'edge_asr' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
