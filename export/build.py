"""Programs out of a network: one role at one precision, lowered to every backend and dispatch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from edge_asr.backends import find_backend
from edge_asr.errors import BackendError, UsageError
from edge_asr.native.library import BUILD, NativeWeights, library
from edge_asr.package.manifest import BackendName, Dispatch, Precision, Role
from edge_asr.package.stripped import strip
from edge_asr.package.writer import NewProgram
from edge_asr.programs.loading import load_operators, missing_library
from export.lowerings import lowering
from export.native import PackedProgram, load, pack
from export.program import Interface
from export.stripping import find_inserts
from export.verify_weights import verify_inserts, verify_weights
from quant.linear4 import QuantLinear4

# What each precision can be lowered to.
DISPATCHES: dict[Precision, tuple[Dispatch, ...]] = {
    "fp32": ("portable",),
    "int8": ("portable", "native"),
    "int4": ("native",),
}


Kind = tuple[Role, BackendName, Precision]


@dataclass(frozen=True)
class Built:
    """A program, and what it needs beside it.

    Attributes:
        program: as the package has it, without its integers where these are in a file.
        data: as its backend reads it.
    """

    program: NewProgram
    data: bytes
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
        ParityError: a weight is not that of the network.
    """
    packed = pack(module) if "native" in DISPATCHES[precision] else None
    if packed is not None:
        verify_weights(
            packed.file.data, packed.file.layers, f"{interface.role}.{precision}.weights"
        )
    for dispatch in dispatches:
        if dispatch not in DISPATCHES[precision]:
            continue
        for backend in backends:
            kind = interface.role, backend, precision
            if dispatch == "native" and packed is not None:
                yield _native(module, packed, interface, kind)
            else:
                yield _portable(module, packed, interface, kind)


def _portable(
    module: nn.Module, packed: PackedProgram | None, interface: Interface, kind: Kind
) -> Built:
    data, ending = _lower(module, interface, kind[1])
    file = f"{_stem(kind)}.{ending}"
    if packed is None:
        return Built(NewProgram(*kind, file, data), data)
    inserts = find_inserts(data, packed.file)
    verify_inserts(data, inserts, packed.file, file)
    stored = strip(data, inserts, packed.file.sha256)
    program = NewProgram(*kind, file, stored, weights=f"{_stem(kind)}.weights")
    return Built(program, data, packed.file.data)


def _native(module: nn.Module, packed: PackedProgram, interface: Interface, kind: Kind) -> Built:
    library().edge_asr_set_threads(1)
    load_operators(kind[1])
    loaded = load(packed)
    data, ending = _lower(packed.program, interface, kind[1])
    group = next((m.group for m in module.modules() if isinstance(m, QuantLinear4)), None)
    stem = _stem(kind)
    program = NewProgram(
        *kind, f"{stem}.native.{ending}", data, packed.native_ops, f"{stem}.weights", group
    )
    return Built(program, data, packed.file.data, loaded)


def _stem(kind: Kind) -> str:
    role, _, precision = kind
    return f"{role}.{precision}"


def _lower(module: nn.Module, interface: Interface, backend: BackendName) -> tuple[bytes, str]:
    lower, ending = lowering(backend)
    return lower(module.eval(), interface), ending
