"""This machine: what a figure or a report of trouble has to name, as processor, system and library
versions, and how a process of Python is started on it."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_asr.backends.table import backend_libraries

# What edge_asr cannot work without, whatever the backend.
REQUIRED = ("numpy", "soxr", "soundfile", "sounddevice", "msgspec", "rich")
# In the order of reports; those of the backends follow.
LIBRARIES = ("edge_asr", *REQUIRED)
# Of all that a processor can do, what decides how fast integers are multiplied.
_FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"),
    *("neon", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),  # ARM
)


@dataclass(frozen=True)
class Machine:
    """This machine. ``libraries`` has the version of all that is installed of ours and of the
    backends'."""

    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    usable_cores: int
    system: str
    python: str
    libraries: dict[str, str]


def describe_machine() -> Machine:
    """Look at this machine; nothing heavy is imported."""
    libraries = (*LIBRARIES, *backend_libraries())
    return Machine(
        cpu=cpu_model(_cpuinfo()),
        cpu_features=cpu_features(_cpuinfo()),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        system=platform.platform(),
        python=platform.python_version(),
        libraries={name: found for name in libraries if (found := installed(name))},
    )


def installed(library: str) -> str | None:
    """The version of a library, or None if it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module, of ours or installed, as a program in a process of its own.

    Nothing that lies in its working folder is imported (-P); the environment for it is
    ``python_environment``.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment() -> dict[str, str]:
    """This environment, in which a process of Python finds the same edge_asr whatever its working
    folder is."""
    root = str(Path(__file__).resolve().parents[1])
    # An empty entry would be the working folder.
    named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *named])}


def usable_cores() -> int:
    """Cores that this process may use, where the system says so."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model(cpuinfo: dict[str, str]) -> str:
    """The name of the processor; ARM kernels give only numbers, and the name of the board."""
    if name := cpuinfo.get("model name"):
        return name
    board = cpuinfo.get("Model") or cpuinfo.get("Hardware")
    if part := cpuinfo.get("CPU part"):
        core = f"{platform.machine()} part {part} of implementer {cpuinfo.get('CPU implementer')}"
        return f"{core}, {board}" if board else core
    return board or platform.processor() or platform.machine()


def cpu_features(cpuinfo: dict[str, str]) -> tuple[str, ...]:
    """The features that matter here, of those that the kernel names."""
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return tuple(name for name in _FEATURES if name in flags)


def _cpuinfo() -> dict[str, str]:
    try:
        return parse_cpuinfo(Path("/proc/cpuinfo").read_text(errors="replace"))
    except OSError:
        return {}


def parse_cpuinfo(text: str) -> dict[str, str]:
    """The keys of /proc/cpuinfo, each with the first value that it has."""
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), value.strip())
    return facts


def peak_memory_bytes() -> int | None:
    """The largest resident set of this process so far; None where the system does not say."""
    if sys.platform == "win32":
        return None
    # getrusage would also count the process that this one was forked from.
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory_bytes(pid: int | None = None) -> int:
    """The resident set of a process, of this one where none is named. Linux only."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
