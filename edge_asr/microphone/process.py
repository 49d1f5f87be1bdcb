"""One run of the capture process: started, read from, and killed when it must be."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence

from edge_asr.audio.background import check_process
from edge_asr.console import clean
from edge_asr.errors import DeviceError
from edge_asr.machine import python_command, python_environment
from edge_asr.microphone.devices import CaptureFailedError, missing_configuration
from edge_asr.microphone.frames import Frame, FrameError, FrameReader, Kind, Reason

CAPTURE_COMMAND = tuple(python_command("edge_asr.microphone.child"))
_READ_BYTES = 1 << 16
_REAP_S = 1.0
_SAID_BYTES = 1 << 16
_SAID_CHARS = 200
_LIST_LIMIT_S = 5.0
_unburied: list[subprocess.Popen[bytes]] = []


class CaptureProcess:
    """A child process that writes frames into a pipe.

    Args:
        arguments: for the capture process, after ``--fd`` and ``--parent``.
        command: the program; tests put their own here.
    """

    def __init__(self, arguments: Sequence[str], command: Sequence[str] = CAPTURE_COMMAND) -> None:
        self._owner = os.getpid()
        self._reader = FrameReader()
        self._broken: FrameError | None = None
        self.ended = False
        self._said = tempfile.TemporaryFile()
        self._fd, child_fd = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, "--fd", str(child_fd), "--parent", str(os.getpid()), *arguments],
                env=python_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,  # C libraries print there; it matters if the process dies
                pass_fds=[child_fd],
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor alone
            )
        except BaseException:
            os.close(self._fd)
            self._said.close()
            raise
        finally:
            os.close(child_fd)

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self, timeout_s: float) -> list[Frame]:
        """The frames that arrived; none after ``timeout_s`` without any, or when it has ended.

        Raises:
            FrameError: the child wrote something else than frames.
            UsageError: this process was forked from the one that started it.
        """
        check_process(self._owner, "microphone")
        if self._broken is not None:
            raise self._broken
        waiting = select.poll()  # select knows no descriptor above 1023
        waiting.register(self._fd, select.POLLIN)
        if not waiting.poll(max(0.0, timeout_s) * 1000):
            return []
        data = os.read(self._fd, _READ_BYTES)
        if not data:
            self.ended = True
        frames: list[Frame] = []
        try:
            frames.extend(self._reader.push(data))
        except FrameError as error:
            self._broken = error  # for the next call: the frames before it are good
        return frames

    def death(self) -> CaptureFailedError:
        """Why a child that ``ended`` without saying so in a frame did so: BROKEN where trying again
        does not help, else REFUSED."""
        said = os.pread(self._said.fileno(), _SAID_BYTES, 0).decode(errors="replace")
        if file := missing_configuration(said):
            return CaptureFailedError(
                Reason.BROKEN,
                f"ALSA cannot read its configuration {clean(file)}, so PortAudio does not start; "
                "run: apt-get install libasound2-data, or name the file in ALSA_CONFIG_PATH",
            )
        lines = said.split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        facts = [self._signal(), clean(last).strip()[:_SAID_CHARS]]
        details = ": ".join(filter(None, facts))
        return CaptureFailedError(
            Reason.REFUSED, f"the capture process died{details and f' ({details})'}"
        )

    def _signal(self) -> str:
        """The signal that ended the child, in words, if one did."""
        try:
            code = self._process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            return ""
        return (signal.strsignal(-code) or "") if code < 0 else ""

    def kill(self) -> None:
        """End the child whatever it hangs in; PortAudio is never asked."""
        self._process.kill()
        os.close(self._fd)
        self._said.close()
        try:
            self._process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            _unburied.append(self._process)  # stuck in the kernel, or the computer is very slow
        _unburied[:] = [process for process in _unburied if process.poll() is None]


def list_devices() -> list[dict[str, object]]:
    """All microphones: index, name, channels, rate and is_default of each.

    Raises:
        DeviceError: PortAudio is missing, cannot start or does not answer.
    """
    child = CaptureProcess(["--list"])
    failure = f"the sound system did not answer within {_LIST_LIMIT_S:.0f} s"
    deadline = time.monotonic() + _LIST_LIMIT_S
    try:
        while not child.ended and (remaining_s := deadline - time.monotonic()) > 0:
            for frame in child.read(remaining_s):
                if frame.kind == Kind.DEVICES:
                    devices: list[dict[str, object]] = frame.facts["devices"]  # type: ignore[assignment]
                    return devices
                raise DeviceError(str(frame.facts["message"]))
        if child.ended:
            failure = str(child.death())
    except FrameError as error:
        raise DeviceError(f"the capture process failed: {error}") from error
    finally:
        child.kill()
    raise DeviceError(failure)
