"""A microphone that survives what happens to microphones.

``Microphone.read`` gives, in order, the audio, what was lost of it, and what a listener should
know. The device lives in a capture process (child.py). When it disappears, stalls or
runs away the process is killed and a fresh one follows the device by its name; a fresh process
costs 40 ms, leaks nothing, and is the only way to see a device that was plugged in later.

There are no threads here: everything happens inside ``read``.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge_asr.audio.samples import MAX_AMPLITUDE, MAX_CHANNELS, check_rate
from edge_asr.errors import AudioError, DeviceError, RunawayError
from edge_asr.events import GapReason
from edge_asr.microphone.clock import Block, Heard, TimeAccount
from edge_asr.microphone.devices import CaptureFailedError, stable_name
from edge_asr.microphone.frames import Frame, FrameError, Kind, Reason
from edge_asr.microphone.health import RUNAWAY_WINDOW_NS, SignalCheck, SpeedCheck
from edge_asr.microphone.process import CAPTURE_COMMAND, CaptureProcess
from edge_asr.microphone.retry import Retry

OPEN_LIMIT_S = 5.0  # PortAudio itself tries a busy device for one second
FIRST_BLOCK_LIMIT_S = 3.0  # a sound server may take two seconds to start a source
STALL_LIMIT_S = 1.0
STEADY_NS = 2_000_000_000  # this much audio makes a recovery a success
RUNAWAY_LIMIT = 3
OVERFLOW_NOTICE_S = 10.0
AGAIN = "restarting it"
# Why a process cannot be started now and may be later: no process, memory or descriptor is left.
_PASSING = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)

NoticeKind = Literal[
    "listening", "waiting", "lost", "recovered", "stalled", "silent", "signal", "overflow"
]


@dataclass(frozen=True)
class Notice:
    """Something about the device that a listener should know; becomes a Status event."""

    kind: NoticeKind
    message: str


@dataclass(frozen=True)
class Opened:
    """The device, or the file in its place, as it was opened."""

    name: str
    rate: int
    channels: int

    @classmethod
    def of(cls, frame: Frame) -> Opened:
        """As an OPENED frame says.

        Raises:
            FrameError: it does not, or the rate is none that speech can have.
        """
        facts = frame.facts
        try:
            name, rate = stable_name(str(facts["name"])), int(str(facts["rate"]))
            check_rate(rate, repr(name))
            return cls(name, rate, int(str(facts["channels"])))
        except (KeyError, ValueError) as error:
            raise FrameError("OPENED does not say name, rate and channels") from error
        except AudioError as error:
            raise FrameError(str(error)) from error

    @property
    def details(self) -> str:
        """In words."""
        channels = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"{self.name!r}, {self.rate} Hz, {channels}"


class Microphone:
    """Captures from one device, for ever.

    Args:
        device: number, name or part of a name; None follows the system's default.
        wait: wait for a device that is absent or busy; else the first ``read`` that finds it so
            raises DeviceError.
        command: the capture process; tests put their own here.
    """

    ended = False  # a microphone never does; a file does

    def __init__(
        self,
        device: str | None = None,
        *,
        wait: bool = True,
        command: Sequence[str] = CAPTURE_COMMAND,
    ) -> None:
        self.opened: Opened | None = None
        self.state: NoticeKind = "waiting"
        self._device = device
        self._wait = wait
        self._command = command
        self._account = TimeAccount()
        self._signal = SignalCheck()
        self._speed = SpeedCheck()
        self._child: CaptureProcess | None = None
        self._interruption: GapReason | None = None
        self._said = ""
        self._quiet_s = 0.0
        self._run_ns = 0  # audio of this run of the capture process
        self._sequence = 0
        self._last_block_ns = 0
        self._runaways = 0
        self._retry = Retry()
        self._overflow_said_at = float("-inf")

    def __enter__(self) -> Microphone:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_child()

    @property
    def pid(self) -> int | None:
        """Process id of the capture process, if one runs."""
        return self._child.pid if self._child else None

    @property
    def lag_ms(self) -> int:
        """How far the last audio that ``read`` gave is behind now; 0 while there is none."""
        if self.state not in ("listening", "recovered", "silent") or not self._last_block_ns:
            return 0
        return (time.monotonic_ns() - self._last_block_ns) // 1_000_000

    def read(self, timeout_s: float) -> list[Heard | Notice]:
        """What happened since the last call; waits at most ``timeout_s`` for something.

        Raises:
            DeviceError: the device cannot be used and waiting does not help, or is not wanted.
            OSError: the capture process can never be started.
        """
        if self._child is None:
            if not self._retry.wait(timeout_s):
                return []
            try:
                self._start_child()
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                what = f"the capture process cannot be started: {error.strerror}"
                return self._interrupt("stalled", "lost", what, "trying again")
        assert self._child is not None
        began = time.monotonic()
        events: list[Heard | Notice] = []
        try:
            frames = [frame for frame in self._child.read(timeout_s) if not frame.is_empty_block]
            for frame in frames:
                if self._child is None:
                    break  # one of the frames before ended this run
                events += self._on_frame(frame)
        except FrameError as error:
            what = f"the capture process failed: {error}"
            return [*events, *self._interrupt("stalled", "lost", what, AGAIN)]
        if frames:
            self._quiet_s = 0.0
        elif self._child.ended:
            events += self._on_death(self._child.death())
        else:
            # Only time spent waiting here counts: a busy recognizer is no stalled microphone.
            self._quiet_s += min(time.monotonic() - began, timeout_s)
            events += self._check_stall()
        return events

    def close(self) -> list[Heard | Notice]:
        """Stop capturing; the audio and the loss that were still open."""
        self._stop_child()
        unread: GapReason = "stalled" if self._quiet_s else "overload"
        self._account, heard = self._account.finish(time.monotonic_ns(), unread)
        return list(heard)

    def _on_frame(self, frame: Frame) -> list[Heard | Notice]:
        if frame.kind == Kind.OPENED:
            self._on_opened(frame)
            return []
        if frame.kind == Kind.ENDED:
            return self._on_ended(*_ending(frame))
        if frame.kind == Kind.BLOCK and self.opened is not None:
            return self._on_block(frame)
        raise FrameError(f"{frame.kind.name} is not what comes now")

    def _on_opened(self, frame: Frame) -> None:
        self.opened = Opened.of(frame)
        if self._device is not None:
            self._device = self.opened.name  # numbers change when devices come and go
        self._speed = SpeedCheck()
        self._signal = SignalCheck()
        self._sequence = 0

    def _on_block(self, frame: Frame) -> list[Heard | Notice]:
        assert self.opened is not None
        samples = np.frombuffer(frame.payload, "<f4").reshape(-1, frame.channels)
        block = Block(
            _numbers(samples),
            self.opened.rate,
            frame.at_ns,
            overflow=frame.overflow,
            dropped=max(0, frame.sequence - self._sequence),
            waited_ns=frame.waited_ns,
        )
        self._sequence = frame.sequence + len(samples)
        if self._speed.push(block):
            return self._on_runaway()
        self._account, heard = self._account.push(block)
        events = self._heard(heard)
        self._run_ns += block.duration_ns
        if self._run_ns > STEADY_NS:
            self._retry.succeeded()
        if self._run_ns > 2 * RUNAWAY_WINDOW_NS:
            self._runaways = 0
        if change := self._signal.push(block):
            events.append(self._on_signal(change))
        return events

    def _heard(self, heard: list[Heard]) -> list[Heard | Notice]:
        """Say what changed together with the audio that proves it."""
        events: list[Heard | Notice] = []
        for item in heard:
            events.append(item)
            if isinstance(item, Block):
                first, self._last_block_ns = not self._last_block_ns, item.at_ns
                if self.state not in ("listening", "recovered", "silent"):
                    events.append(self._on_listening(first))
            elif item.reason in ("overflow", "overload"):
                now = time.monotonic()
                if now - self._overflow_said_at > OVERFLOW_NOTICE_S:
                    self._overflow_said_at = now
                    cause = "the sound card" if item.reason == "overflow" else "a slow computer"
                    events.append(
                        Notice("overflow", f"{item.duration_ms} ms of audio lost to {cause}")
                    )
        return events

    def _on_listening(self, first: bool) -> Notice:
        assert self.opened is not None
        self._interruption = None
        self._said = ""
        self.state = "listening" if first else "recovered"
        what = "listening to" if first else "back:"
        return Notice(self.state, f"{what} {self.opened.details}")

    def _on_signal(self, change: Literal["silent", "signal"]) -> Notice:
        assert self.opened is not None
        name = repr(self.opened.name)
        if change == "signal":
            self.state = "listening"
            return Notice("signal", f"microphone {name} gives sound again")
        self.state = "silent"
        return Notice(
            "silent", f"microphone {name} gives nothing but digital silence; is it muted?"
        )

    def _on_ended(self, reason: Reason, message: str) -> list[Heard | Notice]:
        if reason == Reason.GONE:
            return self._interrupt("unplugged", "lost", message, "waiting for it to come back")
        never_heard = not self._last_block_ns
        if never_heard and (reason == Reason.BROKEN or not self._wait):
            self._stop_child()
            raise DeviceError(message)
        self._stop_child()
        self._retry.failed()
        said = f"{reason}: {message}"
        if self._said == said or (self._interruption and reason == Reason.ABSENT):
            return []
        self._said = said
        if never_heard:
            self.state = "waiting"
        return [Notice("waiting", f"{message}; waiting for it")]

    def _on_death(self, death: CaptureFailedError) -> list[Heard | Notice]:
        if death.reason == Reason.BROKEN and not self._last_block_ns:
            self._stop_child()
            raise DeviceError(str(death))
        return self._interrupt("stalled", "lost", str(death), AGAIN)

    def _on_runaway(self) -> list[Heard | Notice]:
        assert self.opened is not None
        self._runaways += 1
        what = f"microphone {self.opened.name!r} delivers audio far faster than real time"
        if self._runaways >= RUNAWAY_LIMIT:
            self._stop_child()
            raise RunawayError(f"{what}, {RUNAWAY_LIMIT} times; choose another with --device")
        return self._interrupt("stalled", "lost", what, AGAIN)

    def _check_stall(self) -> list[Heard | Notice]:
        if self._run_ns:
            limit_s = STALL_LIMIT_S
        else:
            limit_s = FIRST_BLOCK_LIMIT_S if self.opened else OPEN_LIMIT_S
        if self._quiet_s < limit_s:
            return []
        name = repr(self.opened.name) if self.opened else "the microphone"
        message = f"{name} has sent nothing for {limit_s:.0f} s"
        return self._interrupt("stalled", "stalled", message, AGAIN)

    def _interrupt(
        self, reason: GapReason, kind: NoticeKind, what: str, remedy: str
    ) -> list[Heard | Notice]:
        """End this run of the capture process and try again."""
        self._stop_child()
        if not self._wait and not self._last_block_ns:
            raise DeviceError(f"{what}; choose another with --device, or wait for it")
        first = self._interruption is None
        news = first or self.state != kind
        self._interruption = self._interruption or reason
        self.state = kind
        self._retry.failed(heard=self._run_ns > 0)
        self._account, heard = self._account.interrupt(self._interruption)
        events: list[Heard | Notice] = [*heard]
        if news:
            events.append(Notice(kind, f"{what}; {remedy}"))
        return events

    def _start_child(self) -> None:
        self._quiet_s = 0.0
        self._run_ns = 0
        arguments = [] if self._device is None else [f"--device={self._device}"]
        self._child = CaptureProcess(arguments, self._command)

    def _stop_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None


def _ending(frame: Frame) -> tuple[Reason, str]:
    """What an ENDED frame says.

    Raises:
        FrameError: it does not.
    """
    facts = frame.facts
    try:
        return Reason(str(facts["reason"])), str(facts["message"])
    except (KeyError, ValueError) as error:
        raise FrameError("ENDED does not say reason and message") from error


def _numbers(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What a stream takes of (N, C): a bounded number of channels, and bounded numbers."""
    samples = np.nan_to_num(samples[:, :MAX_CHANNELS], nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(samples, -MAX_AMPLITUDE, MAX_AMPLITUDE)
