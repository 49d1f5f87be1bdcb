"""Recordings in every container, as files, pipes and file objects, and what is heard of them."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from edge_asr.audio.read import Source, read_blocks
from edge_asr.errors import AudioError

RATE = 16000
SECONDS = 3
TIME = np.arange(round(RATE * SECONDS)) / RATE
# A tone whose pitch rises, so that no part of it is like another.
SIGNAL = (0.5 * np.sin(2 * np.pi * (200 * TIME + 150 * TIME**2))).astype(np.float32)

PLAIN = {  # samples one after another: any of them can be had without the others
    "wav": ("WAV", "PCM_16"),
    "wav8": ("WAV", "PCM_U8"),
    "wav24": ("WAV", "PCM_24"),
    "wav-float": ("WAV", "FLOAT"),
    "wav-ulaw": ("WAV", "ULAW"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
}
LOSSLESS = PLAIN | {"flac": ("FLAC", "PCM_16")}
STREAMED = {"vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}
CONTAINERS = LOSSLESS | STREAMED
SEEKING = {"wav-adpcm": ("WAV", "IMA_ADPCM"), "alac": ("CAF", "ALAC_16")}
WAYS = ("file", "pipe", "object")


def encoded(name: str, samples: np.ndarray = SIGNAL, rate: int = RATE) -> bytes:
    """A whole file."""
    format, subtype = (CONTAINERS | SEEKING)[name]
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


@contextlib.contextmanager
def given(data: bytes, way: str, folder: Path) -> Iterator[Source]:
    """``data`` as a regular file, a pipe with its name, or a file object."""
    path = folder / "recording"
    if way == "object":
        yield io.BytesIO(data)
    elif way == "file":
        path.write_bytes(data)
        yield path
    else:
        reader, writer = os.pipe()
        thread = threading.Thread(target=_write, args=(writer, data))
        thread.start()
        try:
            yield f"/dev/fd/{reader}"
        finally:
            os.close(reader)
            thread.join()


def _write(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb", buffering=0) as file:
        for start in range(0, len(data), 3000):
            file.write(data[start : start + 3000])


def listen(source: Source, block_s: float = 0.3) -> tuple[np.ndarray, AudioError | None]:
    """All samples (N,) of the first channel, and the error that came after them."""
    blocks = [np.zeros(0, np.float32)]
    try:
        for block, _ in read_blocks(source, block_s):
            blocks.append(block[:, 0])
    except AudioError as error:
        return np.concatenate(blocks), error
    return np.concatenate(blocks), None


def heard(data: bytes, way: str, folder: Path) -> tuple[np.ndarray, AudioError | None]:
    """See ``listen``."""
    with given(data, way, folder) as source:
        return listen(source)
