"""Which microphone, at which rate, and why not: the capture process's view of PortAudio.

Only the capture process imports this at run time; sounddevice is imported by
``load_portaudio`` alone, because the import starts PortAudio and may fail or print.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge_asr.microphone.frames import Reason

PREFERRED_RATES = (16_000, 48_000, 44_100)
MAX_CHANNELS = 32


class CaptureFailedError(Exception):
    """The device cannot be used; says why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class InputDevice:
    """One device that PortAudio can record from."""

    index: int
    name: str
    channels: int
    rate: int
    is_default: bool


def stable_name(name: str) -> str:
    """A device name without the ALSA card number, which changes when it is plugged in again."""
    return re.sub(r"\s*\(hw:\d+,\d+\)$", "", name)


def load_portaudio(noise: IO[bytes]) -> Any:
    """The sounddevice module; importing it starts PortAudio."""
    if alsa := _alsa():
        # Into ``noise``: sounddevice does not let ALSA speak, and PortAudio may end the process.
        alsa.snd_config_update()
    try:
        import sounddevice
    except ImportError as error:
        raise CaptureFailedError(
            Reason.BROKEN, f"{error.name} is not installed; run: pip install sounddevice"
        ) from error
    except OSError as error:
        raise CaptureFailedError(
            Reason.BROKEN, "PortAudio is not installed; run: apt-get install libportaudio2"
        ) from error
    except Exception as error:  # PortAudioError, which cannot be imported now
        raise CaptureFailedError(
            Reason.BROKEN,
            f"the sound system does not start ({configuration_error(noise) or error}); "
            "check ~/.asoundrc and /etc/asound.conf",
        ) from error
    return sounddevice


def configuration_error(noise: IO[bytes]) -> str:
    """What ALSA says about its configuration file, if that is broken, or "".

    ``noise`` is the file that stderr goes to.
    """
    noise.seek(0)
    said = noise.read(1 << 16).decode(errors="replace")
    file = re.search(r"\(config_file_open\) (.+) may be old or corrupted", said)
    place = re.search(r"\(_?snd_config_load\w*\) \S*:(\d+):\d+:(.+)", said)
    if file and place:
        return f"{file[1]}, line {place[1]}: {place[2]}"
    return file[1] if file else ""


def missing_configuration(said: str) -> str:
    """The file that ALSA says it cannot read at all, or "". PortAudio ends the process then."""
    file = re.search(r"\(snd_config_update_r\) Cannot access file (.+)", said)
    return file[1] if file else ""


def input_devices(sounddevice: Any) -> list[InputDevice]:
    """All devices that can record."""
    default = sounddevice.default.device[0]
    return [
        InputDevice(
            index,
            device["name"],
            device["max_input_channels"],
            round(device["default_samplerate"]),
            index == default,
        )
        for index, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


def find_device(devices: Sequence[InputDevice], wanted: str | None) -> InputDevice:
    """The default device, or the one with the wanted number, name or part of a name.

    Raises:
        CaptureFailedError: there is none (ABSENT, or BUSY if ALSA says so), or the name fits
            several (BROKEN: waiting does not help).
    """
    if wanted is None:
        found = [device for device in devices if device.is_default] or list(devices[:1])
    else:
        found = _named(devices, wanted)
    if len(found) == 1:
        return found[0]
    names = ", ".join(repr(device.name) for device in found or devices)
    if found:
        raise CaptureFailedError(
            Reason.BROKEN, f"{wanted!r} fits several microphones: {names}; name one of them"
        )
    label = "microphone" if wanted is None else f"microphone {wanted!r}"
    if alsa_says_busy(wanted):
        raise CaptureFailedError(
            Reason.BUSY, f"the {label} is in use by another program{holder()}; end that program"
        )
    if devices:
        raise CaptureFailedError(Reason.ABSENT, f"there is no {label}; choose one of: {names}")
    raise CaptureFailedError(
        Reason.ABSENT, f"there is no {label}; plug one in, or read a file with --input FILE"
    )


def _named(devices: Sequence[InputDevice], wanted: str) -> list[InputDevice]:
    """Those that ``wanted`` may mean. A number before all names, a whole name before parts of
    names, and a whole name in the same case before one in another."""
    whole, folded = stable_name(wanted), wanted.casefold()
    in_any_case = {  # of equal names the first
        stable_name(d.name): d
        for d in reversed(devices)
        if stable_name(d.name).casefold() == whole.casefold()
    }
    return (
        [d for d in devices if wanted.isdecimal() and d.index == int(wanted)]
        or [d for d in devices if stable_name(d.name) == whole][:1]
        or list(in_any_case.values())
        or [d for d in devices if not wanted.isdecimal() and folded in d.name.casefold()]
    )


def alsa_says_busy(wanted: str | None) -> bool:
    """Whether ALSA knows the device as busy: PortAudio leaves busy devices out of its list."""
    hardware = re.search(r"hw:\d+,\d+", wanted or "")
    name = hardware[0] if hardware else wanted or "default"
    alsa = _alsa()
    if alsa is None:
        return False
    pcm = ctypes.c_void_p()
    capture, nonblocking, busy = 1, 1, -16
    result: int = alsa.snd_pcm_open(ctypes.byref(pcm), name.encode(), capture, nonblocking)
    return result == busy


def _alsa() -> Any:
    """ALSA's library, or None where there is none."""
    try:
        return ctypes.CDLL("libasound.so.2")
    except OSError:
        return None


def holder(cards: Path = Path("/proc/asound")) -> str:
    """ " (pid N, NAME)" of the program that records now, or "" where the kernel does not say."""
    for status in sorted(cards.glob("card*/pcm*c/sub*/status")):
        with contextlib.suppress(OSError):  # cards and programs come and go
            if found := re.search(r"owner_pid\s*:\s*(\d+)", status.read_text()):
                return f" (pid {found[1]}, {Path(f'/proc/{found[1]}/comm').read_text().strip()})"
    return ""


def settings(device: InputDevice) -> Iterator[tuple[int, int]]:
    """(rate, channels) worth trying, best first.

    A stereo device is opened as stereo: PortAudio makes mono of it by taking the left channel,
    which may be the dead one. Devices with more channels are often virtual and mix by themselves.
    """
    native = device.channels
    rates = dict.fromkeys((*PREFERRED_RATES, device.rate))
    for channels in dict.fromkeys((native,) if native <= 2 else (1, 2, min(native, MAX_CHANNELS))):
        for rate in rates:
            yield rate, channels
