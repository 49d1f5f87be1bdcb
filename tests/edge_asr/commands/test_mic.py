"""The command line of the microphone, with files in its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edge_asr
from edge_asr.commands import mic
from edge_asr.commands.mic import main
from edge_asr.microphone import process
from edge_asr.package.files import Package
from tests.fakemic.program import ROOT
from tests.tiny import RATE, tones

SPEECH = tones("▁one ▁two s 1300 ▁two 400")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, SPEECH, RATE, "FLOAT")
    return path


def test_a_file_becomes_lines(
    speech: Path, tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--input", str(speech), "--package", str(tiny_package.root)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["one twos", "two"]
    assert err == f"edge-asr: reading '{speech}', 16000 Hz, 1 channel\n"


def test_json_lines_say_the_same_as_the_recognizer(
    speech: Path, tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--input", str(speech), "--package", str(tiny_package.root), "--chunk-ms", "320"]
    assert main([*arguments, "--format", "jsonl"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    finals = [event for event in events if event["type"] == "final"]
    expected = edge_asr.load(tiny_package.root).transcribe(speech, chunk_ms=320).segments
    assert [final["text"] for final in finals] == [segment.text for segment in expected]
    assert [final["end_ms"] for final in finals] == [segment.end_ms for segment in expected]
    assert next(event["segment"] for event in events if event["type"] == "partial") == 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--foo"], "--foo"),
        (["--input", "x.wav", "--device", "1"], "leave --device out"),
        (["--input", "x.wav", "--list-devices"], "takes the place of a microphone"),
        (["--realtime"], "--realtime is for --input"),
        (["--device", ""], "--device is empty"),
        (["--chunk-ms", "641"], "multiples of 40"),
        (["--chunk-ms", "0"], "multiples of 40"),
        (["--chunk-ms", "x"], "--chunk-ms"),
        (["--threads", "0"], "threads"),
        (["--backend", "abacus"], "abacus"),
        (["--format", "braille"], "--format"),
    ],
)
def test_wrong_usage(
    arguments: list[str], part: str, tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--package", str(tiny_package.root), *arguments]) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err
    assert err.startswith("edge-asr: ")
    assert err.count("\n") == 1


def not_a_number(path: Path) -> None:
    soundfile.write(path, np.full(2000, np.nan, np.float32), RATE, "FLOAT")


@pytest.mark.parametrize(
    ("name", "make", "code"),
    [
        ("missing.wav", lambda path: None, 66),
        ("", lambda path: None, 66),
        ("text.wav", lambda path: path.write_text("no audio"), 65),
        ("empty.wav", lambda path: path.write_bytes(b""), 65),
        ("folder.wav", lambda path: path.mkdir(), 65),
        ("nan.wav", not_a_number, 65),
    ],
)
def test_files_that_cannot_be_captioned(
    name: str,
    make: object,
    code: int,
    tmp_path: Path,
    tiny_package: Package,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = str(tmp_path / name) if name else ""
    make(tmp_path / name) if name else None  # type: ignore[operator]
    assert main(["--input", path, "--package", str(tiny_package.root)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert repr(path)[1:-1] in err
    assert err.count("\n") == 1


def test_a_list_without_devices(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mic, "list_devices", list)
    assert main(["--list-devices"]) == 0
    assert capsys.readouterr() == ("", "edge-asr: no microphone is present\n")


def test_a_list_of_devices(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = {"index": 3, "name": "a\x1b[2Jb", "channels": 1, "rate": 48000, "is_default": True}
    other = device | {"index": 12, "channels": 2, "is_default": False, "name": "c"}
    monkeypatch.setattr(mic, "list_devices", lambda: [device, other])
    assert main(["--list-devices"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "*  3  a[2Jb  (1 channel, 48000 Hz)",
        "  12  c  (2 channels, 48000 Hz)",
    ]


def test_portaudio_is_looked_for_in_another_process() -> None:
    assert "sounddevice" not in sys.modules
    assert process.CAPTURE_COMMAND[-1] == "edge_asr.microphone.child"


@pytest.mark.slow
def test_a_full_disk_is_one_line(speech: Path, tiny_package: Package) -> None:
    package = tiny_package.root
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "edge_asr.mic", "--input", speech, "--package", package],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 73
    assert result.stderr.splitlines()[1:] == [
        "edge-asr: captions cannot be written to stdout: No space left on device"
    ]


def test_captions_without_standard_error(speech: Path, tiny_package: Package) -> None:
    command = f'"{sys.executable}" -m edge_asr.mic --input "$0" --package "$1" 2>&-'
    result = subprocess.run(
        ["sh", "-c", command, speech, tiny_package.root],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "one twos\ntwo\n")


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-"])
def test_json_lines_stay_json_whatever_is_closed(
    closed: str, speech: Path, tiny_package: Package
) -> None:
    # The hotword cannot be written, of which a line on stderr warns.
    arguments = '--input "$0" --package "$1" --format jsonl --hotword "Ω"'
    result = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m edge_asr.mic {arguments} {closed}',
         speech, tiny_package.root],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    types = [json.loads(line)["type"] for line in result.stdout.splitlines()]
    assert types.count("final") == 2
    assert ("Ω" in result.stderr) == ("2>" not in closed)
