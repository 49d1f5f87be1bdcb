"""ExecuTorch through its Python binding, which brings torch along.

A damaged program can crash the process in spite of the verification; the checksums of the
package are what keeps damage out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from edge_asr.backends import Encoder, EncoderStep, FloatArray, State
from edge_asr.errors import BackendError
from edge_asr.manifest import EncoderSpec

_disabled = logging.root.manager.disable
logging.disable(logging.WARNING)  # torchao, on parts of itself for other machines
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on its own experimental state
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime, Verification
finally:
    logging.disable(_disabled)

_DTYPES = {"float32": 6, "int64": 4}  # ScalarType


def open_encoder(program: bytes, spec: EncoderSpec, threads: int) -> Encoder:
    """Load an ExecuTorch encoder.

    Raises:
        BackendError: the library refuses it, or its inputs and outputs are not those of
            ``spec``.
    """
    # One pool serves the process: the last encoder opened decides. There is no other call.
    try:
        with _quiet_stderr():
            portable_lib._unsafe_reset_threadpool(threads)
            runtime = Runtime.get()
            loaded = runtime.load_program(program, verification=Verification.InternalConsistency)
            method = loaded.load_method("forward")
        if method is None:
            raise KeyError("forward")
        metadata = method.metadata
    except Exception as error:  # the library has no common base for its errors
        raise BackendError(
            f"executorch refuses the program: {_reason(error)}; export the package again"
        ) from error
    _check_interface(metadata, spec)
    return ExecuTorchEncoder(loaded, method)


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep the library from listing there each file about the processor that it looked for.

    What goes wrong comes as an exception.
    """
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class ExecuTorchEncoder:
    """An encoder in an ExecuTorch method."""

    def __init__(self, program: Any, method: Any) -> None:
        self._program = program  # owns the bytes that the method reads
        self._method = method

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        inputs = (feats, np.array([offset], np.int64), *state)
        try:
            # The binding takes dense tensors only; a feature window is a view.
            outputs = self._method.execute(
                [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs]
            )
            encoder_out, log_probs, *next_state = (output.numpy() for output in outputs)
        except Exception as error:
            raise BackendError(f"executorch failed in a step: {_reason(error)}") from error
        return EncoderStep(encoder_out, log_probs, tuple(next_state))


def _check_interface(metadata: Any, spec: EncoderSpec) -> None:
    counts = [metadata.num_inputs(), metadata.num_outputs()]
    _compare("numbers of inputs and outputs", [2 + len(spec.state)] * 2, counts)
    for index, tensor in enumerate(spec.state, start=2):
        for side, info in (
            ("input", metadata.input_tensor_meta(index)),
            ("output", metadata.output_tensor_meta(index)),
        ):
            _compare(
                f"{side} {tensor.name}",
                [_DTYPES[tensor.dtype], *tensor.shape],
                [info.dtype(), *info.sizes()],
            )
    # A size that varies is declared by its upper bound.
    _compare(
        "longest feats",
        [1, spec.input_frames(spec.max_chunk)],
        list(metadata.input_tensor_meta(0).sizes()[:2]),
    )


def _compare(what: str, wanted: list[int], found: list[int]) -> None:
    if wanted != found:
        raise BackendError(
            f"the ExecuTorch program does not fit the manifest: {what}: expected {wanted}, "
            f"found {found}; export the package again"
        )


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
