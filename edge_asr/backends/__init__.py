"""Backends behind one narrow protocol, looked up in one table, imported only when used."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_asr.errors import BackendError, UsageError
from edge_asr.package.manifest import DecoderSpec, EncoderSpec

State = tuple[npt.NDArray[np.generic], ...]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EncoderStep:
    """One step's result: encoder_out (1, T', D), log_probs (1, T', V) and the next state."""

    encoder_out: FloatArray
    log_probs: FloatArray
    state: State


class Encoder(Protocol):
    """A loaded encoder program. ``step`` is pure: streams share one program."""

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """Advance by feats (1, T, F); ``offset`` counts the encoder frames before them."""


@dataclass(frozen=True)
class DecoderScores:
    """Log-probabilities (N, U+1) of the units and eos of each hypothesis, in the order of the
    text, by the left-to-right and the right-to-left decoder; zeros behind eos. See
    ``edge_asr.package.manifest.DecoderSpec``."""

    left: FloatArray
    right: FloatArray


class Decoder(Protocol):
    """A loaded decoder program, without state."""

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        """Score hyps (N, U), of which ``hyp_lengths`` (N,) units count, over the encoder_out
        (1, T', D) of their segment. The other units may be any; U is at least 1."""


class OpenEncoder(Protocol):
    """What each backend module offers under the name ``open_encoder``."""

    def __call__(self, program: bytes, spec: EncoderSpec, threads: int) -> Encoder: ...


class OpenDecoder(Protocol):
    """What each backend module offers under the name ``open_decoder``."""

    def __call__(self, program: bytes, spec: DecoderSpec, threads: int) -> Decoder: ...


# name on the command line -> (module, what to install)
BACKENDS: dict[str, tuple[str, str]] = {
    "onnx": ("edge_asr.backends.onnx_runtime", "pip install onnxruntime"),
    "executorch": ("edge_asr.backends.executorch_runtime", "pip install executorch==1.5.1"),
    "torchscript": ("edge_asr.backends.torchscript_runtime", "pip install torch==2.13.0"),
}


def zero_state(spec: EncoderSpec) -> State:
    """The state at the beginning of a stream."""
    return tuple(np.zeros(tensor.shape, tensor.dtype) for tensor in spec.state)


def open_encoder(name: str, program: bytes, spec: EncoderSpec, threads: int = 1) -> Encoder:
    """Load ``program`` with backend ``name``.

    Raises:
        UsageError: no backend has that name.
        BackendError: its library is not installed, or it refuses the program.
    """
    opener: OpenEncoder = _module(name).open_encoder
    return opener(program, spec, threads)


def open_decoder(name: str, program: bytes, spec: DecoderSpec, threads: int = 1) -> Decoder:
    """Load ``program`` with backend ``name``.

    Raises:
        UsageError: no backend has that name.
        BackendError: its library is not installed, or it refuses the program.
    """
    opener: OpenDecoder = _module(name).open_decoder
    return opener(program, spec, threads)


def register_operators(name: str, operators: Path) -> None:
    """Make the operators in a library of ours known to backend ``name``, for programs that are
    opened after. A second time does nothing.

    Raises:
        UsageError: no backend has that name.
        BackendError: the backend is not installed, or the library does not fit it.
    """
    _module(name).register_operators(operators)


def _module(name: str) -> ModuleType:
    if name not in BACKENDS:
        raise UsageError(f"backend {name!r} is unknown; choose one of: {', '.join(BACKENDS)}")
    module_name, install = BACKENDS[name]
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise BackendError(
            f"backend {name!r} is not installed ({error.name or error}); run: {install}"
        ) from error
