"""The table of backends: all that the runtime and its commands know of each of them.

CONTRIBUTING.md says how to add one. Nothing is imported here, not even numpy: help and ``doctor``
read the table too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_asr.errors import BackendError, UsageError

# What is said of a backend that is named in a package and is not in the table.
NOT_KNOWN = "not known to this edge_asr"


@dataclass(frozen=True)
class BadVersions:
    """Releases of a library that pip may have installed and that must not be used.

    Attributes:
        library: its name.
        first, last: the range of (major, minor), both included, with all their patches.
        why: what they do, after the name and version.
        cure: the command that installs another.
    """

    library: str
    first: tuple[int, int]
    last: tuple[int, int]
    why: str
    cure: str

    def include(self, version: str) -> bool:
        """Whether ``version`` is one of them."""
        found = re.match(r"(\d+)\.(\d+)", version)
        return found is not None and self.first <= (int(found[1]), int(found[2])) <= self.last

    def refuse(self, version: str) -> None:
        """Raise BackendError if ``version`` is one of them."""
        if self.include(version):
            raise BackendError(f"{self.library} {version} {self.why}; run: {self.cure}")


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
        bad_versions: those of its library that it refuses to load programs with.
    """

    name: str
    title: str
    module: str
    install: str
    libraries: tuple[str, ...]
    operator_library: str | None = None
    binding: str | None = None
    without_binding: tuple[str, ...] = ()
    bad_versions: BadVersions | None = None


# Every session of theirs with session.x64quantprecision ends in a failed assertion of C++, and int8
# programs are wrong without it on processors without VNNI. Left out in pyproject.toml too.
BAD_ONNXRUNTIME = BadVersions(
    library="onnxruntime",
    first=(1, 25),
    last=(1, 29),
    why="ends the process when a program is loaded (1.25 to 1.29 do)",
    cure="pip install 'onnxruntime>=1.30'",
)

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
            bad_versions=BAD_ONNXRUNTIME,
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
