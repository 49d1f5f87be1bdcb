"""The capture process: PortAudio alone in a process, because PortAudio can hang for ever.

``python -m edge_asr.microphone.child --fd N --parent PID [--device D] [--list]`` opens a microphone
and writes frames (frames.py) to file descriptor N until the device disappears or nobody
reads. It never stops or closes a stream, which may hang: it leaves, and may be killed at any time.

The audio callback only copies into a bounded queue. Nothing here resamples, mixes or decides.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import IO, Any

from edge_asr.microphone.devices import (
    CaptureFailedError,
    InputDevice,
    find_device,
    holder,
    input_devices,
    load_portaudio,
    settings,
)
from edge_asr.microphone.frames import BYTES_PER_SAMPLE, Frame, Kind, Reason, pack, pack_facts

QUEUE_MS = 30_000  # what a pause of the recognizer may cost before audio is dropped
QUEUE_KEPT_MS = 2_000  # one honest gap, then live again: not a thousand small holes
BUFFER_S = 0.2  # four periods: a delay of three of them loses nothing
LONGEST_WAIT_S = 60.0  # no buffer is longer
ORPHAN_CHECK_S = 0.25
IDLE_S = 0.25  # how soon it is noticed that a device is gone

_PA_INVALID_SETTINGS = {-9998, -9997, -9994}  # channel count, sample rate, sample format
_PA_DEVICE_UNAVAILABLE = -9985


class BlockQueue:
    """Blocks between the audio callback and the pipe, at most ``QUEUE_MS`` of them."""

    def __init__(self, rate: int, channels: int) -> None:
        self._bytes_per_ms = rate * channels * BYTES_PER_SAMPLE / 1000
        self._channels = channels
        self._blocks: deque[Frame] = deque()
        self._queued_bytes = 0
        self._sequence = 0
        self._changed = threading.Condition()

    def put(self, samples: bytes, overflow: bool, waited_ns: int = 0) -> None:
        """Called by PortAudio's thread: stamps, appends, and drops the oldest when full."""
        at_ns = time.monotonic_ns()
        with self._changed:
            place = self._sequence, self._channels
            self._blocks.append(Frame(Kind.BLOCK, samples, at_ns, *place, overflow, waited_ns))
            self._sequence += len(samples) // (self._channels * BYTES_PER_SAMPLE)
            self._queued_bytes += len(samples)
            if self._queued_bytes > QUEUE_MS * self._bytes_per_ms:
                while self._queued_bytes > QUEUE_KEPT_MS * self._bytes_per_ms:
                    self._queued_bytes -= len(self._blocks.popleft().payload)
            self._changed.notify()

    def get(self, timeout_s: float) -> Frame | None:
        """The oldest block, or None if there was none for ``timeout_s``."""
        with self._changed:
            if not self._blocks:
                self._changed.wait(timeout_s)
            if not self._blocks:
                return None
            block = self._blocks.popleft()
            self._queued_bytes -= len(block.payload)
            return block

    def wake(self) -> None:
        """Let a waiting ``get`` return at once."""
        with self._changed:
            self._changed.notify()


def waited_ns(captured_s: float, now_s: float, duration_s: float) -> int:
    """How long the last sample of a block has waited, where the driver says when the first was
    captured and what time it is now; else 0. Only the difference counts: which clock that is, and
    whether somebody sets it, differs from driver to driver."""
    if not 0 < captured_s <= now_s < captured_s + LONGEST_WAIT_S:
        return 0
    return max(0, round((now_s - captured_s - duration_s) * 1e9))


def open_stream(
    sounddevice: Any, device: InputDevice, finished: threading.Event
) -> tuple[Any, BlockQueue, int, int]:
    """Start the device at the first rate and channel count that it accepts."""
    refusal = ""
    for rate, channels in settings(device):
        blocks = BlockQueue(rate, channels)

        def callback(
            data: Any,
            frames: int,
            when: Any,
            status: Any,
            blocks: BlockQueue = blocks,
            rate: int = rate,
        ) -> None:
            waited = waited_ns(when.inputBufferAdcTime, when.currentTime, frames / rate)
            blocks.put(bytes(data), bool(status.input_overflow), waited)

        def on_finished(blocks: BlockQueue = blocks) -> None:
            finished.set()
            blocks.wake()

        try:
            stream = sounddevice.RawInputStream(
                device=device.index,
                samplerate=rate,
                channels=channels,
                dtype="float32",
                latency=BUFFER_S,
                callback=callback,
                finished_callback=on_finished,
            )
            stream.start()
            return stream, blocks, rate, channels
        except sounddevice.PortAudioError as error:
            code = error.args[1] if len(error.args) > 1 else None
            refusal = str(error.args[0])
            if code == _PA_DEVICE_UNAVAILABLE:
                raise CaptureFailedError(
                    Reason.BUSY,
                    f"the microphone {device.name!r} is in use by another program{holder()}; "
                    "end that program",
                ) from error
            if code not in _PA_INVALID_SETTINGS:
                break
    raise CaptureFailedError(
        Reason.REFUSED, f"microphone {device.name!r} cannot be opened: {refusal}"
    )


def capture(fd: int, wanted: str | None, noise: IO[bytes]) -> None:
    """Send blocks until the device is gone; raises CaptureFailedError then, or before."""
    sounddevice = load_portaudio(noise)
    device = find_device(input_devices(sounddevice), wanted)
    finished = threading.Event()
    stream, blocks, rate, channels = open_stream(sounddevice, device, finished)
    write(fd, pack_facts(Kind.OPENED, name=device.name, rate=rate, channels=channels))
    with open(os.devnull, "wb") as nowhere:  # from here on noise would only pile up
        os.dup2(nowhere.fileno(), 2)
    while True:
        block = blocks.get(IDLE_S)
        if block is not None:
            write(fd, pack(block))
        elif finished.is_set() or not stream.active:
            raise CaptureFailedError(Reason.GONE, f"microphone {device.name!r} is gone")


def write(fd: int, data: bytes) -> None:
    """Write all of ``data``."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def die_with_parent(parent: int) -> None:
    """End this process when the supervisor dies, whatever PortAudio hangs in.

    The kernel could do that (PR_SET_PDEATHSIG), but would do it already when the thread of the
    supervisor ends that started this process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_CHECK_S)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m edge_asr.microphone.child")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--device")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args(argv)
    die_with_parent(arguments.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's business
    noise = open(os.dup(2), "rb")  # a file of the supervisor's, which reads it if this dies
    try:
        if arguments.list:
            devices = [vars(device) for device in input_devices(load_portaudio(noise))]
            write(arguments.fd, pack_facts(Kind.DEVICES, devices=devices))
        else:
            capture(arguments.fd, arguments.device, noise)
    except CaptureFailedError as failure:
        message = str(failure)
        write(arguments.fd, pack_facts(Kind.ENDED, reason=failure.reason, message=message))
    except BrokenPipeError:
        pass  # the supervisor is gone or has had enough
    except Exception as error:
        message = f"the sound system failed: {error}"
        write(arguments.fd, pack_facts(Kind.ENDED, reason=Reason.REFUSED, message=message))
    os._exit(0)  # a normal exit would let PortAudio close the stream, which may hang


if __name__ == "__main__":
    main()
