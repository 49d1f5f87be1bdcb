"""What ``transcribe`` and ``mic`` read: pipes, raw samples, files that are cut short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge_asr.__main__ import main
from edge_asr.package.files import Package
from tests.edge_asr.audio.inputs import encoded
from tests.fakemic.program import ROOT
from tests.tiny import RATE, tones

SPEECH = tones("▁one ▁two s 1500 ▁one")
FIRST, SECOND = "one twos\n", "one\n"
COMMANDS = {"transcribe": ["transcribe"], "mic": ["mic", "--format", "plain", "--input"]}


@pytest.fixture
def wav() -> bytes:
    return encoded("wav-float", SPEECH, RATE)


def run(command: str, file: str, package: Package, *options: str) -> int:
    return main([*COMMANDS[command], file, "--package", str(package.root), *options])


def into_fifo(path: Path, data: bytes) -> str:
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()
    return str(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_with_a_name(
    command: str,
    wav: bytes,
    tiny_package: Package,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(command, into_fifo(tmp_path / "pipe", wav), tiny_package) == 0
    assert capsys.readouterr().out == FIRST + SECOND


@pytest.mark.parametrize("command", COMMANDS)
def test_raw_samples(
    command: str, tiny_package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "speech.raw"
    path.write_bytes((SPEECH * 32767).astype("<i2").tobytes())
    assert run(command, str(path), tiny_package, "--raw", str(RATE)) == 0
    assert capsys.readouterr().out == FIRST + SECOND
    assert run(command, str(path), tiny_package, "--raw", "16") == 64
    assert "--raw is '16'; allowed are RATE and RATE:CHANNELS" in capsys.readouterr().err


def test_raw_is_for_files(tiny_package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mic", "--raw", "16000", "--package", str(tiny_package.root)]) == 64
    assert "--raw is for --input FILE" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_text_of_a_cut_file_is_shown_and_the_rest_is_said(
    command: str,
    wav: bytes,
    tiny_package: Package,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "cut.wav"
    path.write_bytes(wav[: len(wav) - 4 * len(tones("1000 ▁one"))])
    assert run(command, str(path), tiny_package) == 65
    out, err = capsys.readouterr()
    assert out == FIRST
    (line,) = [line for line in err.splitlines() if "reading ended at" in line]
    assert line.startswith("edge-asr: ") and "are promised" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_the_text_before_damage_is_shown(
    command: str, tiny_package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = np.concatenate([SPEECH, np.full(RATE, np.nan, np.float32)])
    (tmp_path / "a.wav").write_bytes(encoded("wav-float", damaged, RATE))
    assert run(command, str(tmp_path / "a.wav"), tiny_package) == 65
    out, err = capsys.readouterr()
    assert out == FIRST + SECOND
    assert f"reading ended at {len(SPEECH) / RATE:.2f} s: samples hold NaN" in err


def test_the_text_of_a_cut_file_is_written_and_the_other_files_too(
    wav: bytes, tiny_package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.wav").write_bytes(wav[: len(wav) - 4 * len(tones("1000 ▁one"))])
    (tmp_path / "whole.wav").write_bytes(wav)
    folder = tmp_path / "captions"
    folder.mkdir()
    files = [str(tmp_path / "cut.wav"), str(tmp_path / "whole.wav")]
    options = ["--package", str(tiny_package.root), "-o", str(folder)]
    assert main(["transcribe", *files, *options]) == 65
    assert (folder / "cut.txt").read_text() == FIRST
    assert (folder / "whole.txt").read_text() == FIRST + SECOND
    assert capsys.readouterr().err.count("\n") == 1


# What comes before the last word; enough quiet for the first segment to end.
LIVE = tones("▁one ▁two s 6000 ▁one")
BEGINNING = len(LIVE) - len(tones("400 ▁one"))


def start(command: str, package: Package) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_asr", *COMMANDS[command], "-", "--package", package.root],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_captions_of_standard_input_come_before_its_end(
    command: str, tiny_package: Package
) -> None:
    wav = encoded("wav-float", LIVE, RATE)
    with start(command, tiny_package) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(wav[: 4 * BEGINNING])
        process.stdin.flush()
        assert process.stdout.readline().decode() == FIRST, "more may follow"
        process.stdin.write(wav[4 * BEGINNING :])
        process.stdin.close()
        assert process.stdout.read().decode() == SECOND
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_pipe(
    command: str, signum: signal.Signals, tiny_package: Package
) -> None:
    wav = encoded("wav-float", LIVE, RATE)
    with start(command, tiny_package) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(wav[: 4 * BEGINNING])
        process.stdin.flush()
        assert process.stdout.readline().decode() == FIRST
        time.sleep(0.3)  # it waits for more now
        process.send_signal(signum)
        assert process.wait(20) == 128 + signum
        assert process.stderr is not None and b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_standard_input_is_missing(command: str, tiny_package: Package) -> None:
    words = [sys.executable, "-m", "edge_asr", *COMMANDS[command], "-"]
    result = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *words, "--package", tiny_package.root],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (66, "")
    assert "standard input is closed" in result.stderr
