"""The benchmark as a function."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import msgspec
import pytest
import soundfile

from edge_asr.bench.load import LoadFigures
from edge_asr.bench.measure import BenchConfig, measure
from edge_asr.errors import ConfigError, UsageError
from edge_asr.package.files import Package
from edge_asr.streams.recognizer import Recognizer
from tests.tiny import DECODER, RATE, FakeDecoder, tones

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", tones("▁one ▁two"), RATE)
    soundfile.write(tmp_path / "b.wav", tones("▁two ▁one"), RATE)
    path = tmp_path / "test.tsv"
    rows = ["path\tseconds\tspeaker\ttext", "a.wav\t1\tanna\tone two", "b.wav\t1\tbert\ttwo six"]
    path.write_text("\n".join([*rows, ""]))
    return path


@pytest.mark.usefixtures("briefly")
def test_word_errors_of_a_recording_list(tiny_package: Package, recordings: Path) -> None:
    said: list[str] = []
    report = measure(
        BenchConfig(tiny_package.root, recordings=recordings, runs=1),
        lambda what, done, of: said.append(what),
    )
    errors = report.word_errors
    assert errors is not None
    assert (errors.wer, errors.substitutions, errors.words) == (0.25, 1, 4)
    assert (errors.deletions, errors.insertions) == (0, 0)
    assert (errors.utterances, errors.speakers) == (2, 2)
    assert report.source == "test.tsv"
    assert dict.fromkeys(said) == dict.fromkeys(["loading", "speed", "endpoints", "word errors"])


@pytest.mark.usefixtures("briefly")
def test_audio_is_as_long_as_it_must_be(
    tiny_package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = LoadFigures(0.0, 0.0, 0, 0)  # a fresh process would be half a second for nothing
    monkeypatch.setattr("edge_asr.bench.load.measure_load", lambda *setting: figures)
    long = tmp_path / "long.wav"
    soundfile.write(long, tones("▁one 9000 ▁two"), RATE)
    report = measure(BenchConfig(tiny_package.root, audio=(long, Path("never read")), runs=1))
    assert report.audio_s == 4.0


@pytest.mark.usefixtures("briefly")
def test_the_second_pass_is_measured_inline(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = LoadFigures(0.0, 0.0, 0, 0)
    settings: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        "edge_asr.bench.load.measure_load",
        lambda *setting: settings.append(setting) or figures,  # type: ignore[func-returns-value]
    )
    spec = msgspec.structs.replace(DECODER, max_frames=1000)  # the golden samples are long
    manifest = msgspec.structs.replace(recognizer.package.manifest, decoder=spec)
    package = dataclasses.replace(recognizer.package, manifest=manifest)

    def load(*arguments: object, second_pass: bool, **options: object) -> Recognizer:
        decoder = FakeDecoder() if second_pass else None
        return dataclasses.replace(recognizer, package=package, decoder=decoder)

    monkeypatch.setattr("edge_asr.streams.recognizer.load", load)
    report = measure(BenchConfig("tiny", runs=1))
    assert report.second_pass
    shares = report.encoder_share, report.decoder_share, report.python_share
    assert sum(share.median for share in shares) == pytest.approx(1)
    assert all(0 < share.median < 1 for share in shares)
    assert "% (" in next(
        line for line in report.as_table().splitlines() if line.startswith("second pass")
    )
    without = measure(BenchConfig("tiny", runs=1, second_pass=False))
    assert (without.second_pass, without.decoder_share.max) == (False, 0.0)
    assert [setting[-1] for setting in settings] == [True, False]


def test_jiwer_is_asked_for_before_the_work(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ConfigError, match="pip install jiwer"):
        measure(BenchConfig("no such package", recordings=recordings))


def test_a_list_without_words_is_refused(tiny_package: Package, recordings: Path) -> None:
    recordings.write_text("path\tseconds\tspeaker\ttext\na.wav\t1\tanna\t \n")
    with pytest.raises(ConfigError, match=r"test\.tsv: holds no words"):
        measure(BenchConfig(tiny_package.root, recordings=recordings))


def test_settings_are_named_as_settings(recordings: Path) -> None:
    with pytest.raises(UsageError, match=r"^runs is 0; allowed are 1 to 1000$"):
        measure(BenchConfig(runs=0))
    with pytest.raises(UsageError, match=r"^recordings and audio exclude each other"):
        measure(BenchConfig(recordings=recordings, audio=(Path("a.wav"),)))
