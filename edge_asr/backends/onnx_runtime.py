"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge_asr.backends.onnx_guard import ALLOWED_DOMAINS, OUR_DOMAIN, check_onnx
from edge_asr.backends.program import Arrays, Declared, refusal
from edge_asr.backends.table import BAD_ONNXRUNTIME

_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}
_LIBRARY = f"onnxruntime {onnxruntime.__version__}"
_operators: set[Path] = set()


def load_method(program: bytes, threads: int) -> OnnxMethod:
    """See ``program.LoadMethod``.

    Raises:
        BackendError: the program reaches outside its bytes, or is refused by the library.
    """
    return OnnxMethod(open_session(program, threads))


def register_operators(operators: Path) -> None:
    """See ``backends.register_operators``."""
    _add_operators(
        onnxruntime.SessionOptions(), operators
    )  # no session comes to know those that fail
    _operators.add(operators)


class OnnxMethod:
    """See ``program.Method``."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = [_declared(given) for given in session.get_inputs()]
        self.outputs = [_declared(returned) for returned in session.get_outputs()]

    def run(self, arrays: Arrays) -> Arrays:
        """See ``program.Method``."""
        names = (given.name for given in self.inputs)
        outputs: list[npt.NDArray[np.generic]] = self._session.run(
            None, dict(zip(names, arrays, strict=True))
        )
        return outputs


def _declared(side: Any) -> Declared:
    # A size that the graph leaves open is a name or None.
    sizes = tuple(size if isinstance(size, int) else None for size in side.shape)
    return Declared(side.name, _DTYPES.get(side.type, side.type), sizes)


def open_session(program: bytes, threads: int) -> Any:
    """An InferenceSession of a checked program.

    Raises:
        BackendError: the program reaches outside its bytes, or is refused by the library; the
            library is of a version that ends the process.
    """
    BAD_ONNXRUNTIME.refuse(onnxruntime.__version__)
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
        _add_operators(options, operators)
    with refusal(_LIBRARY):
        return onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])


def _add_operators(options: Any, operators: Path) -> None:
    with refusal(_LIBRARY, operators.name, cure="run: make native"):
        options.register_custom_ops_library(str(operators))
