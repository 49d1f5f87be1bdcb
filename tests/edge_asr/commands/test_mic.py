"""The command line of the microphone, with files and scripted sources in its place."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edge_asr
from edge_asr.captions import captioner as captioners
from edge_asr.captions.captioner import Captioner
from edge_asr.commands import interruption as interruptions
from edge_asr.commands import mic
from edge_asr.commands.interruption import Interruption
from edge_asr.commands.mic import main
from edge_asr.errors import DeviceError
from edge_asr.events import Event, Final, Gap, Status
from edge_asr.fusion.hotword_file import HotwordList
from edge_asr.fusion.hotword_text import Phrase
from edge_asr.microphone import process as capture_process
from edge_asr.microphone.capture import Notice
from edge_asr.microphone.clock import Block, Heard, Lost
from edge_asr.package.files import Package
from edge_asr.search.decoding import Decoding
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
    assert capture_process.CAPTURE_COMMAND[-1] == "edge_asr.microphone.child"


class Shown:
    """Captions that remember."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.lags: list[int] = []
        self.warnings: list[str] = []

    def show(self, event: Event) -> None:
        self.events.append(event)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def refresh(self, meter: object) -> None:
        self.lags.append(meter.lag_ms)  # type: ignore[attr-defined]

    def close(self) -> None:
        pass


class Script:
    """A source that gives what a test says, and does what it says on the way."""

    lag_ms = 70

    def __init__(self, *steps: object, rest: tuple[Heard, ...] = ()) -> None:
        self.steps = list(steps)
        self.rest = rest
        self.closed = 0

    @property
    def ended(self) -> bool:
        return not self.steps

    def read(self, timeout_s: float) -> list[Heard | Notice]:
        step = self.steps.pop(0)
        if callable(step):
            step()
            return []
        assert isinstance(step, list)
        return step

    def close(self) -> list[Heard | Notice]:
        self.closed += 1
        return list(self.rest)


def audio(samples: np.ndarray) -> list[Block]:
    parts = np.split(samples[:, None], range(800, len(samples), 800))
    return [Block(part, RATE, 0) for part in parts]


def caption(
    tiny_package: Package, source: Script, interruption: Interruption | None = None
) -> tuple[Captioner, Shown]:
    shown = Shown()
    with edge_asr.load(tiny_package.root).stream() as stream:
        captioner = Captioner(stream, shown)
        captioner.run(source, interruption.came if interruption else lambda: False)
    assert source.closed == 1
    return captioner, shown


def texts(shown: Shown) -> list[str]:
    return [event.text for event in shown.events if isinstance(event, Final)]


def test_words_before_a_loss_are_finished_at_once(tiny_package: Package) -> None:
    source = Script(
        audio(tones("▁one 200")),
        [Notice("lost", "gone")],
        [Lost(1500, "unplugged"), *audio(tones("▁two 200"))],
    )
    captioner, shown = caption(tiny_package, source)
    kinds = [event for event in shown.events if isinstance(event, Final | Gap | Status)]
    first, status, gap, second = kinds
    assert isinstance(first, Final) and isinstance(second, Final)
    assert (first.text, second.text) == ("one", "two")
    assert isinstance(status, Status) and status.kind == "lost"
    assert isinstance(gap, Gap) and gap.end_ms - gap.start_ms == 1500
    spoken_ms = len(tones("▁one 200")) * 1000 / RATE
    assert captioner.summary() == f"heard {2 * spoken_ms / 1000:.1f} s; lost 1.5 s unplugged"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_captured_before_a_signal_is_captioned(
    tiny_package: Package, signum: signal.Signals
) -> None:
    before = [signal.getsignal(every) for every in interruptions.SIGNALS]
    one, two = audio(tones("▁one 200")), audio(tones("▁two 200"))
    source = Script(one, lambda: signal.raise_signal(signum), two, [], rest=(Lost(40, "overload"),))
    with Interruption() as interruption:
        captioner, shown = caption(tiny_package, source, interruption)
        # The next signal is not caught: who insists, ends it.
        assert all(signal.getsignal(every) == signal.SIG_DFL for every in interruptions.SIGNALS)
    assert [signal.getsignal(every) for every in interruptions.SIGNALS] == before
    assert interruption.signum == signum
    assert " ".join(texts(shown)) == "one two"
    assert captioner.summary().endswith("lost 0.0 s overload")


def test_words_before_an_error_are_finished(tiny_package: Package) -> None:
    def fail() -> None:
        raise DeviceError("no")

    shown = Shown()
    source = Script(audio(tones("▁one 200")), fail, [])
    with edge_asr.load(tiny_package.root).stream() as stream, pytest.raises(DeviceError):
        Captioner(stream, shown).run(source)
    assert texts(shown) == ["one"]
    assert source.closed == 1


def test_the_lag_of_the_source_is_shown(tiny_package: Package) -> None:
    _, shown = caption(tiny_package, Script(audio(tones("▁one"))))
    assert set(shown.lags) == {70}


def test_hotwords_follow_their_file(
    tiny_package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioners, "REFRESH_S", 0.0)  # so that every read looks at the file
    file = tmp_path / "words.txt"
    file.write_text("two\n")
    hotwords = HotwordList(["one"], str(file))
    shown, given = Shown(), []

    def change(text: str) -> object:
        return lambda: file.write_text(text)

    with edge_asr.load(tiny_package.root).stream(hotwords=hotwords.phrases) as stream:
        set_hotwords = stream.set_hotwords

        def observe(phrases: Sequence[Phrase]) -> tuple[str, ...]:
            given.append(tuple(phrases))
            return set_hotwords(phrases)

        monkeypatch.setattr(stream, "set_hotwords", observe)
        source = Script(
            *(audio(tones("▁one")), change("two\ntwos\n"), audio(tones("▁two")), [], []),
            *(change("two\tmany\n"), audio(tones("s")), [], change("zebra"), [], file.unlink, []),
        )
        Captioner(stream, shown, hotwords).run(source)
    assert given == [("one", "two", "twos"), ("one", "zebra")]
    assert len(shown.warnings) == 3, "each once"
    assert "words.txt' line 1: the bonus is 'many'" in shown.warnings[0]
    assert shown.warnings[0].endswith("; the old hotwords stay")
    assert shown.warnings[1].startswith("hotword 'zebra' is left out")
    assert "no such file" in shown.warnings[2]
    assert texts(shown) == ["one twos"]


def test_greedy_search_keeps_to_no_hotwords(
    tiny_package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioners, "REFRESH_S", 0.0)
    file = tmp_path / "words.txt"
    file.write_text("# none yet\n")
    hotwords, shown = HotwordList((), str(file)), Shown()
    decoding = Decoding(search="greedy")
    with edge_asr.load(tiny_package.root).stream(decoding=decoding) as stream:
        source = Script(lambda: file.write_text("two\n"), [], audio(tones("▁one")), [])
        Captioner(stream, shown, hotwords).run(source)
    assert [warning.split(";")[0] for warning in shown.warnings] == [
        "greedy search takes no hotwords"
    ]
    assert texts(shown) == ["one"]


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
