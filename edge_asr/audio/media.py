"""Sound of M4A, MP4, WebM and MKV, through PyAV, where that is installed."""

from __future__ import annotations

import re
from typing import IO, Any, Protocol

from edge_asr.audio.content import Content, Incomplete
from edge_asr.audio.decoders import Blocks
from edge_asr.errors import AudioError

# The demuxer is named, so that FFmpeg never guesses: some of its formats open other files.
_SIGNATURES = ((0, b"\x1aE\xdf\xa3", "matroska"), (4, b"ftyp", "mov"))
_NAMES = {"matroska": "WebM or MKV", "mov": "M4A or MP4"}
_ROUNDING_S = 0.25  # durations of these containers are those of whole packets, padding included


class Readable(Protocol):
    """What PyAV reads from; it seeks only where it can."""

    def read(self, size: int) -> bytes: ...


class Forward:
    """A pipe, for PyAV."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes."""
        found = self._content.at(self._offset, size, whole=False)
        self._offset += len(found)
        return found


def media_format(head: bytes) -> str | None:
    """The name of the container that begins so; None if it is none of those here."""
    for offset, signature, name in _SIGNATURES:
        if head[offset:].startswith(signature):
            return name
    return None


def needs_seeking(name: str) -> bool:
    """Whether the container may have at its end what one must know at its beginning."""
    return name == "mov"


def media_blocks(file: IO[bytes] | Readable, name: str, where: str) -> Blocks:
    """Blocks ((N, C) float32, rate in Hz) of the first sound track.

    Raises:
        AudioError: PyAV is not installed.
        Incomplete: no sound track, or it ends, or is damaged, before its end.
    """
    try:
        import av
    except ImportError as error:
        raise AudioError(
            f"{where} is {_NAMES[name]}, which needs PyAV: pip install av, or "
            "ffmpeg -i FILE -f wav - | edge-asr transcribe -"
        ) from error
    heard_s = 0.0
    promised_s = None
    try:
        with av.open(file, format=name, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise Incomplete("there is no sound track")
            stream = container.streams.audio[0]
            promised_s = _duration_s(container, stream)
            resampler = av.AudioResampler(format="flt")
            for frame in container.decode(stream):
                for part in resampler.resample(frame):
                    block = part.to_ndarray().reshape(part.samples, -1)
                    heard_s += part.samples / part.sample_rate
                    yield block, int(part.sample_rate)
    except av.FFmpegError as error:
        raise Incomplete(error.strerror) from error
    if promised_s is not None and heard_s < promised_s - _ROUNDING_S:
        raise Incomplete(f"{promised_s:.2f} s are promised")


def _duration_s(container: Any, stream: Any) -> float | None:
    """What the container says of the track; of all tracks only where there is no other."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    match = re.match(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    if match:
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / 1_000_000)
    return None
