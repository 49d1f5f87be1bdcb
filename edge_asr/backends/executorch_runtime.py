"""ExecuTorch.

A damaged program can crash the process in spite of the verification; the checksums of the
package are what keeps damage out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from edge_asr.backends import DecoderScores, EncoderStep, FloatArray, IntArray, State
from edge_asr.backends.executorch_binding import Arrays, Method, choose_binding, open_operators
from edge_asr.errors import BackendError
from edge_asr.package.manifest import DecoderSpec, EncoderSpec

_load = choose_binding()


def open_encoder(program: bytes, spec: EncoderSpec, threads: int) -> ExecuTorchEncoder:
    """Load an ExecuTorch encoder.

    Raises:
        BackendError: the library refuses it, or its inputs and outputs are not those of
            ``spec``.
    """
    method = _open(program, threads)
    _check_encoder(method, spec)
    return ExecuTorchEncoder(method)


def open_decoder(program: bytes, spec: DecoderSpec, threads: int) -> ExecuTorchDecoder:
    """Load an ExecuTorch decoder.

    Raises:
        BackendError: the library refuses it, or its inputs and outputs are not those of
            ``spec``.
    """
    method = _open(program, threads)
    _check_decoder(method, spec)
    return ExecuTorchDecoder(method)


def _open(program: bytes, threads: int) -> Method:
    try:
        return _load(program, threads)
    except Exception as error:  # the library has no common base for its errors
        raise BackendError(
            f"executorch refuses the program: {_reason(error)}; export the package again"
        ) from error


def register_operators(operators: Path) -> None:
    """See ``backends.register_operators``."""
    try:
        open_operators(operators)
    except ImportError as error:
        raise BackendError(
            f"{operators.name} cannot be opened ({error}); run: make native"
        ) from error


class ExecuTorchEncoder:
    """An encoder in an ExecuTorch method."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        outputs = _run(self._method, (feats, np.array([offset], np.int64), *state))
        encoder_out, log_probs, *next_state = outputs
        return EncoderStep(
            cast(FloatArray, encoder_out), cast(FloatArray, log_probs), tuple(next_state)
        )


class ExecuTorchDecoder:
    """A decoder in an ExecuTorch method."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        """See ``Decoder``."""
        left, right = _run(self._method, (hyps, hyp_lengths, encoder_out))
        return DecoderScores(cast(FloatArray, left), cast(FloatArray, right))


def _run(method: Method, arrays: Arrays) -> Arrays:
    try:
        return method.run(arrays)
    except Exception as error:
        raise BackendError(f"executorch failed in a step: {_reason(error)}") from error


def _check_encoder(method: Method, spec: EncoderSpec) -> None:
    _check_counts(method, 2 + len(spec.state), 2 + len(spec.state))
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


def _check_decoder(method: Method, spec: DecoderSpec) -> None:
    _check_counts(method, 3, 2)
    for name, dtype, largest, declared in zip(
        ("hyps", "hyp_lengths", "encoder_out"),
        ("int64", "int64", "float32"),
        ([spec.max_hyps, spec.max_units], [spec.max_hyps], [1, spec.max_frames]),
        method.inputs,
        strict=True,
    ):
        _compare(f"largest {name}", [dtype, *largest], [declared.dtype, *declared.sizes[:2]])
    scores = [output.dtype for output in method.outputs]
    _compare("types of the scores", ["float32", "float32"], scores)


def _check_counts(method: Method, inputs: int, outputs: int) -> None:
    counts = [len(method.inputs), len(method.outputs)]
    _compare("numbers of inputs and outputs", [inputs, outputs], counts)


def _compare(what: str, wanted: Sequence[object], found: Sequence[object]) -> None:
    if wanted != found:
        raise BackendError(
            f"the ExecuTorch program does not fit the manifest: {what}: expected {wanted}, "
            f"found {found}; export the package again"
        )


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
