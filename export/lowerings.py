"""The table of lowerings: what the exporter knows of each backend.

To add one: a module with ``lower(program, interface)``, and its record here.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from torch import nn

from edge_asr.package.manifest import BackendName
from export.program import Interface

Lower = Callable[[nn.Module, Interface], bytes]


@dataclass(frozen=True)
class Lowering:
    """A lowering.

    Attributes:
        module: offers ``lower(program, interface)``.
        ending: of its files.
        libraries: whose versions a package names, besides torch's and numpy's.
    """

    module: str
    ending: str
    libraries: tuple[str, ...] = ()


# By the backend that runs its programs; see ``edge_asr.backends.table``.
LOWERINGS: dict[BackendName, Lowering] = {
    "onnx": Lowering("export.to_onnx", "onnx", ("onnx", "onnxruntime")),
    "executorch": Lowering("export.to_executorch", "pte", ("executorch",)),
    "torchscript": Lowering("export.to_torchscript", "pt"),
}


def lowering(backend: BackendName) -> tuple[Lower, str]:
    """The function that lowers to ``backend`` and the ending of its files.

    It is imported only now: each brings its backend's libraries along.
    """
    found = LOWERINGS[backend]

    def quietly(program: nn.Module, interface: Interface) -> bytes:
        # The tracer and the exporters warn about their own future, and of branches that the
        # traced code does not take; whether a program is right is measured.
        disabled, collects = logging.root.manager.disable, gc.isenabled()
        logging.disable(logging.WARNING)
        gc.disable()  # a graph's nodes are many and stay: little is found, in a tenth of the time
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lower: Lower = import_module(found.module).lower
                return lower(program, interface)
        finally:
            logging.disable(disabled)
            if collects:
                gc.enable()

    return quietly, found.ending
