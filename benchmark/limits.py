"""The limits of this machine that a floor is computed from: read bandwidth and int8 peak.

Both are measured by C++ in the kernel library, or by the same source compiled here where there is
no library yet.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edge_asr.errors import ConfigError

_NATIVE = Path(__file__).resolve().parents[1] / "edge_asr" / "native"
LIBRARY = _NATIVE / "libedge_asr_kernels.so"
SOURCE = _NATIVE / "src" / "machine_limits.cpp"
# Far above the caches of any processor that this is for, below the memory of any board.
BUFFER_BYTES = 384 << 20


@dataclass(frozen=True)
class Limits:
    """What ``threads`` threads reach together."""

    threads: int
    read_bytes_per_s: float
    int8_macs_per_s: float

    def best(self, other: Limits) -> Limits:
        """The higher of each. A limit that something exceeds was measured in a bad moment."""
        assert self.threads == other.threads
        return Limits(
            self.threads,
            max(self.read_bytes_per_s, other.read_bytes_per_s),
            max(self.int8_macs_per_s, other.int8_macs_per_s),
        )


class LimitsLibrary:
    """The two functions of the library."""

    def __init__(self, path: Path) -> None:
        """Load it.

        Raises:
            ConfigError: it is no library, or lacks the functions.
        """
        try:
            library = ctypes.CDLL(str(path))
            self._bandwidth = library.edge_asr_read_bandwidth
            self._peak = library.edge_asr_int8_peak
        except (OSError, AttributeError) as error:
            raise ConfigError(f"{path}: no library of the machine's limits ({error})") from error
        self._bandwidth.argtypes = [ctypes.c_size_t, ctypes.c_int]
        self._bandwidth.restype = ctypes.c_double
        self._peak.argtypes = []
        self._peak.restype = ctypes.c_double

    def measure(self, threads: int, buffer_bytes: int = BUFFER_BYTES) -> Limits:
        """Measure both, in about half a second.

        Raises:
            ConfigError: there is not enough memory for the buffer.
        """
        bandwidth = self._bandwidth(buffer_bytes, threads)
        if bandwidth <= 0:
            raise ConfigError(f"a buffer of {buffer_bytes >> 20} MB cannot be had; free memory")
        with ThreadPoolExecutor(threads) as pool:  # ctypes lets go of the interpreter
            peaks = pool.map(lambda _: float(self._peak()), range(threads))
            return Limits(threads, bandwidth, sum(peaks))


def limits_library(build: Path) -> LimitsLibrary:
    """The kernel library, or one compiled into the folder ``build``.

    Raises:
        ConfigError: there is none and no compiler.
    """
    if LIBRARY.is_file():
        try:
            return LimitsLibrary(LIBRARY)
        except ConfigError:
            pass  # one from before it had these functions
    built = build / "libmachine_limits.so"
    if not built.is_file() or built.stat().st_mtime < SOURCE.stat().st_mtime:
        _compile(built)
    return LimitsLibrary(built)


def compiler() -> str | None:
    """The C++ compiler of this machine."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")


def _compile(out: Path) -> None:
    found = compiler()
    if found is None:
        raise ConfigError(f"{LIBRARY} is not there and no C++ compiler is; run: apt install g++")
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [found, "-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-o"]
    command += [str(out), str(SOURCE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.splitlines() or ["no message"])[0]
        raise ConfigError(f"{SOURCE}: does not compile ({reason})")
