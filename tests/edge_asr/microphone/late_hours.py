"""``python -m tests.edge_asr.microphone.late_hours``: hours of devices that are late, as rows of
docs/benchmarks/microphone.md."""

from __future__ import annotations

from edge_asr.microphone.clock import Block
from tests.edge_asr.microphone.late_device import LateDevice, account_of, gaps

HOUR_S = 3600


def row(device: LateDevice, what: str) -> str:
    """A row: the device, and what was declared of it."""
    heard, _ = account_of(device)
    declared = gaps(heard)
    blocks = sum(isinstance(item, Block) for item in heard)
    lost_ms = sum(ms for _, ms in device.lost)
    placed = [place for place, _ in declared] == [place for place, _ in device.lost]
    pairs = zip(declared, device.lost, strict=False)
    worst_ms = max((abs(was - said) for (_, said), (_, was) in pairs), default=0.0)
    cells = (
        f"{device.block_ms:g}",
        f"{device.ppm:+g}",
        what,
        f"{blocks:,}",
        len(device.lost),
        f"{len(declared)}{'' if placed else ', not all in their places'}",
        f"{worst_ms:.1f}",
        f"{sum(ms for _, ms in declared) - lost_ms:+.1f} of {lost_ms:,.0f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """The command line."""
    for block_ms, ppm in ((10, 200), (20, -200), (50, 200)):
        late = LateDevice(block_ms, HOUR_S, ppm=ppm, jitter_ms=4.0, stalls_per_s=1.0)
        print(row(late, "late to 190 ms"), flush=True)
    for block_ms, ppm in ((10, 200), (20, -200), (50, 200)):
        losing = LateDevice(
            block_ms,
            HOUR_S,
            ppm=ppm,
            jitter_ms=4.0,
            stalls_per_s=0.2,
            longest_stall_ms=900,
            flagged=False,
            pauses_per_min=1,
            drops_per_min=0.5,
            restarts_per_min=0.5,
        )
        print(row(losing, "late to 900 ms, pauses, drops, restarts"), flush=True)


if __name__ == "__main__":
    main()
