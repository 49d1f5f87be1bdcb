"""Audio files to text and subtitles."""

from __future__ import annotations

import argparse
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr.__main__ import main
from edge_asr.commands import transcribe
from edge_asr.commands.transcribe import plan_outputs, transcribe_file
from edge_asr.errors import BackendError, OutputError, UsageError
from edge_asr.package.files import Package
from edge_asr.streams.recognizer import load
from edge_asr.streams.stream import Stream
from edge_asr.testing import scripted
from tests.edge_asr.captions.test_captioner import FaultyStep
from tests.tiny import RATE, tones

SAID = ["one twos", "one"]


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """Speech, and after it what is no number."""
    path = tmp_path / "broken.wav"
    samples = np.concatenate([tones("▁one 1500 ▁two"), np.full(2 * RATE, np.nan, np.float32)])
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return str(path)


def run(package: Package, *arguments: str) -> int:
    return main(["transcribe", *arguments, "--package", str(package.root)])


def test_one_file_is_its_segments(
    tiny_package: Package, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_package, speech) == 0
    assert capsys.readouterr() == ("one twos\none\n", "")


def test_several_files_are_named_and_a_bad_one_stops_nothing(
    tiny_package: Package, speech: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing, empty = str(tmp_path / "none.wav"), tmp_path / "empty.wav"
    empty.write_bytes(b"")
    assert run(tiny_package, missing, speech, str(empty), speech) == 66, "the first error's code"
    out, err = capsys.readouterr()
    headings = [line for line in out.splitlines() if line.startswith("==> ")]
    assert headings == [f"==> {name} <==" for name in (missing, speech, str(empty), speech)]
    assert [line for line in out.splitlines() if line not in headings] == SAID * 2
    assert [line.split(":")[0] for line in err.splitlines()] == ["edge-asr"] * 2
    assert "none.wav" in err.splitlines()[0] and "empty.wav" in err.splitlines()[1]


def test_json_names_its_file(
    tiny_package: Package, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_package, speech, speech, "--format", "jsonl") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [segment["text"] for segment in found] == SAID * 2
    assert {segment["file"] for segment in found} == {speech}
    assert [segment["segment"] for segment in found] == [0, 1, 0, 1]


@pytest.mark.parametrize("style", ["text", "jsonl", "srt", "vtt"])
def test_a_folder_gets_what_stdout_would(
    tiny_package: Package,
    speech: str,
    style: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert run(tiny_package, speech, "--format", style) == 0
    shown = capsys.readouterr().out
    folder = tmp_path / "captions"
    folder.mkdir()
    assert run(tiny_package, speech, "--format", style, "-o", str(folder)) == 0
    (written,) = folder.iterdir()
    assert written.name == f"speech{transcribe.FORMATS[style]}"
    assert written.read_text(encoding="utf-8") == shown != ""
    assert written.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_segments_come_before_the_file_ends(tiny_package: Package, speech: str) -> None:
    log: list[str] = []
    done_s: list[float] = []

    def advance(seconds: float) -> None:
        done_s.append(seconds)
        log.append("read")

    recognizer = load(tiny_package.root)
    transcribe_file(lambda: recognizer.stream(640), speech, "text", log.append, advance)
    assert [line for line in log if line != "read"] == SAID
    assert "read" in log[log.index("one twos") :]
    assert done_s == sorted(done_s)
    assert done_s[-1] == pytest.approx(soundfile.info(speech).duration, abs=1e-3)


def test_what_was_said_before_the_damage_is_shown(
    tiny_package: Package, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_package, broken) == 65
    out, err = capsys.readouterr()
    assert out == "one\ntwo\n", "the segment that was open too"
    assert "NaN" in err


def test_what_was_said_before_the_damage_is_written(
    tiny_package: Package, broken: str, tmp_path: Path
) -> None:
    output = tmp_path / "captions.txt"
    output.write_text("old")
    assert run(tiny_package, broken, "-o", str(output)) == 65
    assert output.read_text() == "one\ntwo\n"


def test_an_input_that_is_no_audio_leaves_the_old_output(
    tiny_package: Package, tmp_path: Path
) -> None:
    output, text = tmp_path / "captions.txt", tmp_path / "text.wav"
    output.write_text("old")
    text.write_text("no audio")
    before = set(tmp_path.iterdir())
    assert run(tiny_package, str(text), "-o", str(output)) == 65
    assert output.read_text() == "old"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("output", ["-", "/dev/stdout", "/dev/fd/1"])
def test_standard_output_by_name(
    tiny_package: Package, speech: str, output: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert plan_outputs(["a.wav", "b.wav"], "text", output) == [None, None]
    assert run(tiny_package, speech, "-o", output) == 0
    assert capfd.readouterr().out == "one twos\none\n"
    assert not Path("-").exists()


def test_plans_that_would_lose_something_are_refused(tmp_path: Path, speech: str) -> None:
    folder = str(tmp_path)
    for files, style, output, reason in [
        (["a.wav", "b.wav"], "srt", None, "folder"),
        (["a.wav", "b.wav"], "text", str(tmp_path / "one.txt"), "folder"),
        (["x/a.wav", "y/a.flac"], "vtt", folder, "both"),
        (["a.wav", "a.wav"], "vtt", folder, "both"),
        ([speech], "text", speech, "is an input"),
    ]:
        with pytest.raises(UsageError, match=reason):
            plan_outputs(files, style, output)
    for missing in (tmp_path / "none" / "a.txt", f"{tmp_path}/none/"):
        with pytest.raises(OutputError, match="mkdir"):
            plan_outputs(["a.wav"], "text", str(missing))


def test_plans(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    transcribe.add_arguments(parser)
    assert parser.parse_args(["a.wav"]).output is None
    assert plan_outputs(["a.wav", "b.wav"], "text", None) == [None, None]
    assert plan_outputs(["a.wav"], "srt", str(tmp_path / "x")) == [tmp_path / "x"]
    assert plan_outputs(["q/a.b.wav", "-"], "srt", str(tmp_path)) == [
        tmp_path / "a.b.srt",
        tmp_path / "stdin.srt",
    ]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stdout_is_terminal", [False, True])
def test_a_bar_only_where_nothing_else_is_written(
    tiny_package: Package,
    tmp_path: Path,
    stdout_is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, np.tile(tones("▁one 3000"), 20), RATE)
    out = Terminal() if stdout_is_terminal else io.StringIO()
    err = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert run(tiny_package, str(long)) == 0
    assert out.getvalue() == "one\n" * 20
    minutes = "1.1 / 1.1 min" in err.getvalue() and "x real time" in err.getvalue()
    assert minutes is not stdout_is_terminal
    assert stdout_is_terminal is (err.getvalue() == "")


def test_segments_that_ended_before_an_error_in_the_same_block_are_written(tmp_path: Path) -> None:
    file, lines = tmp_path / "speech.wav", []
    soundfile.write(file, np.zeros(3 * RATE, np.float32), RATE)
    recognizer = scripted([("one", 120), ("two", 2000)])

    def opened() -> Stream:
        stream = recognizer.stream(160)
        stream._steps._encoder = FaultyStep(stream._steps._encoder, 9)  # in the second block
        return stream

    with pytest.raises(BackendError, match="gone"):
        transcribe_file(opened, str(file), "text", lines.append, lambda done_s: None)
    assert lines == ["one"]
