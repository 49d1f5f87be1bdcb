"""The table of lowerings: backend name to file ending and function."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from importlib import import_module

from torch import nn

from edge_asr.package.manifest import BackendName
from export.program import Interface

Lower = Callable[[nn.Module, Interface], bytes]

# backend -> (module with ``lower(program, interface)``, file ending)
LOWERINGS: dict[BackendName, tuple[str, str]] = {
    "onnx": ("export.to_onnx", "onnx"),
    "executorch": ("export.to_executorch", "pte"),
    "torchscript": ("export.to_torchscript", "pt"),
}


def lowering(backend: BackendName) -> tuple[Lower, str]:
    """The function that lowers to ``backend`` and the ending of its files.

    It is imported only now: each brings its backend's libraries along.
    """
    module, ending = LOWERINGS[backend]

    def quietly(program: nn.Module, interface: Interface) -> bytes:
        # The tracer and the exporters warn about their own future, and of branches that the
        # traced code does not take; whether a program is right is measured.
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lower: Lower = import_module(module).lower
                return lower(program, interface)
        finally:
            logging.disable(disabled)

    return quietly, ending
