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
    from edge_asr.backends import EncoderStep
    from edge_asr.fusion.grammar import Grammar
    from edge_asr.fusion.language_model import LanguageModel
    from edge_asr.native.library import Levers
    from edge_asr.search.commit import CommitRule
    from edge_asr.search.decoding import Decoding
    from edge_asr.search.endpoint import EndpointRule
    from edge_asr.streams.recognizer import Recognizer, Transcript, load
    from edge_asr.streams.state import EncoderRequest
    from edge_asr.streams.stream import Stream

__all__ = [
    "Alternative",
    "AudioError",
    "BackendError",
    "CommitRule",
    "ConfigError",
    "Decoding",
    "DeviceError",
    "EdgeAsrError",
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
    "PackageError",
    "Partial",
    "Recognizer",
    "RunawayError",
    "Status",
    "Stream",
    "Transcript",
    "TruncatedError",
    "UsageError",
    "Word",
    "WordUnit",
    "load",
]

_LATER = {
    "CommitRule": "edge_asr.search.commit",
    "Decoding": "edge_asr.search.decoding",
    "EncoderRequest": "edge_asr.streams.state",
    "EncoderStep": "edge_asr.backends",
    "EndpointRule": "edge_asr.search.endpoint",
    "Grammar": "edge_asr.fusion.grammar",
    "LanguageModel": "edge_asr.fusion.language_model",
    "Levers": "edge_asr.native.library",
    "Recognizer": "edge_asr.streams.recognizer",
    "Stream": "edge_asr.streams.stream",
    "Transcript": "edge_asr.streams.recognizer",
    "load": "edge_asr.streams.recognizer",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'edge_asr' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
