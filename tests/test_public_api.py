"""What ``import edge_asr`` offers, pinned: a change here is a change for everybody who uses it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

import edge_asr
from edge_asr.audio.windows import ChunkMs
from edge_asr.events import GapReason, StatusKind
from edge_asr.fusion.hotword_text import Phrase
from edge_asr.fusion.language_model import Level
from edge_asr.search.decoding import SearchName, SecondPassMode

NAMES = """
    Alternative AudioError Automaton BackendError CommitRule ConfigError Decoder DecoderScores
    Decoding DeviceError EdgeAsrError Encoder EncoderRequest EncoderStep EndpointRule Event Final
    Gap Grammar InputMissingError LanguageModel Levers OutputError Package PackageError Partial
    Program Recognizer RunawayError Status Stream StreamState Transcript TruncatedError Units
    UsageError Word WordUnit decoding_from load
"""
# Given out and given back; what is inside them may change.
OPAQUE = {"Package", "Program", "StreamState", "Units"}
# Made by methods, which are public, and the protocols.
NOT_CONSTRUCTED = {"Automaton", "Decoder", "Encoder", "Grammar", "LanguageModel", "Stream"}
# The parameters of each class that users make, which are its fields.
CONSTRUCTORS = """
Alternative
    text: str
    score: float
CommitRule
    silence_ms: float = 300
    margin: float = 1.0
    latest_ms: float = 5000
DecoderScores
    left: FloatArray
    right: FloatArray
Decoding
    search: SearchName = 'prefix'
    beam: int | None = None
    score_beam: float = 20.0
    blank_skip: float = 0.99
    blank_penalty: float | None = None
    second_pass: SecondPassMode | None = None
    ctc_weight: float | None = None
    reverse_weight: float | None = None
    nbest: int = 1
    hotword_bonus: float = 1.5
    language_model: Automaton | Literal['off'] | None = None
    grammar: Automaton | None = None
    endpoint: EndpointRule = <factory>
    commit: CommitRule = <factory>
    fresh_context: bool | None = None
EncoderRequest
    feats: Frames
    offset: int
    state: State
EncoderStep
    encoder_out: FloatArray
    log_probs: FloatArray
    state: State
EndpointRule
    nothing_said_ms: int = 5000
    silence_ms: int = 1000
    max_segment_ms: int = 20000
    relax_from_ms: int = 10000
    min_silence_ms: int = 200
    hold_ms: int = 2000
    cut_words_from_ms: int = 25000
    blank_threshold: float = 0.8
Final
    segment: int
    text: str
    words: tuple[Word, ...]
    start_ms: int
    end_ms: int
    alternatives: tuple[Alternative, ...] = ()
    second_pass: bool = False
Gap
    start_ms: int
    end_ms: int
    reason: GapReason
Levers
    top_k: int = 0
    min_weight: float = 0.0
    max_experts: int = 0
Partial
    segment: int
    committed: str
    tail: str
    at_ms: int
    words: tuple[Word, ...] = ()
Recognizer
    package: Package
    program: Program
    encoder: Encoder
    decoder: Decoder | None = None
    language_model: LanguageModel | None = None
Status
    kind: StatusKind
    message: str
    at_ms: int
Transcript
    segments: tuple[Final, ...]
    duration_ms: int
Word
    text: str
    start_ms: int
    end_ms: int
    confidence: float
    units: tuple[WordUnit, ...] = ()
WordUnit
    symbol: str
    start_ms: int
    end_ms: int
    confidence: float
