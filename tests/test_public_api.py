"""What ``import edge_asr`` offers, pinned: a change here is a change for everybody who uses it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import edge_asr
from edge_asr import Recognizer, Stream, UsageError, load
from edge_asr.package.files import Package

NAMES = """
    Alternative AudioError BackendError CommitRule ConfigError Decoding DeviceError EdgeAsrError
    EncoderRequest EncoderStep EndpointRule Event Final Gap Grammar InputMissingError
    LanguageModel Levers OutputError PackageError Partial Recognizer RunawayError Status Stream
    Transcript TruncatedError UsageError Word WordUnit load
"""
SIGNATURES = {
    "load": "(package: str | os.PathLike[str] = 'commands-en', *, "
    "backend: BackendName | str | None = None, precision: Precision | str | None = None, "
    "dispatch: Dispatch | str | None = None, levers: Levers | None = None, threads: int = 1, "
    "second_pass: bool = True, language_model: bool = True) -> Recognizer",
    "Recognizer.stream": "(self, chunk_ms: ChunkMs = None, *, hotwords: Phrases = (), "
    "decoding: Decoding | None = None) -> Stream",
    "Recognizer.transcribe": "(self, audio: Source | npt.NDArray[Any], chunk_ms: ChunkMs = None, "
    "*, sample_rate: float | None = None, hotwords: Phrases = (), "
    "decoding: Decoding | None = None) -> Transcript",
    "Stream.close": "(self) -> None",
    "Stream.declare_gap": "(self, duration_ms: int, reason: GapReason) -> list[Event]",
    "Stream.end_run": "(self) -> None",
    "Stream.feed": "(self, samples: npt.ArrayLike, sample_rate: float = 16000) -> None",
    "Stream.flush": "(self) -> list[Event]",
    "Stream.next_step": "(self) -> EncoderRequest | None",
    "Stream.push": "(self, samples: npt.ArrayLike, sample_rate: float = 16000) -> list[Event]",
    "Stream.set_chunk_ms": "(self, chunk_ms: ChunkMs) -> None",
    "Stream.set_hotwords": "(self, hotwords: Phrases) -> tuple[str, ...]",
    "Stream.set_left_context_ms": "(self, left_context_ms: int) -> None",
    "Stream.take": "(self, result: EncoderStep) -> list[Event]",
}
PROPERTIES = {
    Recognizer: {"backend"},
    Stream: {"chunk_ms", "position_ms", "state"},
}


def methods() -> dict[str, Callable[..., Any]]:
    """Functions of the surface, by their names."""
    found: dict[str, Callable[..., Any]] = {"load": load}
    for kind in (Recognizer, Stream):
        for name, value in vars(kind).items():
            if inspect.isfunction(value) and not name.startswith("_"):
                found[f"{kind.__name__}.{name}"] = value
    return found


def test_the_public_names() -> None:
    assert edge_asr.__all__ == NAMES.split()
    assert set(NAMES.split()) <= set(dir(edge_asr))
    assert all(getattr(edge_asr, name) is not None for name in NAMES.split())
    with pytest.raises(AttributeError, match="no attribute 'levers'"):
        edge_asr.levers  # noqa: B018


def test_the_signatures() -> None:
    assert {name: str(inspect.signature(f)).replace("'", "").replace("commands-en", "'commands-en'")
            for name, f in methods().items()} == SIGNATURES  # fmt: skip


def test_the_properties() -> None:
    for kind, expected in PROPERTIES.items():
        found = {name for name, value in vars(kind).items() if isinstance(value, property)}
        assert found == expected


def classes_in(hint: Any) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from classes_in(part)


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_class_in_a_signature_is_public(name: str) -> None:
    hints = typing.get_type_hints(methods()[name])
    ours = {
        kind
        for hint in hints.values()
        for kind in classes_in(hint)
        if kind.__module__.startswith("edge_asr")
    }
    hidden = {kind for kind in ours if getattr(edge_asr, kind.__name__, None) is not kind}
    assert not hidden
    assert {kind.__name__ for kind in ours} <= set(edge_asr.__all__)


SAMPLES = np.zeros(1600, np.float32)
NUMBERS = np.zeros((2, 2))  # whose repr has two lines, and whose truth is no answer
# argument -> how it is given, and which of WRONG are no wrong types for it
ARGUMENTS: dict[str, tuple[Callable[[Recognizer, Any], Any], tuple[type, ...]]] = {
    "package": (lambda _, value: load(value), (str,)),
    "backend": (lambda r, value: load(r.package.root, backend=value), (type(None),)),
    "precision": (lambda r, value: load(r.package.root, precision=value), (type(None), str)),
    "dispatch": (lambda r, value: load(r.package.root, dispatch=value), (type(None), str)),
    "levers": (lambda r, value: load(r.package.root, levers=value), (type(None),)),
    "threads": (lambda r, value: load(r.package.root, threads=value), ()),
    "second_pass": (lambda r, value: load(r.package.root, second_pass=value), (bool,)),
    "language_model": (lambda r, value: load(r.package.root, language_model=value), (bool,)),
    "chunk_ms": (lambda r, value: r.stream(value), (type(None),)),
    "hotwords": (lambda r, value: r.stream(hotwords=value), (type(None),)),
    "decoding": (lambda r, value: r.stream(decoding=value), (type(None),)),
    "audio": (lambda r, value: r.transcribe(value), (str, np.ndarray)),
    "sample_rate": (lambda r, value: r.transcribe(SAMPLES, sample_rate=value), ()),
    "samples": (lambda r, value: r.stream().push(value), (np.ndarray,)),
    "push sample_rate": (lambda r, value: r.stream().push(SAMPLES, value), ()),
    "set_hotwords": (lambda r, value: r.stream().set_hotwords(value), (type(None),)),
    "set_chunk_ms": (lambda r, value: r.stream().set_chunk_ms(value), (type(None),)),
    "left_context_ms": (lambda r, value: r.stream().set_left_context_ms(value), ()),
    "duration_ms": (lambda r, value: r.stream().declare_gap(value, "stalled"), ()),
    "reason": (lambda r, value: r.stream().declare_gap(10, value), ()),
}
WRONG = (None, "x", b"x", b"", {"a": "b"}, True, False, object(), [object()], 1.5, NUMBERS)


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_a_wrong_type_is_a_usage_error(tiny_package: Package, argument: str) -> None:
    give, right = ARGUMENTS[argument]
    recognizer = load(tiny_package.root)
    for value in WRONG:
        if isinstance(value, right):
            continue
        with pytest.raises(UsageError) as caught:
            give(recognizer, value)
        message = str(caught.value)
        assert "\n" not in message and len(message) < 250
