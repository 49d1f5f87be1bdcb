"""The kernels in Python: weights in memory, levers, counters; see src/edge_asr_native.h.

Everything here is optional. Where the library is not built, packages run their portable programs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_asr.errors import BackendError, check_number

FOLDER = Path(__file__).parent
ABI = 1
BUILD = "build them with: make native"
PLAIN_KERNEL = "portable"  # C++ without vector instructions, for any processor

MAX_EXPERTS = 64
_BELOW_1 = 1 - 2**-24  # in float32, which kernels compute in
MAX_RANK = 8
MAX_TENSORS = 8

_I64 = ctypes.c_int64
_TEXT = ctypes.c_char_p


class _Tensor(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("rank", _I64), ("shape", _I64 * MAX_RANK))


_TENSORS = ctypes.POINTER(_Tensor)
_CALL = [_I64, _I64, _TENSORS, ctypes.c_int, _TENSORS, ctypes.c_int]
# name -> (result, arguments)
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "abi": (ctypes.c_int, []),
    "error": (_TEXT, []),
    "allocate": (ctypes.c_void_p, [ctypes.c_size_t]),
    "free": (None, [ctypes.c_void_p, ctypes.c_size_t]),
    "load": (ctypes.c_int, [_I64, ctypes.c_void_p, ctypes.c_size_t]),
    "unload": (None, [_I64]),
    "set_levers": (ctypes.c_int, [_I64, ctypes.c_int, ctypes.c_float, ctypes.c_int]),
    "counters": (ctypes.c_int, [_I64, ctypes.POINTER(_I64)]),
    "operator": (
        ctypes.c_int,
        [_TEXT, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)],
    ),
    "shapes": (ctypes.c_int, _CALL),
    "run": (ctypes.c_int, _CALL),
    "set_threads": (None, [ctypes.c_int]),
    "threads": (ctypes.c_int, []),
    "kernel": (_TEXT, []),
    "set_kernel": (ctypes.c_int, [_TEXT]),
    "kernel_name": (_TEXT, [ctypes.c_int]),
    "kernel_supported": (ctypes.c_int, [ctypes.c_int]),
    "read_bandwidth": (ctypes.c_double, [ctypes.c_size_t, ctypes.c_int]),
    "int8_peak": (ctypes.c_double, []),
}


@dataclass(frozen=True)
class Levers:
    """Less work than the model was trained with; see src/moe_ffn.h. The default changes nothing.

    Attributes:
        top_k: experts of a frame; 0 for as many as trained.
        min_weight: an expert beyond the first is left out where its weight is smaller.
        max_experts: experts of a step, those with the largest summed weights; 0 for all.

    Raises:
        UsageError: a count that is no whole number from 0 to 64, or a weight that is not from 0 to
            below 1.
    """

    top_k: int = 0
    min_weight: float = 0.0
    max_experts: int = 0

    def __post_init__(self) -> None:
        for name in ("top_k", "max_experts"):
            value = getattr(self, name)
            check_number(name, value, 0, MAX_EXPERTS, f"0 to {MAX_EXPERTS}", whole=True)
        check_number("min_weight", self.min_weight, 0, _BELOW_1, "0 to below 1")


@dataclass(frozen=True)
class Counters:
    """Work of the expert layers: calls, rows in them, (row, expert) pairs, experts touched."""

    calls: int
    rows: int
    pairs: int
    experts: int


def library_path(name: str) -> Path:
    """Where the shared library ``libedge_asr_<name>.so`` is, if it is built."""
    return FOLDER / f"libedge_asr_{name}.so"


def built(name: str = "kernels") -> bool:
    """Whether that library was built."""
    return library_path(name).is_file()


@cache
def library() -> ctypes.CDLL:
    """The opened library of kernels.

    Raises:
        BackendError: it is not built, or is of another version.
    """
    path = library_path("kernels")
    try:
        opened = ctypes.CDLL(str(path))
    except OSError as error:
        reason = "are not built" if not path.exists() else f"cannot be opened ({error})"
        raise BackendError(f"{path.name}: the native kernels {reason}; {BUILD}") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        try:
            function = getattr(opened, f"edge_asr_{name}")
        except AttributeError as error:
            raise BackendError(f"{path.name}: has no {name}; {BUILD}") from error
        function.restype, function.argtypes = result, arguments
    found = opened.edge_asr_abi()
    if found != ABI:
        raise BackendError(f"{path.name}: of version {found}, {ABI} is needed; {BUILD}")
    return opened


def check_operators(name: str) -> None:
    """Whether the library of operators ``name``, which its backend has opened, fits the kernels.

    Raises:
        BackendError: it is of another version.
    """
    path = library_path(name)
    try:
        found = ctypes.CDLL(str(path)).edge_asr_operators_abi()
    except (OSError, AttributeError) as error:
        raise BackendError(f"{path.name}: of a version before {ABI}; {BUILD}") from error
    if found != ABI:
        raise BackendError(f"{path.name}: of version {found}, {ABI} is needed; {BUILD}")


def kernels() -> dict[str, bool]:
    """The instruction sets of this build, fastest first, and whether they can run here."""
    found: dict[str, bool] = {}
    while (name := library().edge_asr_kernel_name(len(found))) is not None:
        found[name.decode()] = bool(library().edge_asr_kernel_supported(len(found)))
    return found


def running_kernel() -> str:
    """The instruction set that runs here, one of ``kernels``."""
    name: bytes = library().edge_asr_kernel()
    return name.decode()


def weights_id(sha256: str) -> int:
    """The number by which a program names its weights: the first bytes of their checksum."""
    return int.from_bytes(bytes.fromhex(sha256[:16]), "big", signed=True)


def names_weights(program: bytes, number: int) -> bool:
    """Whether a program of any backend holds that number: as a varint in ONNX, as eight bytes in
    ExecuTorch, as decimal digits in TorchScript."""
    rest, varint = number & 0xFFFF_FFFF_FFFF_FFFF, bytearray()
    while rest >= 0x80:
        varint.append(rest & 0x7F | 0x80)
        rest >>= 7
    varint.append(rest)
    forms = bytes(varint), number.to_bytes(8, "little", signed=True), str(number).encode()
    return any(form in program for form in forms)


class NativeWeights:
    """A file of weights in memory, which the programs that carry its number use."""

    def __init__(self, number: int, size: int, read: Callable[[memoryview], None]) -> None:
        opened = library()
        memory = opened.edge_asr_allocate(size)
        if not memory:
            raise BackendError(f"no memory for {size} bytes of native weights; free some")
        try:
            read(memoryview((ctypes.c_uint8 * size).from_address(memory)).cast("B"))
        except BaseException:
            opened.edge_asr_free(memory, size)
            raise
        # Not under that try: after an interrupt in here the kernels may have the memory already.
        owner = _load(number, memory, size)
        self.number = number
        self.size = size
        self._levers = Levers()
        weakref.finalize(self, _unload, number, owner)

    def set_levers(self, levers: Levers) -> None:
        """From now on, for all streams.

        Raises:
            BackendError: the kernels refuse them.
        """
        with _lock:
            _check(
                library().edge_asr_set_levers(
                    self.number, levers.top_k, levers.min_weight, levers.max_experts
                )
            )
            self._levers = levers

    @contextlib.contextmanager
    def as_trained(self) -> Iterator[None]:
        """Without levers inside, for other threads too, and after it with those of before."""
        with _lock:
            before = self._levers
            self.set_levers(Levers())
            try:
                yield
            finally:
                self.set_levers(before)

    def counters(self) -> Counters:
        """What was done since the last call."""
        four = (_I64 * 4)()
        _check(library().edge_asr_counters(self.number, four))
        return Counters(*four)

    def shapes(
        self, layer: int, inputs: Sequence[Sequence[int]], outputs: int
    ) -> list[tuple[int, ...]]:
        """The shapes of a layer's outputs for inputs of these shapes.

        Raises:
            BackendError: there is no such layer, or it takes other inputs.
        """
        return output_shapes(self.number, layer, inputs, outputs)

    def run(
        self, layer: int, *inputs: npt.NDArray[np.float32], outputs: int = 1
    ) -> list[npt.NDArray[np.float32]]:
        """One layer; see src/blocks.h for the shapes of its inputs and outputs.

        Raises:
            BackendError: there is no such layer, or it takes other inputs.
        """
        arrays = [np.ascontiguousarray(array, np.float32) for array in inputs]
        results = [
            np.empty(shape, np.float32)
            for shape in self.shapes(layer, [array.shape for array in arrays], outputs)
        ]
        given, taken = _describe(arrays), _describe(results)
        _check(library().edge_asr_run(self.number, layer, given, len(arrays), taken, len(results)))
        return results


def output_shapes(
    number: int, layer: int, inputs: Sequence[Sequence[int]], outputs: int
) -> list[tuple[int, ...]]:
    """See ``NativeWeights.shapes``; of the weights in memory under that number."""
    given, taken = (_Tensor * MAX_TENSORS)(), (_Tensor * MAX_TENSORS)()
    for tensor, shape in zip(given, inputs, strict=False):
        tensor.rank = len(shape)
        sizes = shape[:MAX_RANK]  # of more the kernels say that they are too many
        tensor.shape[: len(sizes)] = sizes
    _check(library().edge_asr_shapes(number, layer, given, len(inputs), taken, outputs))
    return [tuple(tensor.shape[: tensor.rank]) for tensor in taken[:outputs]]


def operator_counts(name: str) -> tuple[int, int]:
    """How many inputs and outputs the operator of that name has.

    Raises:
        BackendError: there is no such operator.
    """
    inputs, outputs = ctypes.c_int(), ctypes.c_int()
    _check(library().edge_asr_operator(name.encode(), inputs, outputs))
    return inputs.value, outputs.value


def _describe(arrays: Sequence[npt.NDArray[np.float32]]) -> Any:
    tensors = (_Tensor * MAX_TENSORS)()
    for tensor, array in zip(tensors, arrays, strict=False):
        tensor.data = array.ctypes.data
        tensor.rank = array.ndim
        tensor.shape[: array.ndim] = array.shape
    return tensors


_loaded: weakref.WeakValueDictionary[int, NativeWeights] = weakref.WeakValueDictionary()
_owners: dict[int, object] = {}
_lock = threading.RLock()  # a collection of garbage may unload while this thread holds it


def _renew_lock() -> None:
    """In a forked process: a thread that it does not have may have held the lock."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _load(number: int, memory: int, size: int) -> object:
    """Puts weights under a number, or frees their memory; whoever has the result may take them away
    again."""
    owner = object()
    with _lock:
        before = _owners.get(number)
        _owners[number] = owner  # first: from now on nobody unloads but this owner
        if library().edge_asr_load(number, memory, size) == 0:
            return owner
        if before is None:
            del _owners[number]
        else:
            _owners[number] = before
        refused = BackendError(_error())
        library().edge_asr_free(memory, size)
        raise refused


def _unload(number: int, owner: object) -> None:
    """Unless others came under that number since: those are theirs."""
    with _lock:
        if _owners.get(number) is owner:
            del _owners[number]
            library().edge_asr_unload(number)


def share_weights(number: int, size: int, read: Callable[[memoryview], None]) -> NativeWeights:
    """The weights of that number: those in memory, or ``read`` into it once.

    Raises:
        BackendError: the library is not built, or refuses them.
    """
    with _lock:
        weights = _loaded.get(number)
        if weights is None:
            weights = _loaded[number] = NativeWeights(number, size, read)
        return weights


def _check(result: int) -> None:
    if result != 0:
        raise BackendError(_error())


def _error() -> str:
    return str(library().edge_asr_error().decode(errors="replace"))
