"""A microphone made of a file, for programs that open microphones through ALSA.

``FakeMicrophone`` compiles the ALSA plugin (pcm_fakemic.c), writes an ``.asoundrc`` into a home
directory of its own and holds the control block through which a test unplugs, stalls or silences
the device, and through which the device says how much audio was really lost. Start the program
under test with ``env=microphone.environment()``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SOURCE = Path(__file__).with_name("pcm_fakemic.c")
DEVICE_NAME = "fakemic"


class Fault(Enum):
    """What the device does; see enum fault in pcm_fakemic.c."""

    NONE = "n"
    UNPLUGGED = "u"
    STALLED = "s"
    XRUN = "x"
    ZEROS = "z"
    BUSY = "b"
    HUNG = "h"
    RUNAWAY = "r"


class _Control(ctypes.Structure):
    """struct control of pcm_fakemic.c."""

    _fields_ = (
        ("fault", ctypes.c_int32),
        ("clock_error_ppm", ctypes.c_int32),
        ("outage_ms", ctypes.c_int32),
        ("opened", ctypes.c_int32),
        ("epoch_ns", ctypes.c_int64),
        ("next_frame", ctypes.c_int64),
        ("frames_read", ctypes.c_int64),
        ("frames_lost", ctypes.c_int64),
    )


def why_impossible() -> str | None:
    """What this machine lacks for the fake microphone, or None."""
    if shutil.which("gcc") is None:
        return "gcc is not installed (apt-get install gcc)"
    if not Path("/usr/include/alsa/pcm_external.h").exists():
        return "the ALSA headers are not installed (apt-get install libasound2-dev)"
    if not any(Path("/usr/lib").glob("**/libportaudio.so.2")):
        return "PortAudio is not installed (apt-get install libportaudio2)"
    return None


def build_plugin(folder: Path) -> Path:
    """Compile the plugin into ``folder``; the path of the shared library."""
    library = folder / "libasound_module_pcm_fakemic.so"
    if not library.exists():
        command = ["gcc", "-O2", "-Wall", "-Werror", "-fPIC", "-shared", "-DPIC"]
        subprocess.run(
            [*command, "-o", str(library), str(SOURCE), "-lasound"], check=True, timeout=60
        )
    return library


class FakeMicrophone:
    """One fake device in a home directory of its own.

    Args:
        folder: where the home directory is made.
        plugin: the compiled plugin, see ``build_plugin``.
        audio: (N, C) int16, spoken in a loop.
        rate: frames per second of the device; it accepts no other.
    """

    def __init__(self, folder: Path, plugin: Path, audio: npt.NDArray[np.int16], rate: int) -> None:
        self.home = folder
        self.rate = rate
        self.loop_frames, channels = audio.shape
        audio_path, control_path = folder / "audio.raw", folder / "control"
        audio_path.write_bytes(audio.tobytes())
        control_path.write_bytes(bytes(ctypes.sizeof(_Control)))
        with control_path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._control: Any = _Control.from_buffer(self._map)
        self._control.next_frame = -1
        self.inject(Fault.NONE)
        self._config = (
            f'pcm_type.fakemic {{ lib "{plugin}" }}\n'
            f"pcm.{DEVICE_NAME} {{ type fakemic  rate {rate}  channels {channels}\n"
            f'  file "{audio_path}"  control "{control_path}"  hint {{ show on }} }}\n'
            f"pcm.!default {{ type empty  slave.pcm {DEVICE_NAME} }}\n"
        )
        (folder / ".asoundrc").write_text(self._config)

    def environment(self) -> dict[str, str]:
        """Environment variables for the program under test: ALSA sees only this device."""
        return {**os.environ, "HOME": str(self.home)}

    def inject(self, fault: Fault, *, outage_ms: int = 0, clock_error_ppm: int = 0) -> int:
        """Make the device behave so from now on; the CLOCK_MONOTONIC time of it in ns."""
        self._control.outage_ms = outage_ms
        self._control.clock_error_ppm = clock_error_ppm
        self._control.fault = ord(fault.value)
        return time.monotonic_ns()

    @property
    def fault(self) -> Fault:
        """What the device does now; an XRUN ends by itself."""
        return Fault(chr(self._control.fault))

    @property
    def times_opened(self) -> int:
        """How many streams were started on the device."""
        return int(self._control.opened)

    @property
    def lost_ms(self) -> float:
        """Audio that passed between two reads without being read, as the device counts it."""
        return float(1000 * self._control.frames_lost / self.rate)

    @property
    def read_ms(self) -> float:
        """Audio that was read, as the device counts it."""
        return float(1000 * self._control.frames_read / self.rate)

    def spoken_at_ns(self, frame: int) -> int:
        """CLOCK_MONOTONIC time at which the device captures ``frame`` of its life."""
        return int(self._control.epoch_ns + frame * 1_000_000_000 // self.rate)


Plug = Callable[..., FakeMicrophone]  # the fixture ``plug``: see fixtures.py
