"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edge_asr.backends import (
    Decoder,
    DecoderScores,
    Encoder,
    EncoderStep,
    FloatArray,
    IntArray,
    State,
)
from edge_asr.backends.onnx_guard import ALLOWED_DOMAINS, OUR_DOMAIN, check_onnx
from edge_asr.errors import BackendError
from edge_asr.package.manifest import DecoderSpec, EncoderSpec

_DTYPES = {"float32": "tensor(float)", "int64": "tensor(int64)"}


def open_encoder(program: bytes, spec: EncoderSpec, threads: int) -> Encoder:
    """Load an ONNX encoder.

    Raises:
        BackendError: it reaches outside its bytes, is refused by the library, or its inputs and
            outputs are not those of ``spec``.
    """
    session = open_session(program, threads)
    _check_encoder(session, spec)
    return OnnxEncoder(session, spec)


def open_decoder(program: bytes, spec: DecoderSpec, threads: int) -> Decoder:
    """Load an ONNX decoder.

    Raises:
        BackendError: it reaches outside its bytes, is refused by the library, or its inputs and
            outputs are not those of a decoder.
    """
    session = open_session(program, threads)
    _check_decoder(session)
    return OnnxDecoder(session)


def register_operators(operators: Path) -> None:
    """See ``backends.register_operators``."""
    _operators.add(operators)


_operators: set[Path] = set()


def open_session(program: bytes, threads: int) -> Any:
    """An InferenceSession of a checked program.

    Raises:
        BackendError: the program reaches outside its bytes, or is refused by the library.
    """
    check_onnx(program, ALLOWED_DOMAINS | {OUR_DOMAIN} if _operators else ALLOWED_DOMAINS)
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
    for operators in _operators:
        try:
            options.register_custom_ops_library(str(operators))
        except Exception as error:  # the library has no common base for its errors
            raise BackendError(
                f"onnxruntime {onnxruntime.__version__} refuses {operators.name}: "
                f"{_first_line(error)}; run: make native"
            ) from error
    try:
        return onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has no common base for its errors
        raise BackendError(
            f"onnxruntime {onnxruntime.__version__} refuses the program: {_first_line(error)}; "
            "export the package again"
        ) from error


class OnnxEncoder:
    """An encoder in an InferenceSession."""

    def __init__(self, session: Any, spec: EncoderSpec) -> None:
        self._session = session
        self._names = [tensor.name for tensor in spec.state]

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        inputs = {"feats": feats, "offset": np.array([offset], np.int64)}
        inputs.update(zip(self._names, state, strict=True))
        encoder_out, log_probs, *next_state = _run(self._session, inputs)
        return EncoderStep(encoder_out, log_probs, tuple(next_state))


class OnnxDecoder:
    """A decoder in an InferenceSession."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        """See ``Decoder``."""
        inputs = {"hyps": hyps, "hyp_lengths": hyp_lengths, "encoder_out": encoder_out}
        return DecoderScores(*_run(self._session, inputs))


def _run(session: Any, inputs: dict[str, Any]) -> list[Any]:
    try:
        outputs: list[Any] = session.run(None, inputs)
    except Exception as error:
        raise BackendError(f"onnxruntime failed in a step: {_first_line(error)}") from error
    return outputs


def _check_encoder(session: Any, spec: EncoderSpec) -> None:
    states = [tensor.name for tensor in spec.state]
    _compare_names(
        session,
        ["feats", "offset", *states],
        ["encoder_out", "log_probs", *(f"next_{name}" for name in states)],
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


def _check_decoder(session: Any) -> None:
    _compare_names(session, ["hyps", "hyp_lengths", "encoder_out"], ["left_scores", "right_scores"])
    floats, integers = _DTYPES["float32"], _DTYPES["int64"]
    _compare(
        "types of the inputs", [integers, integers, floats], [i.type for i in session.get_inputs()]
    )
    _compare("types of the outputs", [floats, floats], [o.type for o in session.get_outputs()])


def _compare_names(session: Any, inputs: list[str], outputs: list[str]) -> None:
    _compare("inputs", inputs, [given.name for given in session.get_inputs()])
    _compare("outputs", outputs, [output.name for output in session.get_outputs()])


def _compare(what: str, wanted: list[Any], found: list[Any]) -> None:
    if wanted != found:
        raise BackendError(
            f"the ONNX program does not fit the manifest: {what}: expected {wanted}, "
            f"found {found}; export the package again"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
