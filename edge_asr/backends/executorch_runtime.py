"""ExecuTorch.

A damaged program can crash the process in spite of the verification; the checksums of the
package are what keeps damage out.
"""

from __future__ import annotations

from pathlib import Path

from edge_asr.backends.executorch_binding import choose_binding, open_operators
from edge_asr.backends.program import Method, refusal
from edge_asr.errors import BackendError

_load = choose_binding()


def load_method(program: bytes, threads: int) -> Method:
    """See ``program.LoadMethod``.

    Raises:
        BackendError: the library refuses the program.
    """
    with refusal("executorch"):
        return _load(program, threads)


def register_operators(operators: Path) -> None:
    """See ``backends.register_operators``."""
    try:
        open_operators(operators)
    except ImportError as error:
        raise BackendError(
            f"{operators.name} cannot be opened ({error}); run: make native"
        ) from error
