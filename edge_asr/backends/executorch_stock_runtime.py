"""ExecuTorch through the Python binding of its package, which brings torch along.

A damaged program can crash the process in spite of the verification; the checksums of the
package are what keeps damage out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from edge_asr.backends.program import Arrays, Declared

_disabled = logging.root.manager.disable
logging.disable(logging.WARNING)  # torchao, on parts of itself for other machines
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on its own experimental state
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime, Verification
finally:
    logging.disable(_disabled)

_DTYPES = {6: "float32", 4: "int64"}  # ScalarType


class StockMethod:
    """See ``program.Method``."""

    def __init__(self, program: Any, method: Any) -> None:
        self._program = program  # owns the bytes that the method reads
        self._method = method
        meta = method.metadata
        self.inputs = [_declared(meta.input_tensor_meta(n)) for n in range(meta.num_inputs())]
        self.outputs = [_declared(meta.output_tensor_meta(n)) for n in range(meta.num_outputs())]

    def run(self, arrays: Arrays) -> Arrays:
        """See ``program.Method``."""
        # The binding takes dense tensors only; a feature window is a view.
        inputs = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        return [output.numpy() for output in self._method.execute(inputs)]


_loaded: weakref.WeakSet[StockMethod] = weakref.WeakSet()


def load(program: bytes, threads: int) -> StockMethod:
    """See ``program.LoadMethod``.

    All programs share one pool of threads. The first one decides on their number: a new pool
    under a loaded program ends the process.
    """
    with _quiet_stderr():
        if not _loaded:
            portable_lib._unsafe_reset_threadpool(threads)
        loaded = Runtime.get().load_program(program, verification=Verification.InternalConsistency)
        found = loaded.load_method("forward")
    if found is None:
        raise KeyError("forward")
    method = StockMethod(loaded, found)
    _loaded.add(method)
    return method


def _declared(info: Any) -> Declared:
    return Declared(dtype=_DTYPES.get(info.dtype(), "unknown"), sizes=tuple(info.sizes()))


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
