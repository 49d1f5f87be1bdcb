"""Arguments of a wrong type, of every public function: a UsageError of one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_asr import Recognizer, UsageError, load
from edge_asr.package.files import Package

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
