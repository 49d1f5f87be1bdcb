"""ExecuTorch.

A damaged program can crash the process in spite of the verification; the checksums of the
package are what keeps damage out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from edge_asr.backends import EncoderStep, FloatArray, State
from edge_asr.backends.executorch_binding import Method, choose_binding
from edge_asr.errors import BackendError
from edge_asr.manifest import EncoderSpec

_load = choose_binding()


def open_encoder(program: bytes, spec: EncoderSpec, threads: int) -> ExecuTorchEncoder:
    """Load an ExecuTorch encoder.

    Raises:
        BackendError: the library refuses it, or its inputs and outputs are not those of
            ``spec``.
    """
    try:
        method = _load(program, threads)
    except Exception as error:  # the library has no common base for its errors
        raise BackendError(
            f"executorch refuses the program: {_reason(error)}; export the package again"
        ) from error
    _check_interface(method, spec)
    return ExecuTorchEncoder(method)


class ExecuTorchEncoder:
    """An encoder in an ExecuTorch method."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        try:
            outputs = self._method.run((feats, np.array([offset], np.int64), *state))
        except Exception as error:
            raise BackendError(f"executorch failed in a step: {_reason(error)}") from error
        encoder_out, log_probs, *next_state = outputs
        return EncoderStep(
            cast(FloatArray, encoder_out), cast(FloatArray, log_probs), tuple(next_state)
        )


def _check_interface(method: Method, spec: EncoderSpec) -> None:
    counts = [len(method.inputs), len(method.outputs)]
    _compare("numbers of inputs and outputs", [2 + len(spec.state)] * 2, counts)
    for index, tensor in enumerate(spec.state, start=2):
        for side, declared in (("input", method.inputs), ("output", method.outputs)):
            _compare(
                f"{side} {tensor.name}",
                [tensor.dtype, *tensor.shape],
                [declared[index].dtype, *declared[index].sizes],
            )
    # A size that varies is declared by its upper bound.
    _compare(
        "longest feats",
        [1, spec.input_frames(spec.max_chunk)],
        list(method.inputs[0].sizes[:2]),
    )


def _compare(what: str, wanted: Sequence[object], found: Sequence[object]) -> None:
    if wanted != found:
        raise BackendError(
            f"the ExecuTorch program does not fit the manifest: {what}: expected {wanted}, "
            f"found {found}; export the package again"
        )


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
