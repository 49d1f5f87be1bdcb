"""The samples of audio files, block by block."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import soundfile

from edge_asr.audio.features import Samples
from edge_asr.audio.samples import MAX_CHANNELS, check_rate, check_samples
from edge_asr.errors import AudioError, InputMissingError


def read_blocks(path: str | os.PathLike[str], block_s: float) -> Iterator[tuple[Samples, int]]:
    """The samples of a file, ``block_s`` seconds at a time.

    Yields:
        ((N, C) float32 in [-1, 1), sample rate in Hz).

    Raises:
        InputMissingError: there is no such file or it may not be read.
        AudioError: not a regular file, not audio, damaged, empty, a rate or channel count that
            speech does not have, or values that are not numbers.
    """
    where = repr(os.fspath(path))  # a name may hold a line break
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
        descriptor = os.open(path, os.O_RDONLY) if is_file else -1
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputMissingError(f"{where}: {reason}; give the path of an audio file") from error
    if not is_file:
        raise AudioError(f"{where} is not a regular file; give the path of an audio file")
    try:
        with soundfile.SoundFile(descriptor, closefd=True) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            check_rate(rate, where)
            if channels > MAX_CHANNELS:
                raise AudioError(f"{where}: {channels} channels; allowed are 1 to {MAX_CHANNELS}")
            total = 0
            while len(block := file.read(round(block_s * rate), "float32", always_2d=True)):
                check_samples(block, where)
                total += len(block)
                yield block, rate
    except soundfile.SoundFileError as error:
        # The text of the exception itself names a descriptor instead of the file.
        reason = str(getattr(error, "error_string", error)).splitlines()[0].removesuffix(".")
        raise AudioError(f"{where}: not readable as audio ({reason}); convert to WAV") from error
    if total == 0:
        raise AudioError(f"{where}: holds no samples; record or convert again")
