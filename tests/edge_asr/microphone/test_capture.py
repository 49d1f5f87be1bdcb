"""The microphone against capture processes that say what a test makes them say."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from edge_asr.errors import DeviceError, RunawayError
from edge_asr.microphone import capture
from edge_asr.microphone.capture import Microphone, Notice
from edge_asr.microphone.clock import Block, Heard, Lost
from edge_asr.package.files import Package
from edge_asr.streams.recognizer import load

PRELUDE = """
import argparse, os, sys, time
from edge_asr.microphone.frames import Frame, Kind, pack, pack_facts
parser = argparse.ArgumentParser()
parser.add_argument("--fd", type=int)
parser.add_argument("--parent", type=int)
parser.add_argument("--device")
arguments = parser.parse_args()
def send(data): os.write(arguments.fd, data)
def opened(name="USB (hw:1,0)", channels=1):
    send(pack_facts(Kind.OPENED, name=name, rate=16000, channels=channels))
def ended(reason, message): send(pack_facts(Kind.ENDED, reason=reason, message=message))
sequence = 0
now_ns = time.monotonic_ns()
def blocks(count, ms=50, value=b"\\1\\2\\3\\4\\0\\0\\0\\0", skip=0, later_ms=50):
    global sequence, now_ns
    sequence += 16 * ms * skip
    for _ in range(count):
        now_ns += later_ms * 1_000_000
        payload = value * (16 * ms // (len(value) // 4))
        send(pack(Frame(Kind.BLOCK, payload, now_ns, sequence, 1)))
        sequence += 16 * ms
"""


def microphone(script: str, device: str | None = None, wait: bool = True) -> Microphone:
    return Microphone(device, wait=wait, command=[sys.executable, "-c", PRELUDE + script])


def read_until(
    microphone: Microphone, done: Callable[[list[Heard | Notice]], object], within_s: float = 10
) -> list[Heard | Notice]:
    events: list[Heard | Notice] = []
    deadline = time.monotonic() + within_s
    while not done(events):
        assert time.monotonic() < deadline, f"not within {within_s} s; events {events}"
        events += microphone.read(0.05)
    return events


def notices(events: list[Heard | Notice]) -> list[str]:
    return [event.kind for event in events if isinstance(event, Notice)]


def lost(events: list[Heard | Notice]) -> list[Lost]:
    return [event for event in events if isinstance(event, Lost)]


def count_blocks(events: list[Heard | Notice]) -> int:
    return sum(isinstance(event, Block) for event in events)


def test_audio_comes_as_it_was_sent() -> None:
    with microphone("opened()\nblocks(5)\ntime.sleep(9)") as mic:
        events = read_until(mic, lambda events: count_blocks(events) == 5)
        assert isinstance(events[0], Block)
        assert events[1] == Notice("listening", "listening to 'USB', 16000 Hz, 1 channel")
        assert events[0].samples.shape == (800, 1)
        assert notices(events) == ["listening"]
        assert mic.pid is not None
    assert mic.pid is None


def test_not_a_number_becomes_silence() -> None:
    script = "opened()\nblocks(3, value=b'\\0\\0\\xc0\\x7f\\0\\0\\x80\\x7f')\ntime.sleep(9)"
    with microphone(script) as mic:
        events = read_until(mic, lambda events: count_blocks(events) == 3)
        for event in events:
            assert not isinstance(event, Block) or np.isfinite(event.samples).all()


def test_whatever_a_device_delivers_is_taken(tiny_package: Package) -> None:
    values = "[0.1, float('inf'), float('-inf'), float('nan'), 64.5, -1e30, 32767.0, 3.4e38]"
    script = (
        "import struct\n"
        "def odd(samples, channels=1):\n"
        "    global sequence, now_ns\n"
        "    now_ns += len(samples) // channels * 62_500\n"
        "    payload = struct.pack(f'<{len(samples)}f', *samples)\n"
        "    send(pack(Frame(Kind.BLOCK, payload, now_ns, sequence, channels)))\n"
        "    sequence += bool(samples)\n"
        f"opened()\nblocks(3)\nodd({values} * 100)\nodd([])\nodd({values} * 200, 2)\n"
        "odd([0.1] * 800 * 40, 40)\nodd([0.1])\nodd([0.1] * 800)\ntime.sleep(9)"
    )
    stream = load(tiny_package.root).stream()
    with microphone(script) as mic, stream:
        events = read_until(mic, lambda events: count_blocks(events) == 8)
        for event in events:
            if isinstance(event, Block):
                assert np.isfinite(event.samples).all() and len(event.samples)
                stream.push(event.samples, event.rate)
        stream.flush()
    assert notices(events) == ["listening"]


@pytest.mark.parametrize(
    "script",
    [
        "send(pack(Frame(Kind.OPENED, b'{')))",
        "send(pack(Frame(Kind.OPENED, b'[1]')))",
        "send(pack(Frame(Kind.OPENED, b'\\xff')))",
        "send(pack_facts(Kind.OPENED, name='a'))",
        "send(pack_facts(Kind.OPENED, name='a', rate='fast', channels=1))",
        "send(pack_facts(Kind.OPENED, name='a', rate=0, channels=1))",
        "send(pack_facts(Kind.OPENED, name='a', rate=768000, channels=1))",
        "send(pack_facts(Kind.ENDED))",
        "ended('no such reason', 'gone')",
        "send(pack_facts(Kind.DEVICES, devices=[]))",
    ],
)
def test_a_capture_process_that_makes_no_sense_is_tried_again(script: str) -> None:
    with microphone(f"opened()\nblocks(4)\n{script}\ntime.sleep(9)") as mic:
        events = read_until(mic, lambda events: notices(events).count("recovered") == 1)
    assert notices(events)[0] == "listening"
    with microphone(f"{script}\ntime.sleep(9)") as mic:
        first = [e for e in read_until(mic, bool) if isinstance(e, Notice)]
    assert first[0].kind in ("lost", "waiting")


def test_audio_of_an_unknown_format_is_not_taken() -> None:
    with microphone("blocks(1)\ntime.sleep(9)") as mic:
        assert notices(read_until(mic, bool)) == ["lost"]


def test_a_device_that_sends_nothing_again_and_again_is_stalled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capture, "STALL_LIMIT_S", 0.2)
    script = "opened()\nblocks(4)\nwhile True:\n    blocks(1, ms=0)\n    time.sleep(0.01)"
    with microphone(script) as mic:
        events = read_until(mic, lambda events: "stalled" in notices(events))
    assert count_blocks(events) == 4


@pytest.mark.parametrize("code", ["EAGAIN", "ENOMEM", "EMFILE", "ENFILE"])
def test_a_process_that_cannot_be_started_now_is_started_later(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = subprocess.Popen, [0, 2]

    def popen(*arguments: Any, **options: Any) -> Any:
        left[0] += 1
        if 1 < left[0] <= 1 + left[1]:
            number = getattr(errno, code)
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with microphone("opened()\nblocks(4)\nsys.exit(1)") as mic:
        events = read_until(mic, lambda events: "recovered" in notices(events))
    assert notices(events) == ["listening", "lost", "recovered"]
    said = [event.message for event in events if isinstance(event, Notice)]
    assert "died" in said[1], "the first trouble is told, the next is not news"
    left[:] = [1, 99]
    with microphone("opened()", wait=False) as mic, pytest.raises(DeviceError, match="cannot be"):
        mic.read(1)
    with microphone("opened()") as mic:
        assert notices(read_until(mic, bool)) == ["lost"]


def test_a_program_that_is_not_there_is_not_waited_for() -> None:
    with Microphone(command=["/nonexistent/program"]) as mic, pytest.raises(FileNotFoundError):
        mic.read(1)


def test_what_the_capture_process_dropped_is_declared() -> None:
    script = "opened()\nblocks(20)\nnow_ns += 2_000_000_000\nblocks(9, skip=40)\ntime.sleep(9)"
    with microphone(script) as mic:
        events = read_until(mic, lambda events: count_blocks(events) == 29)
        assert lost(events) == [Lost(2000, "overload")]
        (said,) = [e for e in events if isinstance(e, Notice) and e.kind == "overflow"]
        assert said.message == "2000 ms of audio lost to a slow computer"


@pytest.mark.slow
def test_a_stall_restarts_and_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "STALL_LIMIT_S", 0.2)
    monkeypatch.setattr(capture, "FIRST_BLOCK_LIMIT_S", 0.2)
    with microphone("opened()\nblocks(4)\ntime.sleep(9)") as mic:
        events = read_until(mic, lambda events: notices(events).count("recovered") == 2)
    # A restart that brings audio is a recovery; only then is the next stall news.
    assert notices(events)[:4] == ["listening", "stalled", "recovered", "stalled"]
    for before, after in pairwise(notices(events)):
        assert before != after
    assert {gap.reason for gap in lost(events)} == {"stalled"}


@pytest.mark.parametrize("script", ["send(b'Traceback (most recent call last)')", "sys.exit(1)"])
def test_a_capture_process_that_fails_is_tried_again(script: str) -> None:
    with microphone(f"opened()\nblocks(4)\n{script}\ntime.sleep(9)") as mic:
        events = read_until(mic, lambda events: notices(events).count("recovered") == 1)
        assert notices(events) == ["listening", "lost", "recovered"]
        assert "the capture process" in [e for e in events if isinstance(e, Notice)][1].message


@pytest.mark.slow
def test_a_dead_capture_process_is_told_once() -> None:
    with microphone("sys.exit(1)") as mic:
        events = []
        for _ in range(8):
            events += mic.read(0.1)
        assert notices(events) == ["lost"]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["sys.exit(1)", "time.sleep(9)", "opened()\ntime.sleep(9)"])
def test_who_does_not_wait_does_not_wait(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "OPEN_LIMIT_S", 0.3)
    monkeypatch.setattr(capture, "FIRST_BLOCK_LIMIT_S", 0.3)
    with microphone(script, wait=False) as mic, pytest.raises(DeviceError) as raised:
        read_until(mic, lambda events: False, 5)
    assert "\n" not in str(raised.value)


def test_a_device_that_never_answered_is_not_back_but_there() -> None:
    script = (
        "import pathlib, tempfile\n"
        "first = pathlib.Path(tempfile.gettempdir(), f'edge-asr-{arguments.parent}')\n"
        "if first.exists():\n"
        "    first.unlink(); opened(); blocks(4); time.sleep(9)\n"
        "first.touch(); sys.exit(1)\n"
    )
    with microphone(script) as mic:
        events = read_until(mic, lambda events: count_blocks(events) == 4)
        assert notices(events) == ["lost", "listening"]


def test_what_never_heals_ends() -> None:
    script = "ended('broken', 'PortAudio is not installed')"
    with microphone(script) as mic, pytest.raises(DeviceError, match="not installed"):
        read_until(mic, lambda events: False, 5)


def test_an_absent_device_is_told_once() -> None:
    with microphone("ended('absent', 'there is no microphone')") as mic:
        events = []
        for _ in range(8):
            events += mic.read(0.1)
        assert events == [Notice("waiting", "there is no microphone; waiting for it")]
        assert mic.lag_ms == 0


def test_a_device_of_many_is_followed_by_its_name() -> None:
    script = (
        "opened(name=f'{arguments.device} seen (hw:2,0)')\nblocks(4)\n"
        "ended('gone', 'microphone is gone')"
    )
    with microphone(script, device="3") as mic:
        events = read_until(mic, lambda events: notices(events).count("recovered") == 1)
        said = [e.message for e in events if isinstance(e, Notice)]
        assert said[0].startswith("listening to '3 seen', ")
        assert said[1] == "microphone is gone; waiting for it to come back"
        assert said[2].startswith("back: '3 seen seen', ")


def test_the_default_device_stays_the_default() -> None:
    script = "opened(name=f'{arguments.device}')\nblocks(4)\nended('gone', 'gone')"
    with microphone(script) as mic:
        events = read_until(mic, lambda events: notices(events).count("recovered") == 1)
        assert "'None'" in [e.message for e in events if isinstance(e, Notice)][2]


def test_a_runaway_clock_is_restarted_and_then_given_up() -> None:
    with microphone("opened()\nblocks(60, later_ms=1)\ntime.sleep(9)") as mic:
        events: list[Heard | Notice] = []
        with pytest.raises(RunawayError, match="far faster than real time, 3 times"):
            for _ in range(100):
                events += mic.read(0.1)
        assert notices(events) == ["listening", "lost"]
        # No more than a second over the true time passes on each run.
        assert count_blocks(events) <= 2 * 23


def test_the_end_declares_what_was_never_read() -> None:
    with microphone("opened()\nnow_ns -= 2_000_000_000\nblocks(5)\ntime.sleep(9)") as mic:
        read_until(mic, lambda events: count_blocks(events) == 5)
        (gap,) = mic.close()
        assert isinstance(gap, Lost)
        assert 1700 <= gap.duration_ms


def test_what_a_capture_process_said_before_it_died() -> None:
    script = "opened()\nblocks(5)\nos.write(2, b'double free\\n')\nos.kill(os.getpid(), 6)"
    with microphone(script) as mic:
        events = read_until(mic, lambda events: "lost" in notices(events))
    assert events[-1] == Notice(
        "lost", "the capture process died (Aborted: double free); restarting it"
    )


def test_without_the_configuration_of_alsa_waiting_does_not_help() -> None:
    said = "(snd_config_update_r) Cannot access file /n/alsa.conf\\n"
    with microphone(f"os.write(2, b'{said}')\nos.kill(os.getpid(), 6)", wait=True) as mic:
        with pytest.raises(DeviceError, match=r"/n/alsa\.conf.*libasound2-data") as raised:
            read_until(mic, bool)
    assert "\n" not in str(raised.value)
