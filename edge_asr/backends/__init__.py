"""Backends: from the name of one and the bytes of a program to something that runs.

Importing this is quick: the table is all that is here, and numpy and the backends come with their
first use.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from edge_asr.backends.table import BACKENDS, Backend, find_backend
from edge_asr.errors import BackendError

if TYPE_CHECKING:
    from edge_asr.backends.program import (
        Decoder,
        DecoderScores,
        Encoder,
        EncoderStep,
        FloatArray,
        IntArray,
        LoadMethod,
    )
    from edge_asr.package.manifest import DecoderSpec, EncoderSpec

__all__ = [
    "BACKENDS",
    "Backend",
    "Decoder",
    "DecoderScores",
    "Encoder",
    "EncoderStep",
    "FloatArray",
    "IntArray",
    "find_backend",
    "is_installed",
    "open_decoder",
    "open_encoder",
    "register_operators",
]

_OF_PROGRAM = {"Decoder", "DecoderScores", "Encoder", "EncoderStep", "FloatArray", "IntArray"}


def __getattr__(name: str) -> object:
    if name not in _OF_PROGRAM:
        raise AttributeError(f"module 'edge_asr.backends' has no attribute {name!r}")
    return getattr(importlib.import_module("edge_asr.backends.program"), name)


def open_encoder(name: str, program: bytes, spec: EncoderSpec, threads: int = 1) -> Encoder:
    """Load ``program`` with backend ``name``.

    Raises:
        UsageError: no backend has that name.
        BackendError: its library is not installed, or refuses the program, or the inputs and
            outputs of the program are not those of ``spec``.
    """
    load: LoadMethod = _module(name).load_method
    from edge_asr.backends.calls import library_call, load_bytes
    from edge_asr.backends.program import encoder_of

    with library_call(load_bytes(program)):
        method = load(program, threads)
    return encoder_of(BACKENDS[name], method, spec)


def open_decoder(name: str, program: bytes, spec: DecoderSpec, threads: int = 1) -> Decoder:
    """Load ``program`` with backend ``name``.

    Raises:
        UsageError: no backend has that name.
        BackendError: its library is not installed, or refuses the program, or the inputs and
            outputs of the program are not those of ``spec``.
    """
    load: LoadMethod = _module(name).load_method
    from edge_asr.backends.calls import library_call, load_bytes
    from edge_asr.backends.program import decoder_of

    with library_call(load_bytes(program)):
        method = load(program, threads)
    return decoder_of(BACKENDS[name], method, spec)


def is_installed(name: str) -> bool:
    """Whether the libraries of backend ``name`` are there and can be imported.

    Raises:
        UsageError: no backend has that name.
    """
    try:
        _module(name)
    except BackendError:
        return False
    return True


def register_operators(name: str, operators: Path) -> None:
    """Make the operators in a library of ours known to backend ``name``, for programs that are
    opened after. A second time does nothing.

    Raises:
        UsageError: no backend has that name.
        BackendError: the backend is not installed, or the library does not fit it.
    """
    _module(name).register_operators(operators)


def _module(name: str) -> ModuleType:
    backend = find_backend(name)
    try:
        return importlib.import_module(backend.module)
    except ImportError as error:
        raise BackendError(
            f"backend {name!r} is not installed ({error.name or error}); run: {backend.install}"
        ) from error
