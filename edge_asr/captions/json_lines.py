"""Events as JSON: one object per line, or the fields alone."""

from __future__ import annotations

import dataclasses
import json
from typing import TextIO

from edge_asr.captions.lines import write_caption
from edge_asr.captions.meter import Meter
from edge_asr.console import clean, complain
from edge_asr.events import Event


class JsonCaptions:
    """Every event as one JSON object per line, with its class as "type"."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: Event) -> None:
        fields = {"type": type(event).__name__.lower(), **json_fields(event)}
        write_caption(self._out, json.dumps(fields))

    def warn(self, message: str) -> None:
        complain(message)

    def refresh(self, meter: Meter) -> None:
        pass

    def close(self) -> None:
        pass


def json_fields(event: Event) -> dict[str, object]:
    """All fields of an event: text is cleaned, and fractions have four digits."""
    return {field.name: _cleaned(getattr(event, field.name)) for field in dataclasses.fields(event)}


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _cleaned(getattr(value, name)) for name in names}
    return value
