"""Samples without a container: signed 16-bit little-endian, as ``arecord -f S16_LE -t raw``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_asr.audio.samples import MAX_CHANNELS, MAX_RATE, MIN_RATE
from edge_asr.errors import UsageError


@dataclass(frozen=True)
class RawFormat:
    """What no header says: rate in Hz and channels, whose samples alternate."""

    rate: int
    channels: int = 1


def parse_raw(text: str) -> RawFormat:
    """``RATE`` or ``RATE:CHANNELS``.

    Raises:
        UsageError: anything else, or values that speech does not have.
    """
    match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", text)
    found = RawFormat(int(match[1]), int(match[2] or 1)) if match else RawFormat(0, 0)
    if not (MIN_RATE <= found.rate <= MAX_RATE and 1 <= found.channels <= MAX_CHANNELS):
        raise UsageError.of_setting(
            "raw",
            text,
            f"RATE and RATE:CHANNELS with {MIN_RATE} to {MAX_RATE} Hz and 1 to {MAX_CHANNELS} "
            "channels, as in 16000:2",
        )
    return found
