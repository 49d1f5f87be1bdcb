"""``python -m edge_asr.mic`` at a device: what it hears, how soon, and how it begins and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest

import edge_asr
from edge_asr.package.files import Package
from tests.fakemic.device import FakeMicrophone, Fault, Plug
from tests.fakemic.measure import captioned_after_s, speech
from tests.fakemic.program import ROOT, MicProgram, alive, cpu_s, listen, rss_mib
from tests.tiny import RATE, tones

pytest_plugins = ["tests.fakemic.fixtures"]
pytestmark = pytest.mark.device

START_S = 20.0  # to load Python and the package on a busy machine: no promise
CAPTION_S = 1.0
WORDS = ("one", "two")
CLIPS = ROOT / "tests/data/speech_commands"
# 1.42 s, no multiple of a chunk: the words end everywhere in it.
SPEECH = tones("▁one 270 ▁two 390")
WORD_ENDS = [index for index in np.flatnonzero(SPEECH) if not SPEECH[index + 1 : index + 800].any()]


def words_shown_at(program: MicProgram) -> list[tuple[str, int]]:
    """Every word with the CLOCK_MONOTONIC time at which it was first shown."""
    shown: list[tuple[str, int]] = []
    finished: list[str] = []
    for said in program.of("partial", "final"):
        words = [*finished, *said.text.split()]
        shown += [(word, said.at_ns) for word in words[len(shown) :]]
        if said.kind == "final":
            finished = words
    return shown


def caption_delays_s(program: MicProgram, microphone: FakeMicrophone) -> list[float]:
    """From the end of each word at the device to its caption; the words must be right."""
    assert len(WORD_ENDS) == len(WORDS)
    delays = []
    for index, (word, shown_ns) in enumerate(words_shown_at(program)):
        loop, place = divmod(index, len(WORDS))
        assert word == WORDS[place]
        frame = (loop * len(SPEECH) + WORD_ENDS[place]) * microphone.rate // RATE
        delays.append((shown_ns - microphone.spoken_at_ns(frame)) / 1e9)
    return delays


@pytest.mark.parametrize(
    ("rate", "channels", "ppm"), [(16_000, 1, 0), (48_000, 2, 900), (44_100, 1, -900)]
)
def test_captions_within_a_second_of_the_word(
    plug: Plug, tiny_package: Package, rate: int, channels: int, ppm: int
) -> None:
    microphone = plug(SPEECH, rate, channels)
    microphone.inject(Fault.NONE, clock_error_ppm=ppm)
    with listen(microphone, tiny_package) as program:
        listening = program.expect("listening", START_S)
        assert f"{rate} Hz, {channels} channel" in listening.fields["message"]
        time.sleep(5)
        assert program.stop() == 128 + signal.SIGTERM
        assert not program.of("gap", "lost", "stalled", "overflow")
        delays = caption_delays_s(program, microphone)
        assert len(delays) >= 6
        assert max(delays) <= CAPTION_S


def test_real_speech_with_the_bundled_model(plug: Plug) -> None:
    recognizer = edge_asr.load()
    # Three that the model is sure of: the way over 48 kHz must not change what they say.
    clips = [next(CLIPS.glob(f"{word}_*.flac")) for word in ("left", "stop", "yes")]
    samples, words = speech(recognizer, clips)
    assert [word for word, _ in words] == ["LEFT", "STOP", "YES"]
    microphone = plug(samples, 48_000, 2)
    with listen(microphone, recognizer.package) as program:
        program.expect("listening", START_S)
        time.sleep(len(samples) / RATE + 1)
        assert program.stop() == 128 + signal.SIGTERM
        assert not program.of("gap", "lost", "stalled", "overflow")
        assert [final.text for final in program.of("final")[:3]] == ["LEFT", "STOP", "YES"]
        delays = captioned_after_s(program, microphone, words)
        assert len(delays) >= len(words)
        assert max(delays) <= CAPTION_S


def test_the_device_is_listed(plug: Plug) -> None:
    microphone = plug(SPEECH, 48_000, 2)
    result = subprocess.run(
        [sys.executable, "-m", "edge_asr.mic", "--list-devices"],
        cwd=ROOT,
        env=microphone.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split(maxsplit=1) for line in result.stdout.replace("*", " ").splitlines()]
    assert ["0", "fakemic  (2 channels, 48000 Hz)"] in lines
    assert result.stdout.count("*") == 1
    assert result.stderr == ""


def test_nothing_is_lost_while_the_recognizer_is_stuck(plug: Plug, tiny_package: Package) -> None:
    hog = (
        "import ctypes, sys, threading, time\n"
        "def hold_the_gil():\n"
        "    while True:\n"
        "        ctypes.PyDLL(None).usleep(140_000)\n"
        "        time.sleep(0.01)\n"
        "threading.Thread(target=hold_the_gil, daemon=True).start()\n"
        "from edge_asr.mic import main\n"
        "sys.exit(main())\n"
    )
    microphone = plug(SPEECH)
    with MicProgram(
        tiny_package.root, microphone.environment(), command=[sys.executable, "-c", hog]
    ) as program:
        program.expect("partial", START_S)
        time.sleep(1.5)
        program.send(signal.SIGSTOP)
        time.sleep(2.5)
        program.send(signal.SIGCONT)
        program.skip()
        time.sleep(2)
        assert program.stop() == 128 + signal.SIGTERM
        assert not program.of("gap", "lost", "stalled", "overflow")
        words = [word for word, _ in words_shown_at(program)]
        assert words == list(islice(cycle(WORDS), len(words)))
        assert len(words) >= 8
        assert microphone.lost_ms == 0


def test_waits_for_the_first_sound_system(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    settings = microphone.home / ".asoundrc"
    settings.rename(microphone.home / "later")
    with listen(microphone, tiny_package) as program:
        waiting = program.expect("waiting", START_S)
        assert "no microphone" in waiting.fields["message"]
        time.sleep(1.5)
        assert len(program.of("waiting")) == 1
        (microphone.home / "later").rename(settings)
        appeared = time.monotonic_ns()
        listening = program.expect("listening", 5)
        assert (listening.at_ns - appeared) / 1e9 <= 1.5
        assert program.expect("partial", 5).text
        assert not program.of("gap", "lost")


def test_waits_for_a_device_in_use(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    microphone.inject(Fault.BUSY)
    with listen(microphone, tiny_package) as program:
        waiting = program.expect("waiting", START_S)
        assert "in use" in waiting.fields["message"]
        time.sleep(1)
        assert len(program.of("waiting")) == 1
        free_ns = microphone.inject(Fault.NONE)
        listening = program.expect("listening", 5)
        assert (listening.at_ns - free_ns) / 1e9 <= 1.5
        assert program.expect("partial", 5).text


@pytest.mark.parametrize("fault", [Fault.UNPLUGGED, Fault.BUSY])
def test_no_wait_ends_with_one_line(plug: Plug, tiny_package: Package, fault: Fault) -> None:
    microphone = plug(SPEECH)
    microphone.inject(fault)
    with listen(microphone, tiny_package, "--no-wait") as program:
        assert program.wait(START_S) == 69
        assert not program.said
        (line,) = program.errors
        assert line.startswith("edge-asr: ")
        assert ("in use" if fault == Fault.BUSY else "no microphone") in line


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_last_words_are_written(
    plug: Plug, tiny_package: Package, signum: signal.Signals
) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("partial", START_S)
        sent_ns = program.send(signum)
        assert program.wait(5) == 128 + signum
        ended_ns = time.monotonic_ns()
        assert (ended_ns - sent_ns) / 1e9 <= 5
        assert program.said[-1].kind == "final"
        words = program.said[-1].text.split()
        assert words
        assert words == list(islice(cycle(WORDS), len(words)))
        assert program.errors[-1].startswith("edge-asr: heard ")
        assert len(program.errors) == 1


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (Fault.UNPLUGGED, "lost"),
        (Fault.STALLED, "stalled"),
        (Fault.HUNG, "partial"),
        (Fault.HUNG, "stalled"),
    ],
)
def test_ends_in_every_state(plug: Plug, tiny_package: Package, fault: Fault, state: str) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("partial", START_S)
        child = program.capture_pid
        microphone.inject(fault)
        if state != "partial":
            program.expect(state, 5)
        time.sleep(0.2)
        assert program.stop(5) == 128 + signal.SIGTERM
        finals = program.of("final")
        assert finals
        assert not any(said.kind == "partial" for said in program.said[-1:])
        assert child is not None
        assert not alive(child)
        microphone.inject(Fault.NONE)


@pytest.mark.parametrize("fault", [Fault.UNPLUGGED, Fault.BUSY, Fault.HUNG])
def test_ends_while_it_waits(plug: Plug, tiny_package: Package, fault: Fault) -> None:
    microphone = plug(SPEECH)
    microphone.inject(fault)
    with listen(microphone, tiny_package) as program:
        if fault == Fault.HUNG:
            time.sleep(2.0)
        else:
            program.expect("waiting", START_S)
        assert program.stop(5) == 128 + signal.SIGTERM
        assert program.errors == ["edge-asr: heard 0.0 s; lost nothing"]
        microphone.inject(Fault.NONE)


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.HUNG])
def test_the_capture_process_never_survives(
    plug: Plug, tiny_package: Package, fault: Fault
) -> None:
    microphone = plug(SPEECH)
    microphone.inject(fault)
    with listen(microphone, tiny_package) as program:
        if fault == Fault.NONE:
            program.expect("listening", START_S)
        while (child := program.capture_pid) is None:
            time.sleep(0.01)
        time.sleep(0.5)  # it hangs while it opens the device
        program.send(signal.SIGKILL)
        time.sleep(1.0)
        assert not alive(child)
        microphone.inject(Fault.NONE)


def test_a_reader_that_leaves_is_no_error(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    command = [sys.executable, "-m", "edge_asr.mic", "--package", str(tiny_package.root)]
    program = subprocess.Popen(
        [*command, "--format", "jsonl"],
        cwd=ROOT,
        env=microphone.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    first = json.loads(program.stdout.readline())
    assert first["kind"] == "listening"
    program.stdout.close()
    try:
        program.wait(10)
    finally:
        program.kill()
    assert program.stderr is not None
    errors = program.stderr.read()
    program.stderr.close()
    assert program.returncode == 128 + signal.SIGPIPE
    assert errors == ""


def test_many_losses_leave_nothing_behind(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(SPEECH)
    with listen(microphone, tiny_package) as program:
        program.expect("listening", START_S)
        sizes = []
        for _ in range(6):
            microphone.inject(Fault.UNPLUGGED)
            program.expect("lost", 5)
            microphone.inject(Fault.NONE)
            program.expect("recovered", 5)
            descriptors = len(os.listdir(f"/proc/{program.pid}/fd"))
            children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text()
            sizes.append((descriptors, len(children.split()), rss_mib(program.pid)))
        assert {(descriptors, children) for descriptors, children, _ in sizes} == {(sizes[0][0], 1)}
        assert sizes[-1][2] - sizes[2][2] < 2


def test_listening_and_waiting_cost_little(plug: Plug, tiny_package: Package) -> None:
    microphone = plug(tones("3000"))
    with listen(microphone, tiny_package) as program:
        program.expect("listening", START_S)
        child = program.capture_pid
        assert child is not None
        before_s = cpu_s(child)
        time.sleep(2)
        assert cpu_s(child) - before_s < 0.05 * 2
        microphone.inject(Fault.UNPLUGGED)
        program.expect("lost", 5)
