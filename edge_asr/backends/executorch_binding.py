"""The way to ExecuTorch: our binding where it is built, else the package's own with torch.

Ours stands on the shared libraries that the package ships, and on no part of its Python.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_asr.backends.program import Arrays, Declared, LoadMethod, Method

_BINDING = "edge_asr.native._executorch"
_RUNTIME = "libexecutorch.so"
# What exported programs compute with. Each registers its operators as it is opened, once in a
# process. The quantized kernels are not among them: no program needs them outside of XNNPACK, the
# package's own binding has none, and its exporter brings a second copy, which ends the process.
_KERNELS = (
    "libexecutorch_threadpool.so",
    "libexecutorch_kernels_optimized.so",
    "libexecutorch_backend_xnnpack.so",
)


def choose_binding() -> LoadMethod:
    """Our binding, or the package's own where ours cannot be used.

    Raises:
        ImportError: neither can be used; its name is what is not installed.
    """
    folder = library_folder()
    try:
        native = open_native(folder)
    except ImportError:
        if importlib.util.find_spec("torch") is None:
            raise ModuleNotFoundError("torch is not installed", name="torch") from None
        stock: LoadMethod = importlib.import_module(
            "edge_asr.backends.executorch_stock_runtime"
        ).load
        return stock

    def load(program: bytes, threads: int) -> Method:
        return _NativeMethod(native.Method(program, "forward", threads))

    return load


class _NativeMethod:
    """See ``program.Method``; a size that varies is declared by its upper bound."""

    def __init__(self, method: Any) -> None:
        self._method = method
        self.inputs, self.outputs = (
            [Declared(dtype=declared.dtype, sizes=declared.sizes) for declared in side]
            for side in (method.inputs, method.outputs)
        )

    def run(self, arrays: Arrays) -> Arrays:
        """See ``program.Method``."""
        outputs: Arrays = self._method.run(arrays)
        return outputs


def library_folder() -> Path:
    """Where the installed executorch package keeps its shared libraries; imports nothing of it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = importlib.util.find_spec("executorch")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        # A folder of that name anywhere on the path is part of the package: it has no __init__.
        if (folder := Path(place) / "lib").joinpath(_RUNTIME).is_file():
            return folder
    if spec is None:
        raise ModuleNotFoundError("executorch is not installed", name="executorch")
    raise ImportError(f"executorch is without {_RUNTIME}", name="executorch")


def open_native(folder: Path) -> ModuleType:
    """Our extension module, on the libraries in ``folder``.

    Raises:
        ImportError: it is not built, or was built for another executorch.
    """
    if importlib.util.find_spec(_BINDING) is None:
        raise ImportError("not built; run: make native", name=_BINDING)
    try:
        # Operators of other libraries register in this one. The rest stays private: torch has
        # functions of the same names.
        ctypes.CDLL(str(folder / _RUNTIME), mode=ctypes.RTLD_GLOBAL)
        for library in _KERNELS:
            ctypes.CDLL(str(folder / library), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise ImportError(f"executorch cannot be opened: {error}", name="executorch") from error
    native: Any = importlib.import_module(_BINDING)
    if native.BUILT_FOR != (found := _installed_version()):
        raise ImportError(
            f"built for executorch {native.BUILT_FOR}, found {found}; run: make native",
            name=_BINDING,
        )
    module: ModuleType = native
    return module


def open_operators(library: Path) -> None:
    """Register the operators in a library of ours, for programs loaded after, by either binding.

    Raises:
        ImportError: it or executorch cannot be opened.
    """
    try:
        ctypes.CDLL(str(library_folder() / _RUNTIME), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise ImportError(f"{library.name} cannot be opened: {error}") from error


def _installed_version() -> str:
    try:
        return version("executorch")
    except PackageNotFoundError:
        return "unknown"
