"""A ``Decoding`` from plain data: the options of a command line, the JSON of a request.

    decoding_from({"beam": 5, "endpoint": {"silence_ms": 700}, "commit": {"margin": 4.0}})

Every field is checked by the annotation that it has in its class, so a new field of ``Decoding``
or of one of its rules can be given at once.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from edge_asr.errors import UsageError, settings_of
from edge_asr.fusion import Automaton
from edge_asr.search.commit import CommitRule
from edge_asr.search.decoding import Decoding
from edge_asr.search.endpoint import EndpointRule

SHORTEST_SEGMENT_MS, LONGEST_SEGMENT_MS = 1000, 30_000
_MAX_NAME_CHARS = 80  # of an unknown setting in a message
_MAX_WHOLE = 1 << 63  # where a fraction is meant


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (_is_whole(value) and abs(value) < _MAX_WHOLE)


# annotation -> what it allows in words, and whether a value is that
_KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true and false", lambda value: isinstance(value, bool)),
    int: ("whole numbers", _is_whole),
    float: ("numbers", _is_number),
    type(None): ("null", lambda value: value is None),
    Automaton: ("automata", lambda value: callable(getattr(value, "advance", None))),
    EndpointRule: ("mappings of settings", lambda value: isinstance(value, Mapping)),
    CommitRule: ("mappings of settings", lambda value: isinstance(value, Mapping)),
}


def decoding_from(settings: Mapping[str, object]) -> Decoding:
    """The choices for a stream that ``settings`` name; what they leave out keeps its default.

    Args:
        settings: fields of ``Decoding`` by their names; ``endpoint`` and ``commit`` are mappings
            of the fields of ``EndpointRule`` and ``CommitRule``. ``language_model`` and
            ``grammar`` have no plain form: a caller that has one gives the object. With
            ``endpoint.max_segment_ms`` the other durations that end a long segment change too,
            unless they are given.

    Raises:
        UsageError: an unknown setting, or one of a wrong type or outside what is allowed; it names
            the setting, as ``endpoint.silence_ms``. Or settings that do not go together.
    """
    if not isinstance(settings, Mapping):  # a request may be any JSON
        raise UsageError.of_setting("decoding", settings, "mappings of settings")
    values = _checked(Decoding, settings)
    for group, kind, rule in (
        ("endpoint", EndpointRule, _endpoint_rule),
        ("commit", CommitRule, CommitRule),
    ):
        if group in values:
            given = _checked(kind, values[group], f"{group}.")
            with settings_of(group):
                values[group] = rule(**given)
    return Decoding(**values)


def _endpoint_rule(**values: Any) -> EndpointRule:
    usual = EndpointRule()
    longest_ms = values.get("max_segment_ms", usual.max_segment_ms)
    if not SHORTEST_SEGMENT_MS <= longest_ms <= LONGEST_SEGMENT_MS:
        allowed = f"{SHORTEST_SEGMENT_MS} to {LONGEST_SEGMENT_MS}"
        raise UsageError.of_setting("max_segment_ms", longest_ms, allowed)
    # In shorter segments the search for a pause, too, begins earlier.
    later_ms = longest_ms + usual.cut_words_from_ms - usual.max_segment_ms
    following = {
        "relax_from_ms": min(usual.relax_from_ms, longest_ms // 2),
        "hold_ms": min(usual.hold_ms, longest_ms // 4),
        "cut_words_from_ms": min(LONGEST_SEGMENT_MS, later_ms),
    }
    return EndpointRule(**following | values)


def _checked(kind: type, settings: Mapping[str, object], prefix: str = "") -> dict[str, Any]:
    """``settings`` as arguments of a class, each of the type that the class says."""
    hints = _hints(kind)
    for name, value in settings.items():
        if name not in hints:
            field, known = f"{prefix}{name}"[:_MAX_NAME_CHARS], ", ".join(hints)
            message = f"{field!r} is no setting; allowed are {known}"
            raise UsageError(message, field=field, value=value, allowed=known)
        kinds = [_kind(choice) for choice in _choices(hints[name])]
        if not any(fits(value) for _, fits in kinds):
            words = ", ".join(words for words, _ in kinds)
            raise UsageError.of_setting(f"{prefix}{name}", value, words)
    return dict(settings)


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _choices(hint: Any) -> list[Any]:
    """The types and literal values that an annotation is a union of."""
    if get_origin(hint) in (Union, types.UnionType):
        return [choice for part in get_args(hint) for choice in _choices(part)]
    return [*get_args(hint)] if get_origin(hint) is Literal else [hint]


def _kind(choice: Any) -> tuple[str, Callable[[Any], bool]]:
    if isinstance(choice, str):  # of a Literal
        return choice, lambda value: isinstance(value, str) and value == choice
    return _KINDS[choice]
