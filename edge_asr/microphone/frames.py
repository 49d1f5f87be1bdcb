"""The frames that the capture process writes and the supervisor reads.

A frame is a fixed header and a payload. Blocks carry interleaved float32 samples; every other
kind carries a small JSON object. All integers are little endian. The capture process imports
this file, so it uses nothing but the standard library.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum

# kind, flags, channels, payload bytes, sequence number, CLOCK_MONOTONIC ns, ns waited
_HEADER = struct.Struct("<BBHIQQQ")
_MAX_PAYLOAD_BYTES = 1 << 24
BYTES_PER_SAMPLE = 4


class FrameError(Exception):
    """What arrived is not a frame: the pipe holds something else than the capture process wrote."""


class Kind(IntEnum):
    """What a frame says."""

    OPENED = 1  # {"name", "rate", "channels"}: the device runs, blocks follow
    BLOCK = 2  # samples
    ENDED = 3  # {"reason", "message"}: the capture process gives up; nothing follows
    DEVICES = 4  # {"devices": [...]}: the answer to --list


class Reason(StrEnum):
    """Why the capture process gave up, as the ``reason`` of an ENDED frame."""

    ABSENT = "absent"  # no such device, or no device at all
    BUSY = "busy"  # another program holds it
    GONE = "gone"  # it was running and disappeared
    REFUSED = "refused"  # it is there and cannot be opened
    BROKEN = "broken"  # PortAudio is missing or the sound configuration unreadable: never heals


@dataclass(frozen=True)
class Frame:
    """One frame.

    ``at_ns`` of a block is the CLOCK_MONOTONIC time at which it came from the driver, by whose
    times its last sample had then waited for ``waited_ns`` (0 where it has none). The sequence
    number of a block is that of its first sample; a jump is audio that the capture process had to
    drop.
    """

    kind: Kind
    payload: bytes
    at_ns: int = 0
    sequence: int = 0
    channels: int = 0
    overflow: bool = False
    waited_ns: int = 0

    @property
    def is_empty_block(self) -> bool:
        """Whether it says that there was audio, and has none."""
        return self.kind == Kind.BLOCK and not self.payload

    @property
    def facts(self) -> dict[str, object]:
        """The JSON object of a frame that is not a block.

        Raises:
            FrameError: it is none.
        """
        try:
            facts = json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise FrameError(f"{self.kind.name} holds no JSON") from error
        if not isinstance(facts, dict):
            raise FrameError(f"{self.kind.name} holds no JSON object")
        return facts


def pack(frame: Frame) -> bytes:
    """The bytes of ``frame``."""
    return (
        _HEADER.pack(
            frame.kind,
            frame.overflow,
            frame.channels,
            len(frame.payload),
            frame.sequence,
            frame.at_ns,
            frame.waited_ns,
        )
        + frame.payload
    )


def pack_facts(kind: Kind, **facts: object) -> bytes:
    """A frame whose payload is the JSON object ``facts``."""
    return pack(Frame(kind, json.dumps(facts).encode()))


_KINDS = frozenset(Kind)


class FrameReader:
    """Cuts a byte stream into frames, however the bytes were grouped on the way."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def push(self, data: bytes) -> Iterator[Frame]:
        """All frames that ``data`` completes.

        Raises:
            FrameError: the bytes are not frames.
        """
        self._pending += data
        while len(self._pending) >= _HEADER.size:
            kind, flags, channels, size, *times = _HEADER.unpack_from(self._pending)
            if kind not in _KINDS or flags > 1 or size > _MAX_PAYLOAD_BYTES:
                raise FrameError(f"no frame begins with {bytes(self._pending[:8]).hex()}")
            if kind == Kind.BLOCK and (channels == 0 or size % (channels * BYTES_PER_SAMPLE)):
                raise FrameError(f"a block of {size} bytes does not hold {channels} channels")
            end = _HEADER.size + size
            if len(self._pending) < end:
                return
            payload = bytes(self._pending[_HEADER.size : end])
            del self._pending[:end]
            sequence, at_ns, waited_ns = times
            yield Frame(Kind(kind), payload, at_ns, sequence, channels, bool(flags), waited_ns)
