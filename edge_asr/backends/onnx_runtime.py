"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from edge_asr.backends import Encoder, EncoderStep, FloatArray, State
from edge_asr.backends.onnx_guard import check_onnx
from edge_asr.errors import BackendError
from edge_asr.manifest import EncoderSpec

_DTYPES = {"float32": "tensor(float)", "int64": "tensor(int64)"}


def open_encoder(program: bytes, spec: EncoderSpec, threads: int) -> Encoder:
    """Load an ONNX encoder.

    Raises:
        BackendError: it reaches outside its bytes, is refused by the library, or its inputs and
            outputs are not those of ``spec``.
    """
    check_onnx(program)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they reach us as exceptions anyway
    # A spinning thread burns a core between two chunks.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without VNNI, AVX2 and AVX-512 add pairs of u8 x s8 products in 16 bits, which overflow.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Not ORT's own format, which the guard does not read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has no common base for its errors
        raise BackendError(
            f"onnxruntime {onnxruntime.__version__} refuses the program: {_first_line(error)}; "
            "export the package again"
        ) from error
    _check_interface(session, spec)
    return OnnxEncoder(session, spec)


class OnnxEncoder:
    """An encoder in an InferenceSession."""

    def __init__(self, session: Any, spec: EncoderSpec) -> None:
        self._session = session
        self._names = [tensor.name for tensor in spec.state]

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        inputs = {"feats": feats, "offset": np.array([offset], np.int64)}
        inputs.update(zip(self._names, state, strict=True))
        try:
            encoder_out, log_probs, *next_state = self._session.run(None, inputs)
        except Exception as error:
            raise BackendError(f"onnxruntime failed in a step: {_first_line(error)}") from error
        return EncoderStep(encoder_out, log_probs, tuple(next_state))


def _check_interface(session: Any, spec: EncoderSpec) -> None:
    states = [tensor.name for tensor in spec.state]
    _compare("inputs", ["feats", "offset", *states], [i.name for i in session.get_inputs()])
    _compare(
        "outputs",
        ["encoder_out", "log_probs", *(f"next_{name}" for name in states)],
        [output.name for output in session.get_outputs()],
    )
    sides = zip(spec.state, session.get_inputs()[2:], session.get_outputs()[2:], strict=True)
    for tensor, given, returned in sides:
        wanted = [_DTYPES[tensor.dtype], *tensor.shape]
        for side in (given, returned):
            sizes = list(side.shape)
            if len(sizes) == len(tensor.shape):
                # A size that the graph leaves open is a name or None; the golden run checks it.
                pairs = zip(sizes, tensor.shape, strict=True)
                sizes = [size if isinstance(size, int) else declared for size, declared in pairs]
            _compare(f"type of {side.name}", wanted, [side.type, *sizes])


def _compare(what: str, wanted: list[Any], found: list[Any]) -> None:
    if wanted != found:
        raise BackendError(
            f"the ONNX program does not fit the manifest: {what}: expected {wanted}, "
            f"found {found}; export the package again"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
