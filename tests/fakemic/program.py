"""``python -m edge_asr.mic`` as a process under test: what it says, and when it says it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_asr.machine import resident_memory_bytes
from edge_asr.package.files import Package
from tests.fakemic.device import FakeMicrophone

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Said:
    """One event of the program, and the CLOCK_MONOTONIC time at which it could be read."""

    fields: dict[str, Any]
    at_ns: int

    @property
    def kind(self) -> str:
        """``partial``, ``final``, ``gap``, or the kind of a status."""
        kind: str = self.fields["type"]
        return self.fields["kind"] if kind == "status" else kind

    @property
    def text(self) -> str:
        """What a partial says, committed or not, or a final."""
        if self.kind == "partial":
            return str(self.fields["committed"] + self.fields["tail"])
        return str(self.fields.get("text", ""))

    @property
    def duration_ms(self) -> int:
        return int(self.fields["end_ms"] - self.fields["start_ms"])


class MicProgram:
    """The program with ``--format jsonl``; its events are collected with their times."""

    def __init__(
        self,
        package: Path,
        environment: Mapping[str, str],
        *arguments: str,
        command: Sequence[str] = (sys.executable, "-m", "edge_asr.mic"),
    ) -> None:
        self.said: list[Said] = []
        self.errors: list[str] = []
        self._news = threading.Condition()
        self._taken = 0
        self._process = subprocess.Popen(
            [*command, "--package", str(package), "--format", "jsonl", *arguments],
            cwd=ROOT,
            env={**environment, "PYTHONWARNINGS": "error"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> MicProgram:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _read_events(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = Said(json.loads(line), time.monotonic_ns())
            with self._news:
                self.said.append(event)
                self._news.notify_all()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self.errors.extend(line.rstrip("\n") for line in self._process.stderr)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def capture_pid(self) -> int | None:
        """The capture process, if it runs."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def skip(self) -> None:
        """Let ``expect`` look only at what is said from now on."""
        with self._news:
            self._taken = len(self.said)

    def expect(
        self, kind: str, within_s: float, that: Callable[[Said], bool] = lambda said: True
    ) -> Said:
        """The next event of that kind after the one that was expected last."""
        deadline = time.monotonic() + within_s
        with self._news:
            while True:
                for index in range(self._taken, len(self.said)):
                    if self.said[index].kind == kind and that(self.said[index]):
                        self._taken = index + 1
                        return self.said[index]
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0 or not self._news.wait(remaining_s):
                    raise AssertionError(
                        f"no {kind} within {within_s} s; since the last one expected: "
                        f"{[said.fields for said in self.said[self._taken :]]}, "
                        f"exit code {self._process.poll()}, errors {self.errors}"
                    )

    def send(self, signum: signal.Signals) -> int:
        """Send a signal; the CLOCK_MONOTONIC time of it."""
        os.kill(self.pid, signum)
        return time.monotonic_ns()

    def wait(self, within_s: float) -> int:
        """The exit code, after everything it wrote was read."""
        code = self._process.wait(within_s)
        for reader in self._readers:
            reader.join(within_s)
        return code

    def stop(self, within_s: float = 5.0) -> int:
        """End it as systemd would; the exit code."""
        self.send(signal.SIGTERM)
        return self.wait(within_s)

    def of(self, *kinds: str) -> list[Said]:
        """All events of these kinds so far."""
        with self._news:
            return [said for said in self.said if said.kind in kinds]


def alive(pid: int) -> bool:
    """Whether a process still runs; a dead one that nobody has buried yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    return resident_memory_bytes(pid) / 2**20


def cpu_s(pid: int) -> float:
    """CPU time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def listen(microphone: FakeMicrophone, package: Package, *arguments: str) -> MicProgram:
    """The program at this microphone."""
    return MicProgram(package.root, microphone.environment(), *arguments)
