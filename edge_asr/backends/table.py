"""The table of backends: all that the runtime and its commands know of each of them.

To add one: a module with ``load_method`` (see ``edge_asr.backends.program``), its record here, its
lowering in ``export/lowerings.py``. Nothing is imported here, not even numpy: help and ``doctor``
read the table too.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_asr.errors import UsageError

# What is said of a backend that is named in a package and is not in the table.
NOT_KNOWN = "not known to this edge_asr"


@dataclass(frozen=True)
class Backend:
    """A backend.

    Attributes:
        name: in manifests and on the command line.
        title: of its programs, in messages.
        module: offers ``load_method``, and ``register_operators`` if there is an
            ``operator_library``. It is imported only to load a program.
        install: the command that installs its libraries.
        libraries: names of what it needs, to import as well as to install.
        operator_library: libedge_asr_<operator_library>.so brings the native operators to it; None:
            it runs portable programs only.
        binding: an extension module of ours, where one is built for it.
        without_binding: libraries that it needs only where that is not built.
    """

    name: str
    title: str
    module: str
    install: str
    libraries: tuple[str, ...]
    operator_library: str | None = None
    binding: str | None = None
    without_binding: tuple[str, ...] = ()


# In the order of preference.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend(
            name="onnx",
            title="ONNX",
            module="edge_asr.backends.onnx_runtime",
            install="pip install onnxruntime",
            libraries=("onnxruntime",),
            operator_library="onnx",
        ),
        Backend(
            name="executorch",
            title="ExecuTorch",
            module="edge_asr.backends.executorch_runtime",
            install="pip install executorch==1.5.1",
            libraries=("executorch",),
            operator_library="executorch",
            binding="edge_asr.native._executorch",
            without_binding=("torch",),
        ),
        Backend(
            name="torchscript",
            title="TorchScript",
            module="edge_asr.backends.torchscript_runtime",
            install="pip install torch==2.13.0",
            libraries=("torch",),
            operator_library="torch",
        ),
    )
}


def find_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in BACKENDS:
        allowed = ", ".join(BACKENDS)
        message = f"backend {name!r} is unknown; choose one of: {allowed}"
        raise UsageError(message, field="backend", value=name, allowed=allowed)
    return BACKENDS[name]


def backend_choices() -> str:
    """The names for a help text: "a, b or c"."""
    *names, last = BACKENDS
    return f"{', '.join(names)} or {last}"


def backend_libraries() -> tuple[str, ...]:
    """The libraries that any backend uses, each once."""
    return tuple(
        dict.fromkeys(
            library
            for backend in BACKENDS.values()
            for library in (*backend.libraries, *backend.without_binding)
        )
    )
