"""The time account of devices that are late, drift, lose and stop: what is declared is what was
lost, where it was lost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from edge_asr.microphone.clock import Block, Heard
from tests.edge_asr.microphone.late_device import LateDevice, account_of, gaps

ERROR_MS = 2.5  # no block of some devices is on time by less
SCENARIOS = 10_000
KINDS: list[dict[str, Any]] = [
    {"full": "all", "flagged": True},
    {"full": "all", "flagged": False},
    {"full": "oldest", "flagged": True},
]


def scenario(seed: int, waits: str) -> LateDevice:
    """Five seconds of a device of any kind."""
    draw = random.Random(seed)
    return LateDevice(
        block_ms=draw.choice([10, 20, 50]),
        seconds=5,
        ppm=draw.uniform(-200, 200),
        jitter_ms=draw.choice([0, 4, 15]),
        stalls_per_s=draw.choice([0, 0.5, 2]),
        longest_stall_ms=draw.choice([190, 600]),
        pauses_per_min=draw.choice([0, 20]),
        drops_per_min=draw.choice([0, 0, 20]),
        restarts_per_min=draw.choice([0, 0, 20]),
        calm_s=1.5,
        waits=waits,  # type: ignore[arg-type]
        seed=seed,
        **draw.choice(KINDS),
    )


def check(device: LateDevice, error_ms: float = ERROR_MS) -> list[Heard]:
    """What is heard of a device: each loss, where it was, and each block once."""
    heard, account = account_of(device)
    blocks = [item for item in heard if isinstance(item, Block)]
    assert [block.at_ns for block in blocks] == sorted(block.at_ns for block in blocks)
    assert len(blocks) == device.delivered
    declared = gaps(heard)
    assert [place for place, _ in declared] == [place for place, _ in device.lost], device
    for (_, declared_ms), (_, lost_ms) in zip(declared, device.lost, strict=True):
        assert declared_ms == pytest.approx(lost_ms, rel=0, abs=error_ms), device
    audio_ns = sum(block.duration_ns for block in blocks)
    assert account.accounted_ns == audio_ns + sum(ms for _, ms in declared) * 1_000_000
    return heard


@pytest.mark.parametrize("waits", ["untold", "told"])
@pytest.mark.parametrize(
    "seeds", [range(500), pytest.param(range(500, SCENARIOS // 2), marks=pytest.mark.slow)]
)
def test_any_short_scenario(seeds: range, waits: str) -> None:
    for seed in seeds:
        check(scenario(seed, waits))


HOURS = [(10, 200), (20, -200), (50, 30)]


@pytest.mark.parametrize(
    ("seconds", "block_ms", "ppm"),
    [
        *((120, *device) for device in HOURS),
        *(pytest.param(3600, *device, marks=pytest.mark.slow) for device in HOURS),
    ],
)
@pytest.mark.parametrize("stalls_per_s", [0.2, 2.0])
def test_what_the_buffer_absorbs_is_never_declared(
    seconds: float, block_ms: int, ppm: int, stalls_per_s: float
) -> None:
    device = LateDevice(block_ms, seconds, ppm=ppm, jitter_ms=4.0, stalls_per_s=stalls_per_s)
    heard = check(device)
    assert device.lost == []
    assert len(heard) == device.delivered > 0.999 * seconds * 1000 / block_ms


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("waits", ["untold", "told"])
@pytest.mark.parametrize(
    ("seconds", "block_ms", "ppm"),
    [
        (300, 50, 200),
        *(pytest.param(3600, *device, marks=pytest.mark.slow) for device in HOURS[1:]),
    ],
)
def test_losses_of_an_hour_add_up(
    seconds: float, block_ms: int, ppm: int, waits: str, kind: dict[str, Any]
) -> None:
    device = LateDevice(
        block_ms,
        seconds,
        ppm=ppm,
        jitter_ms=4.0,
        stalls_per_s=0.2,
        longest_stall_ms=900,
        pauses_per_min=1,
        drops_per_min=0.5,
        restarts_per_min=0.5,
        waits=waits,  # type: ignore[arg-type]
        **kind,
    )
    heard = check(device)
    assert len(device.lost) > seconds / 30
    declared_ms = sum(ms for _, ms in gaps(heard))
    lost_ms = sum(ms for _, ms in device.lost)
    assert declared_ms == pytest.approx(lost_ms, rel=0, abs=10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_driver_with_wrong_times_hides_nothing(kind: dict[str, Any]) -> None:
    # What it says cannot be told from a delay of its buffer until no block is on time for seconds.
    device = LateDevice(
        20, 600, ppm=100, jitter_ms=4.0, stalls_per_s=0.2, pauses_per_min=4, waits="wrong", **kind
    )
    heard, _ = account_of(device)
    assert len(device.lost) > 20
    declared_ms = [ms for _, ms in gaps(heard)]
    assert declared_ms == [pytest.approx(ms, rel=0, abs=ERROR_MS) for _, ms in device.lost]


def test_a_driver_that_reports_no_loss_hides_none_however_small() -> None:
    device = LateDevice(
        10,
        600,
        ppm=-200,
        jitter_ms=4.0,
        stalls_per_s=0.3,
        longest_stall_ms=300,
        full="oldest",
        flagged=False,
        calm_s=8,
    )
    heard, _ = account_of(device)
    lost_ms = [ms for _, ms in device.lost]
    assert min(lost_ms) < 60
    assert [ms for _, ms in gaps(heard)] == [
        pytest.approx(ms, rel=0, abs=ERROR_MS) for ms in lost_ms
    ]
