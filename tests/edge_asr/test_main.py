"""``edge-asr`` as a program: its exit codes, and what it says when something is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr.__main__ import COMMANDS, main
from edge_asr.backends.table import BACKENDS
from edge_asr.package.files import Package
from tests.tiny import RATE, sealed, tones

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge_asr", *arguments]
    # Buffered as on most machines: what fails only at the end must be seen too.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": env} | options
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def damage_program(package: Package, speech: str) -> list[str]:
    path = package.root / "encoder.fp32.onnx"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    return ["transcribe", speech, "--package", str(package.root)]


def unknown_manifest_key(package: Package, speech: str) -> list[str]:
    path = package.root / "manifest.json"
    path.write_bytes(sealed(json.loads(path.read_text()) | {"surprise": 1}))
    return ["inspect", str(package.root)]


def bad_audio(name: str, content: bytes) -> Callable[[Package, str], list[str]]:
    def arrange(package: Package, speech: str) -> list[str]:
        path = Path(speech).with_name(name)
        path.write_bytes(content)
        return ["transcribe", str(path), "--package", str(package.root)]

    return arrange


def nan_audio(package: Package, speech: str) -> list[str]:
    soundfile.write(speech, np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    return ["transcribe", speech, "--package", str(package.root)]


def with_options(*options: str) -> Callable[[Package, str], list[str]]:
    def arrange(package: Package, speech: str) -> list[str]:
        return ["transcribe", speech, "--package", str(package.root), *options]

    return arrange


def audio_path(path: str) -> Callable[[Package, str], list[str]]:
    return lambda package, speech: ["transcribe", path, "--package", str(package.root)]


def bench_options(*options: str) -> Callable[[Package, str], list[str]]:
    return lambda package, speech: ["bench", "--package", str(package.root), *options]


BAD_INPUTS: dict[str, tuple[Callable[[Package, str], list[str]], int]] = {
    "no command": (lambda package, speech: [], 64),
    "unknown command": (lambda package, speech: ["caption"], 64),
    "no file": (lambda package, speech: ["transcribe"], 64),
    "missing package": (lambda package, speech: ["transcribe", speech, "--package", "none"], 78),
    "wrong hash": (damage_program, 78),
    "unknown manifest key": (unknown_manifest_key, 78),
    "missing audio": (audio_path("none.wav"), 66),
    "audio without a name": (audio_path(""), 66),
    "no audio": (bad_audio("a\nb.wav", b"RIFF????WAVEnonsense"), 65),
    "empty audio": (bad_audio("empty.wav", b""), 65),
    "NaN": (nan_audio, 65),
    "unknown backend": (with_options("--backend", "tpu"), 64),
    "backend not in the package": (with_options("--backend", "torchscript"), 78),
    "threads": (with_options("--threads", "0"), 64),
    "chunk": (with_options("--chunk-ms", "-1"), 64),
    "huge number": (with_options("--chunk-ms", "9" * 6000), 64),
    "format": (with_options("--format", "docx"), 64),
    "missing folder": (with_options("-o", "/no/such/folder/x.txt"), 73),
    "runs": (bench_options("--runs", "0"), 64),
    "recordings": (bench_options("--recordings", "none.tsv"), 66),
    "recordings by the old name": (bench_options("--manifest", "none.tsv"), 66),
    "recordings and audio": (bench_options("--recordings", "a.tsv", "--audio", "a.wav"), 64),
    "bench audio": (bench_options("--audio", "none.wav"), 66),
    "verify": (lambda package, speech: ["verify", "none"], 78),
}  # fmt: skip


@pytest.mark.parametrize(("arrange", "code"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_input_is_one_line_and_a_code(
    tiny_package: Package,
    speech: str,
    capsys: pytest.CaptureFixture[str],
    arrange: Callable[[Package, str], list[str]],
    code: int,
) -> None:
    assert main(arrange(tiny_package, speech)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("edge-asr: ")
    assert err.count("\n") == 1
    assert len(err) > len("edge-asr: \n")


def test_a_backend_that_is_not_installed(
    tiny_package: Package,
    speech: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = BACKENDS["onnx"]
    not_there = dataclasses.replace(there, module="edge_asr.backends.not_there")
    monkeypatch.setitem(BACKENDS, "onnx", not_there)
    assert main(["transcribe", speech, "--package", str(tiny_package.root)]) == 78
    err = capsys.readouterr().err
    assert there.install in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: edge-asr {name}")
    assert err == ""


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: edge-asr {{{','.join(COMMANDS)}}} ...\n")
    assert all(help_text in out for _, help_text in COMMANDS.values())


LIGHT = """
import sys
from edge_asr.__main__ import main
codes = [main(arguments) for arguments in (["--help"], ["--version"], ["transcribe", "--help"])]
heavy = {"numpy", "onnxruntime", "torch", "soundfile", "rich"} & set(sys.modules)
assert codes == [0, 0, 0], codes
assert not heavy, f"help loads {sorted(heavy)}"
"""


def test_help_is_light() -> None:
    result = subprocess.run(
        [sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_reader_that_goes_away_is_no_error(tiny_package: Package, speech: str) -> None:
    process = start("transcribe", *[speech] * 20, "--package", str(tiny_package.root))
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == f"==> {speech} <==\n"
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_reader_that_was_never_there_is_no_error(tiny_package: Package) -> None:
    # All of the output is in the buffer when the command ends, and must not fail after it.
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        process = start("inspect", str(tiny_package.root), stdout=pipe)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(tiny_package: Package) -> None:
    with open("/dev/full", "w") as full:
        process = start("inspect", str(tiny_package.root), stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 73
    assert err.startswith("edge-asr: ") and err.count("\n") == 1, err


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_without_a_traceback_or_a_remnant(
    tiny_package: Package, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, np.tile(tones("▁one ▁two s 1500 ▁one 1500"), 2000), RATE)
    folder = tmp_path / "captions"
    folder.mkdir()
    process = start("transcribe", str(long), "--package", str(tiny_package.root), "-o", str(folder))
    deadline = time.monotonic() + 60
    while not list(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", "")
    assert list(folder.iterdir()) == []


# Without those that Python itself needs before it finds edge_asr.
STRANGERS = ("numpy", "sounddevice", "soundfile", "soxr", "msgspec", "rich", "onnxruntime", "torch")
STANDARD = ("argparse", "dataclasses", "json", "queue", "random", "select", "subprocess", "typing")


@pytest.mark.parametrize(
    "words",
    [
        ["edge_asr.mic", "--list-devices"],
        ["edge_asr", "mic", "--list-devices"],
        ["edge_asr", "transcribe", "speech.wav"],
        ["edge_asr.bench.load"],
    ],
)
def test_what_lies_in_the_working_folder_is_not_imported(
    words: list[str], tmp_path: Path, tiny_package: Package
) -> None:
    ran = tmp_path / "ran"
    for name in (*STRANGERS, *STANDARD):
        mark = f"open({str(ran)!r}, 'a').write({name + chr(10)!r})\nraise ImportError\n"
        (tmp_path / f"{name}.py").write_text(mark)
    soundfile.write(tmp_path / "speech.wav", tones("▁one ▁two 400"), RATE)
    if words[-1] == "speech.wav":
        words = [*words, "--package", str(tiny_package.root)]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert not ran.exists(), (ran.read_text(), done.stderr)
    if "transcribe" in words:
        assert (done.returncode, done.stdout) == (0, "one two\n")


def test_a_copy_that_was_never_installed_runs_from_its_folder() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "edge_asr", "--version"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("edge-asr "), done.stderr
