"""Programs out of a network: one role at one precision, lowered to every backend and dispatch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from edge_asr.backends import find_backend
from edge_asr.errors import BackendError, UsageError
from edge_asr.native.library import BUILD, NativeWeights, library
from edge_asr.package.manifest import BackendName, Dispatch, Precision
from edge_asr.package.writer import NewProgram
from edge_asr.programs.loading import load_operators, missing_library
from export.lowerings import lowering
from export.native import native
from export.program import Interface
from quant.linear4 import QuantLinear4

# What each precision can be lowered to.
DISPATCHES: dict[Precision, tuple[Dispatch, ...]] = {
    "fp32": ("portable",),
    "int8": ("portable", "native"),
    "int4": ("native",),
}


@dataclass(frozen=True)
class Built:
    """A program, and what it needs beside it."""

    program: NewProgram
    weights: bytes | None = None
    loaded: NativeWeights | None = None  # keeps the weights in memory while it is verified


def check_dispatches(precisions: Sequence[Precision], dispatches: Sequence[Dispatch]) -> None:
    """Raise UsageError where a precision would get no program."""
    for precision in precisions:
        if not set(DISPATCHES[precision]) & set(dispatches):
            raise UsageError(
                f"--precision {precision} has {' and '.join(DISPATCHES[precision])} programs only; "
                "change --dispatch"
            )


def check_native(backends: Sequence[BackendName], dispatches: Sequence[Dispatch]) -> None:
    """Refuse native programs that cannot be made, minutes before ``build_programs`` would.

    Raises:
        UsageError: a backend has no native operators.
        BackendError: they are not built.
    """
    if "native" not in dispatches:
        return
    # torch's library too, whatever the backend: the exporter traces with it.
    for backend in (*backends, "torchscript"):
        if find_backend(backend).operator_library is None:
            raise UsageError(f"{backend} has portable programs only; change --dispatch")
        if missing := missing_library(backend):
            raise BackendError(f"native programs need {missing}, which is not built; {BUILD}")


def build_programs(
    module: nn.Module,
    interface: Interface,
    precision: Precision,
    backends: Sequence[BackendName],
    dispatches: Sequence[Dispatch],
) -> Iterator[Built]:
    """Every program of a role, ready to be opened.

    Raises:
        BackendError: native programs are asked for, and the native libraries are not built.
    """
    for dispatch in dispatches:
        if dispatch not in DISPATCHES[precision]:
            continue
        if dispatch == "portable":
            for backend in backends:
                data, ending = _lower(module, interface, backend)
                file = f"{interface.role}.{precision}.{ending}"
                yield Built(NewProgram(interface.role, backend, precision, file, data))
            continue
        lowered = native(module)
        weights = f"{interface.role}.{precision}.weights"
        group = next((m.group for m in module.modules() if isinstance(m, QuantLinear4)), None)
        library().edge_asr_set_threads(1)
        for backend in backends:
            load_operators(backend)
            data, ending = _lower(lowered.program, interface, backend)
            file = f"{interface.role}.{precision}.native.{ending}"
            program = NewProgram(
                interface.role, backend, precision, file, data, lowered.native_ops, weights, group
            )
            yield Built(program, lowered.weights, lowered.loaded)


def _lower(module: nn.Module, interface: Interface, backend: BackendName) -> tuple[bytes, str]:
    lower, ending = lowering(backend)
    return lower(module.eval(), interface), ending
