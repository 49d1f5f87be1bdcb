"""Faults of a microphone, as its listener sees them: the real program, PortAudio and ALSA.

The bounds are what the product promises, measured with real clocks.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time

import pytest

from edge_asr.package.files import Package
from tests.fakemic.device import FakeMicrophone, Fault, Plug
from tests.fakemic.program import MicProgram, listen, rss_mib
from tests.tiny import tones

pytest_plugins = ["tests.fakemic.fixtures"]
pytestmark = pytest.mark.device

START_S = 20.0  # to load Python and the package on a busy machine: no promise
LOST_S = 0.5
BACK_S = 1.5
GAP_MS = 100
SPEECH = tones("▁one ▁two s 500 ▁two 1300")


def check_account(program: MicProgram, microphone: FakeMicrophone) -> None:
    """End the program: wall time must be what was heard and what was declared lost."""
    told_ns = time.monotonic_ns()
    assert program.stop() == 143
    ended_ns = time.monotonic_ns()
    summary = program.errors[-1]
    heard = re.fullmatch(r"edge-asr: heard ([\d.]+) s; lost (.*)", summary)
    assert heard, program.errors
    lost_s = [float(lost) for lost in re.findall(r"([\d.]+) s", heard[2])]
    # It may go on listening for the moment that it takes to decode what it has.
    least_s, most_s = (since_s(at_ns, microphone.spoken_at_ns(0)) for at_ns in (told_ns, ended_ns))
    assert least_s - 0.15 <= sum(lost_s, float(heard[1])) <= most_s + 0.05


def since_s(at_ns: int, then_ns: int) -> float:
    return (at_ns - then_ns) / 1e9


def test_unplugged_and_plugged_in_again(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("listening", START_S)
        for outage_s in (0.4, 1.7):
            program.expect("partial", 4)
            lost_before_ms = microphone.lost_ms
            unplugged_ns = microphone.inject(Fault.UNPLUGGED)
            lost = program.expect("lost", 5)
            assert since_s(lost.at_ns, unplugged_ns) <= LOST_S
            time.sleep(outage_s)
            plugged_ns = microphone.inject(Fault.NONE)
            gap = program.expect("gap", 5)
            back = program.expect("recovered", 5)
            assert since_s(back.at_ns, plugged_ns) <= BACK_S
            assert gap.fields["reason"] == "unplugged"
            truth_ms = microphone.lost_ms - lost_before_ms
            assert gap.duration_ms == pytest.approx(truth_ms, abs=GAP_MS)
        assert program.expect("final", 5).text
        check_account(program, microphone)


def test_stalled_without_a_word(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("partial", START_S)
        stalled_ns = microphone.inject(Fault.STALLED)
        stalled = program.expect("stalled", 5)
        assert since_s(stalled.at_ns, stalled_ns) <= 1.5
        time.sleep(0.5)
        running_ns = microphone.inject(Fault.NONE)
        gap = program.expect("gap", 5)
        back = program.expect("recovered", 5)
        assert since_s(back.at_ns, running_ns) <= BACK_S
        assert gap.fields["reason"] == "stalled"
        assert gap.duration_ms == pytest.approx(microphone.lost_ms, abs=GAP_MS)
        assert len(program.of("stalled")) == 1
        check_account(program, microphone)


def test_a_driver_that_hangs_is_killed(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("partial", START_S)
        hung_in = program.capture_pid
        hung_ns = microphone.inject(Fault.HUNG)
        stalled = program.expect("stalled", 5)
        assert since_s(stalled.at_ns, hung_ns) <= 1.5
        time.sleep(1.0)  # the next attempt hangs in open
        microphone.inject(Fault.NONE)
        gap = program.expect("gap", 8)
        program.expect("recovered", 1)
        assert program.capture_pid != hung_in
        assert gap.duration_ms == pytest.approx(microphone.lost_ms, abs=GAP_MS)
        check_account(program, microphone)


def test_lost_periods_are_declared_and_nothing_ends(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("listening", START_S)
        for outage_ms in (120, 400, 250):
            time.sleep(0.7)
            microphone.inject(Fault.XRUN, outage_ms=outage_ms)
            while microphone.fault != Fault.NONE:
                time.sleep(0.01)
        program.expect("gap", 3)
        time.sleep(1.0)
        truth_ms = microphone.lost_ms
        gaps = program.of("gap")
        declared_ms = sum(gap.duration_ms for gap in gaps)
        assert {gap.fields["reason"] for gap in gaps} == {"overflow"}
        assert declared_ms == pytest.approx(truth_ms, abs=max(20, 0.05 * truth_ms))
        assert not program.of("lost", "stalled", "recovered")
        check_account(program, microphone)


def test_a_capture_process_that_is_late_loses_what_the_device_lost(
    plug: Plug, tiny_package: Package
) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("listening", START_S)
        for stopped_ms in range(60, 160, 10):
            capture_pid = program.capture_pid
            assert capture_pid is not None
            os.kill(capture_pid, signal.SIGSTOP)
            time.sleep(stopped_ms / 1000)
            os.kill(capture_pid, signal.SIGCONT)
            time.sleep(0.4)
        time.sleep(8)  # in which a loss would be found, however small
        # The buffer of the device holds these delays, unless this machine makes them longer.
        declared_ms = sum(gap.duration_ms for gap in program.of("gap"))
        assert declared_ms == pytest.approx(microphone.lost_ms, abs=5)
        assert not program.of("lost", "stalled", "recovered")
        check_account(program, microphone)


def test_a_computer_that_is_too_slow_says_so(plug: Plug, tiny_package: Package) -> None:
    small_queue = "import edge_asr.microphone.child as c; c.QUEUE_MS = 900; c.QUEUE_KEPT_MS = 300"
    program_with_it = (
        "import sys\n"
        "from edge_asr.commands import mic\n"
        f"command = (sys.executable, '-c', {small_queue + '; c.main()'!r})\n"
        "mic.Microphone.__init__.__kwdefaults__['command'] = command\n"
        "sys.exit(mic.main())\n"
    )
    microphone = plug(SPEECH)
    with MicProgram(
        tiny_package.root,
        microphone.environment(),
        command=[sys.executable, "-c", program_with_it],
    ) as program:
        program.expect("listening", START_S)
        time.sleep(0.5)
        program.send(signal.SIGSTOP)
        time.sleep(4)  # a second fits into the pipe, another into the queue
        program.send(signal.SIGCONT)
        assert "a slow computer" in program.expect("overflow", 3).fields["message"]
        (gap,) = program.of("gap")
        assert gap.fields["reason"] == "overload"
        assert 1500 <= gap.duration_ms <= 3000
        assert microphone.lost_ms == 0
        check_account(program, microphone)


def test_muted_and_unmuted(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("partial", START_S)
        opened = microphone.times_opened
        muted_ns = microphone.inject(Fault.ZEROS)
        silent = program.expect("silent", 5)
        assert 1.5 <= since_s(silent.at_ns, muted_ns) <= 3.0
        time.sleep(1.0)
        loud_ns = microphone.inject(Fault.NONE)
        signal = program.expect("signal", 5)
        # The tone may be in its pause, which is digital silence as well.
        assert since_s(signal.at_ns, loud_ns) <= 1.5 + 0.5
        assert microphone.times_opened == opened
        assert len(program.of("silent")) == 1
        assert not program.of("gap", "lost", "stalled", "recovered")
        check_account(program, microphone)


def test_a_runaway_clock_is_given_up(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("partial", START_S)
        rss_before_mib = rss_mib(program.pid)
        ran_away_ns = microphone.inject(Fault.RUNAWAY)
        lost = program.expect("lost", 10)
        assert since_s(lost.at_ns, ran_away_ns) <= 1.5
        assert rss_mib(program.pid) - rss_before_mib < 50
        assert program.wait(15) == 74
        assert "faster than real time" in program.errors[-1]
        assert not any("Traceback" in line for line in program.errors)