"""
SIGNATURES = {
    "load": "(package: str | os.PathLike[str] = 'commands-en', *, "
    "backend: BackendName | str | None = None, precision: Precision | str | None = None, "
    "dispatch: Dispatch | str | None = None, levers: Levers | None = None, threads: int = 1, "
    "second_pass: bool = True, language_model: bool = True) -> Recognizer",
    "decoding_from": "(settings: Mapping[str, object]) -> Decoding",
    "Automaton.advance": "(self, states: States, units: UnitIds) -> tuple[Scores, States]",
    "Automaton.finish": "(self, states: States) -> Scores",
    "Decoder.score": "(self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray) "
    "-> DecoderScores",
    "Encoder.step": "(self, feats: FloatArray, offset: int, state: State) -> EncoderStep",
    "Grammar.allows": "(self, text: str) -> bool",
    "Grammar.read": "(path: Path, units: Units) -> Grammar",
    "LanguageModel.read": "(path: str | os.PathLike[str], units: Units, *, weight: float = 0.5, "
    "word_bonus: float = 0.0, level: Level = 'word', "
    "unknown_log_prob: float = -13.815510557964274) -> LanguageModel",
    "Recognizer.stream": "(self, chunk_ms: ChunkMs = None, *, hotwords: Phrases = (), "
    "decoding: Decoding | None = None) -> Stream",
    "Recognizer.transcribe": "(self, audio: Source | npt.NDArray[Any], chunk_ms: ChunkMs = None, "
    "*, sample_rate: float | None = None, hotwords: Phrases = (), "
    "decoding: Decoding | None = None) -> Transcript",
    "Stream.close": "(self) -> None",
    "Stream.declare_gap": "(self, duration_ms: int, reason: GapReason, *, "
    "timeout_s: float | None = None) -> list[Event]",
    "Stream.end_run": "(self) -> None",
    "Stream.feed": "(self, samples: npt.ArrayLike, sample_rate: float = 16000) -> None",
    "Stream.flush": "(self, *, timeout_s: float | None = None) -> list[Event]",
    "Stream.next_step": "(self) -> EncoderRequest | None",
    "Stream.push": "(self, samples: npt.ArrayLike, sample_rate: float = 16000) -> list[Event]",
    "Stream.set_chunk_ms": "(self, chunk_ms: ChunkMs) -> None",
    "Stream.set_hotwords": "(self, hotwords: Phrases) -> tuple[str, ...]",
    "Stream.set_left_context_ms": "(self, left_context_ms: int) -> None",
    "Stream.take": "(self, result: EncoderStep) -> list[Event]",
    "Stream.take_failure": "(self, error: Exception) -> list[Event]",
    "UsageError": "(message: str, *, field: str = '', value: object = None, allowed: str = '') "
    "-> None",
}
PROPERTIES = {
    "Automaton": {"start": "int"},
    "Partial": {"text": "str"},
    "Recognizer": {"backend": "BackendName"},
    "Stream": {"chunk_ms": "int", "position_ms": "int", "state": "StreamState"},
    "Transcript": {"text": "str"},
}
# What aliases in signatures allow.
CHOICES: list[tuple[object, object]] = [
    (ChunkMs, int | Literal["whole"] | None),
    (Level, Literal["word", "unit"]),
    (Phrase, str | tuple[str, float]),
    (SearchName, Literal["prefix", "greedy"]),
    (SecondPassMode, Literal["background", "inline", "off"]),
    (GapReason, Literal["overflow", "unplugged", "stalled", "overload"]),
    (
        StatusKind,
        Literal[
            *("listening", "waiting", "lost", "recovered"),
            *("stalled", "silent", "signal", "overflow"),
        ],
    ),
]
# Of these, all methods are public.
_WHOLE = ("Automaton", "Decoder", "Encoder", "Recognizer", "Stream")


class _Unquoted(str):
    """An annotation as it is written."""

    def __repr__(self) -> str:
        return str(self)


def signature(of: Callable[..., Any]) -> inspect.Signature:
    """With annotations as they are written."""
    found = inspect.signature(of)
    parameters = [
        parameter.replace(annotation=_Unquoted(parameter.annotation))
        if isinstance(parameter.annotation, str)
        else parameter
        for parameter in found.parameters.values()
    ]
    returned = found.return_annotation
    return found.replace(
        parameters=parameters,
        return_annotation=_Unquoted(returned) if isinstance(returned, str) else returned,
    )


def functions() -> dict[str, Callable[..., Any]]:
    """The functions of ``SIGNATURES``, and all methods of the classes that are whole."""
    found: dict[str, Callable[..., Any]] = {}
    for path in SIGNATURES:
        value: Any = edge_asr
        for name in path.split("."):
            value = getattr(value, name)
        found[path] = value
    for kind in _WHOLE:
        for name, value in vars(getattr(edge_asr, kind)).items():
            if inspect.isroutine(value) and not name.startswith("_"):
                found[f"{kind}.{name}"] = getattr(getattr(edge_asr, kind), name)
    return found


def constructed() -> dict[str, type]:
    """The classes that users make."""
    kinds = {name: getattr(edge_asr, name) for name in edge_asr.__all__}
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type)
        and not issubclass(kind, Exception)
        and name not in OPAQUE | NOT_CONSTRUCTED
    }


def properties(kind: str) -> dict[str, Callable[[Any], Any]]:
    """The getters of a class by their names."""
    return {
        name: value.fget
        for name, value in vars(getattr(edge_asr, kind)).items()
        if isinstance(value, property) and value.fget is not None
    }


def surface() -> dict[str, Callable[..., Any]]:
    """All that has annotations."""
    getters = {
        f"{kind}.{name}": getter for kind in PROPERTIES for name, getter in properties(kind).items()
    }
    return {**functions(), **constructed(), **getters}


def test_the_public_names() -> None:
    assert edge_asr.__all__ == NAMES.split()
    assert set(NAMES.split()) <= set(dir(edge_asr))
    assert all(getattr(edge_asr, name) is not None for name in NAMES.split())
    with pytest.raises(AttributeError, match="no attribute 'levers'"):
        edge_asr.levers  # noqa: B018


def test_the_signatures() -> None:
    assert {name: str(signature(one)) for name, one in functions().items()} == SIGNATURES


def test_the_fields_of_classes() -> None:
    lines = []
    for name, kind in constructed().items():
        lines += [name, *(f"    {one}" for one in signature(kind).parameters.values())]
    assert lines == CONSTRUCTORS.strip("\n").split("\n")


def test_the_choices() -> None:
    for found, expected in CHOICES:
        assert found == expected


def test_the_properties() -> None:
    # Those of rules are for the search.
    for kind in {*_WHOLE, *constructed()} - {"Decoding", "EndpointRule"}:
        found = {
            name: inspect.signature(getter).return_annotation
            for name, getter in properties(kind).items()
        }
        assert found == PROPERTIES.get(kind, {})


def test_the_attributes() -> None:
    error = edge_asr.UsageError.of_setting("beam", 0, "1 to 64")
    assert vars(error) == {"field": "beam", "value": 0, "allowed": "1 to 64"}
    assert edge_asr.TruncatedError("cut").partial is None
    assert typing.get_type_hints(edge_asr.Stream) == {"hotword_warnings": tuple[str, ...]}


def classes_in(hint: Any) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from classes_in(part)


@pytest.mark.parametrize("name", surface())
def test_every_class_that_appears_is_public(name: str) -> None:
    ours = {
        kind
        for hint in typing.get_type_hints(surface()[name]).values()
        for kind in classes_in(hint)
        if kind.__module__.startswith("edge_asr")
    }
    hidden = {kind for kind in ours if getattr(edge_asr, kind.__name__, None) is not kind}
    assert not hidden
    assert {kind.__name__ for kind in ours} <= set(edge_asr.__all__)
