"""TorchScript on the CPU.

A TorchScript file is a program: it could read and write files from the moment it is loaded. Only
load one from a package whose manifest you trust; its bytes are pinned there.
"""

from __future__ import annotations

import contextlib
import io
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from edge_asr.backends.program import Arrays, Declared, refusal
from edge_asr.errors import BackendError


def load_method(program: bytes, threads: int) -> TorchScriptMethod:
    """See ``program.LoadMethod``.

    Raises:
        BackendError: its archive would inflate, or the library refuses it.
    """
    _check_archive(program)
    with refusal(f"torch {torch.__version__}"), _causes():
        return TorchScriptMethod(program, threads)


def register_operators(operators: Path) -> None:
    """See ``backends.register_operators``."""
    try:
        torch.ops.load_library(str(operators))
    except OSError as error:
        raise BackendError(
            f"{operators.name} does not fit torch {torch.__version__} ({_reason(error)}); "
            "run: make native"
        ) from error


class TorchScriptMethod:
    """See ``program.Method``. A ScriptModule from tensors to a tuple of tensors, with a number of
    threads of its own; what it gives is known only after a run."""

    outputs = None

    def __init__(self, program: bytes, threads: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pinned, so that it may be old
            module = torch.jit.load(io.BytesIO(program), map_location="cpu")
        arguments = module.forward.schema.arguments[1:]  # without self
        self.inputs = [Declared()] * len(arguments)
        self._module = module.eval()
        self._threads = threads

    def run(self, arrays: Arrays) -> Arrays:
        """See ``program.Method``."""
        # The count belongs to the process, so another program may have changed it.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        # Optimizing means compiling again for the sizes that were seen: seconds and gigabytes.
        with _causes(), torch.inference_mode(), torch.jit.optimized_execution(False):
            outputs = self._module(*map(torch.from_numpy, arrays))
            found = outputs if isinstance(outputs, tuple) else (outputs,)
            return [output.numpy() for output in found]


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


@contextlib.contextmanager
def _causes() -> Iterator[None]:
    """Let an error say its reason alone."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The last line that says something: torch puts the cause below its own stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else repr(error)
