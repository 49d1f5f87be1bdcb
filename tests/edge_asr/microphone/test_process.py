"""One capture process: read, killed in whatever state, and without a trace afterwards."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_asr.errors import DeviceError, UsageError
from edge_asr.microphone import process
from edge_asr.microphone.frames import FrameError, Kind
from edge_asr.microphone.process import CaptureProcess, list_devices
from tests.child import in_child
from tests.fakemic.program import alive

SEND = (
    "import os, signal, sys, time\n"
    "from edge_asr.microphone.frames import Kind, pack_facts\n"
    "fd = int(sys.argv[sys.argv.index('--fd') + 1])\n"
)


NO_CONFIGURATION = "ALSA lib conf.c:1:(snd_config_update_r) Cannot access file /n/alsa.conf\\n"
MISSING = "^ALSA cannot read its configuration /n/alsa.conf.* run: apt-get install libasound2-data"


def started(script: str) -> CaptureProcess:
    return CaptureProcess([], [sys.executable, "-c", SEND + script])


def read_all(child: CaptureProcess) -> list[object]:
    frames: list[object] = []
    deadline = time.monotonic() + 5
    while not child.ended and time.monotonic() < deadline:
        frames += child.read(1)
    return frames


def test_frames_arrive_and_the_end_is_seen() -> None:
    child = started("os.write(fd, pack_facts(Kind.OPENED, a=1))")
    (frame,) = read_all(child)
    child.kill()
    assert child.ended
    assert frame.kind == Kind.OPENED  # type: ignore[attr-defined]


def test_frames_before_garbage_count() -> None:
    child = started("os.write(fd, pack_facts(Kind.OPENED, a=1) + b'X' * 99)\ntime.sleep(9)")
    try:
        assert len(child.read(5)) == 1
        with pytest.raises(FrameError):
            child.read(5)
    finally:
        child.kill()


def test_a_child_that_refuses_to_end_is_killed() -> None:
    child = started(
        "[signal.signal(s, signal.SIG_IGN) for s in (2, 15, 1)]\n"
        "os.write(fd, pack_facts(Kind.OPENED))\ntime.sleep(60)"
    )
    assert child.read(5)
    child.kill()
    assert not alive(child.pid)


def test_a_child_that_dies_late_is_buried_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_REAP_S", 0.0)
    child = started("time.sleep(9)")
    monkeypatch.setattr(child._process, "kill", lambda: None)
    child.kill()
    assert process._unburied == [child._process]
    os.kill(child.pid, 9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    started("time.sleep(9)").kill()
    assert child._process not in process._unburied
    for late in process._unburied:
        late.wait(9)


def test_a_forked_process_neither_reads_nor_ends_the_capture() -> None:
    child = started("os.write(fd, pack_facts(Kind.OPENED))\ntime.sleep(60)")

    def refused() -> str:
        with pytest.raises(UsageError) as error:
            child.read(0)
        child.kill()
        return str(error.value)

    assert in_child(refused).endswith("open the microphone after the fork")
    assert len(child.read(5)) == 1 and alive(child.pid)
    child.kill()


LIVES = "from edge_asr.microphone.child import die_with_parent\n"
LIVES += "die_with_parent(int(sys.argv[sys.argv.index('--parent') + 1]))\n"


def test_a_child_outlives_the_thread_that_started_it() -> None:
    frame = "os.write(fd, pack_facts(Kind.OPENED))\n"
    children: list[CaptureProcess] = []

    def start() -> None:
        children.append(started(f"{LIVES}{frame}time.sleep(0.5)\n{frame}time.sleep(60)"))
        assert len(children[0].read(10)) == 1  # it is on its way, and only now this thread ends

    starter = threading.Thread(target=start)
    starter.start()
    starter.join()
    (child,) = children
    try:
        assert len(child.read(10)) == 1 and alive(child.pid)
    finally:
        child.kill()


def test_a_child_dies_with_the_process_that_started_it() -> None:
    def killed() -> int:
        child = started(LIVES + "os.write(fd, pack_facts(Kind.OPENED))\ntime.sleep(60)")
        assert child.read(10)
        return child.pid  # and this process ends, without a word

    pid = in_child(killed)
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_a_descriptor_may_have_any_number() -> None:
    def far() -> int:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
        while os.dup(0) < 1100:
            pass
        child = started("os.write(fd, pack_facts(Kind.OPENED))\ntime.sleep(60)")
        frames = child.read(10)
        child.kill()
        return len(frames)

    assert in_child(far) == 1


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        started("time.sleep(9)").kill()
    with pytest.raises(FileNotFoundError):
        CaptureProcess([], ["/nonexistent/program"])
    assert os.listdir("/proc/self/fd") == before


def test_the_child_finds_edge_asr_from_any_folder(tmp_path: Path) -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from edge_asr.microphone.process import CaptureProcess\n"
            "child = CaptureProcess([], [sys.executable, '-S', '-c', 'import edge_asr.events,"
            ' os, sys; os.write(int(sys.argv[2]), b"")\'])\n'
            "print(child._process.wait(9))\n",
            str(Path(process.__file__).parents[2]),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "0\n"


def test_a_list_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LIST_LIMIT_S", 0.3)
    command = (sys.executable, "-c", "import time; time.sleep(9)")
    monkeypatch.setattr(CaptureProcess.__init__, "__defaults__", (command,))
    with pytest.raises(DeviceError, match="did not answer"):
        list_devices()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("os.write(fd, pack_facts(Kind.ENDED, reason='broken', message='no such'))", "no such"),
        ("os.write(fd, b'X' * 99)", "the capture process failed"),
        ("os.kill(os.getpid(), 11)", r"died \(Segmentation fault\)$"),
        (
            "os.write(2, b'Assertion\\x1b x failed\\n\\n'); os.kill(os.getpid(), 6)",
            r"died \(Aborted: Assertion x failed\)$",
        ),
        ("raise MemoryError('x' * 999)", r"died \(MemoryError: x{187}\)$"),
        ("os._exit(0)", "died$"),
        (f"os.write(2, b'{NO_CONFIGURATION}'); os.kill(os.getpid(), 6)", MISSING),
    ],
)
def test_a_list_that_fails(script: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (sys.executable, "-c", SEND + script)
    monkeypatch.setattr(CaptureProcess.__init__, "__defaults__", (command,))
    with pytest.raises(DeviceError, match=message):
        list_devices()


@pytest.mark.device
def test_alsa_without_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "none"))
    with pytest.raises(DeviceError, match=f"configuration {tmp_path}/none.*libasound2-data"):
        list_devices()
