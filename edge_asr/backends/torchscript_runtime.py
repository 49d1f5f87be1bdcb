"""TorchScript on the CPU.

A TorchScript file is a program: it could read and write files from the moment it is loaded. Only
load one from a package whose manifest you trust; its bytes are pinned there.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edge_asr.backends import (
    Decoder,
    DecoderScores,
    Encoder,
    EncoderStep,
    FloatArray,
    IntArray,
    State,
)
from edge_asr.errors import BackendError
from edge_asr.package.manifest import DecoderSpec, EncoderSpec


def open_encoder(program: bytes, spec: EncoderSpec, threads: int) -> Encoder:
    """Load a TorchScript encoder.

    Raises:
        BackendError: its archive would inflate, the library refuses it, or its arguments are not
            those of ``spec``.
    """
    return TorchScriptEncoder(_Program(program, 2 + len(spec.state), 2 + len(spec.state), threads))


def open_decoder(program: bytes, spec: DecoderSpec, threads: int) -> Decoder:
    """Load a TorchScript decoder.

    Raises:
        BackendError: its archive would inflate, the library refuses it, or its arguments are not
            those of a decoder.
    """
    return TorchScriptDecoder(_Program(program, 3, 2, threads))


def register_operators(operators: Path) -> None:
    """See ``backends.register_operators``."""
    try:
        torch.ops.load_library(str(operators))
    except OSError as error:
        raise BackendError(
            f"{operators.name} does not fit torch {torch.__version__} ({_reason(error)}); "
            "run: make native"
        ) from error


class TorchScriptEncoder:
    """An encoder in a ScriptModule."""

    def __init__(self, program: _Program) -> None:
        self._program = program

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        outputs = self._program.run(feats, np.array([offset], np.int64), *state)
        encoder_out, log_probs, *next_state = outputs
        return EncoderStep(encoder_out, log_probs, tuple(next_state))


class TorchScriptDecoder:
    """A decoder in a ScriptModule."""

    def __init__(self, program: _Program) -> None:
        self._program = program

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        """See ``Decoder``."""
        return DecoderScores(*self._program.run(hyps, hyp_lengths, encoder_out))


class _Program:
    """A ScriptModule from tensors to a tuple of tensors, with a number of threads of its own."""

    def __init__(self, program: bytes, arguments: int, outputs: int, threads: int) -> None:
        _check_archive(program)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # pinned, so that it may be old
                module = torch.jit.load(io.BytesIO(program), map_location="cpu")
            found = len(module.forward.schema.arguments) - 1  # without self
        except Exception as error:  # the library has no common base for its errors
            raise BackendError(
                f"torch {torch.__version__} refuses the program: {_reason(error)}; "
                "export the package again"
            ) from error
        if found != arguments:
            raise BackendError(
                f"the TorchScript program does not fit the manifest: expected {arguments} "
                f"arguments, found {found}; export the package again"
            )
        self._module = module.eval()
        self._outputs = outputs
        self._threads = threads

    def run(self, *inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        # The count belongs to the process, so another program may have changed it.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        try:
            # Optimizing means compiling again for the sizes that were seen: seconds and gigabytes.
            with torch.inference_mode(), torch.jit.optimized_execution(False):
                outputs = self._module(*map(torch.from_numpy, inputs))
            if not isinstance(outputs, tuple) or len(outputs) != self._outputs:
                raise ValueError(f"it gave no tuple of {self._outputs} tensors")
            return [output.numpy() for output in outputs]
        except Exception as error:
            raise BackendError(f"torch failed in a step: {_reason(error)}") from error


def _check_archive(program: bytes) -> None:
    """Refuse an archive that grows when it is unpacked; torch itself unpacks whatever comes."""
    try:
        with zipfile.ZipFile(io.BytesIO(program)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BackendError(
            f"the TorchScript program is not an archive ({error}); export the package again"
        ) from error
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    inflated = sum(member.file_size for member in members)
    if packed or inflated > len(program):
        found = f"{packed[0]!r} is compressed" if packed else f"it unpacks to {inflated} bytes"
        raise BackendError(
            f"the TorchScript program must be an archive of stored files no larger than itself: "
            f"{found}; export the package again"
        )


def _reason(error: Exception) -> str:
    """The last line that says something: torch puts the cause below its own stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else repr(error)
