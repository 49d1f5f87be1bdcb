"""benchmark.speed.levers: the order of what is measured, levers that do not stay, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.speed.levers import Setting, group_of, main, measure_speed, settings
from benchmark.speed.levers_report import Row
from edge_asr.bench.play import Clip
from edge_asr.native.library import Levers, built
from edge_asr.streams.recognizer import load
from tests import tiny

ROOT = Path(__file__).resolve().parents[3]
CLIPS = ROOT / "tests" / "data" / "clips.tsv"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """int8 on both dispatches with int4 in groups of 32, and int4 in groups of 64."""
    if not (built() and built("onnx")):
        pytest.skip("not built; run: make native")
    from export.__main__ import main as export  # torch

    folder = tmp_path_factory.mktemp("levers")
    source = str(ROOT / "tests/data/wenet-moe")
    common = ["--roles", "encoder", "--backends", "onnx"]
    first, second = folder / "first", folder / "second"
    both = ["--precision", "int8,int4", "--dispatch", "both"]
    assert export([source, "-o", str(first), *both, *common]) == 0
    alone = ["--precision", "int4", "--group", "64", "--dispatch", "native"]
    assert export([source, "-o", str(second), *alone, *common]) == 0
    return [first, second]


@pytest.mark.slow
def test_settings_and_the_whole_command(packages: list[Path], tmp_path: Path) -> None:
    chosen = list(settings(packages, "onnx"))
    plain = [setting.name for setting in chosen if setting.levers == Levers()]
    assert plain == ["int8 native", "int8 portable", "int4 g32", "int4 g64"]
    assert all(s.recognizer.program.dispatch == "native" for s in chosen if s.levers != Levers())
    assert group_of(chosen[-1].recognizer) == "g32", "levers are pulled on the first package"

    out = tmp_path / "levers.md"
    arguments = [*map(str, packages), "--recordings", str(CLIPS), "-o", str(out)]
    assert main([*arguments, "--rounds", "1", "--audio-s", "2", "--shared"]) == 0
    text = out.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| int")]
    assert len(rows) == len(chosen)
    assert "1.00 (1.00 to 1.00)" in rows[0] and "preliminary" in text
    assert "| top-1 |" in rows[4] and "| 1.00 |" in rows[4]
    assert out.with_suffix(".svg").read_text().startswith("<?xml")
    assert len(json.loads(out.with_suffix(".json").read_text())["rows"]) == len(chosen)
    weights = load(packages[0], dispatch="native").encoder.weights  # type: ignore[attr-defined]
    weights.counters()
    load(packages[0], dispatch="native").transcribe(ROOT / "tests/data/an4/an406-fcaw-b.flac")
    counters = weights.counters()
    assert counters.pairs == 2 * counters.rows, "no lever stays behind"


def test_ratios_are_of_one_round() -> None:
    """A machine that becomes ten times slower does not move them."""
    times = iter([5.0, 5.0, 1.0, 2.0, 10.0, 20.0])
    chosen = [_setting("a", times), _setting("b", times)]
    rows = [Row("a", Levers(), 0), Row("b", Levers(), 0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.Random.shuffle", lambda self, order: order.sort())
        patch.setattr("benchmark.speed.levers._play", lambda setting, clips, chunk: setting.play())
        measure_speed(chosen, rows, [Clip(tiny.tones("s")[:, None], tiny.RATE)], 2, None)
    assert rows[0].work_ratios == [1.0, 1.0]
    assert rows[1].work_ratios == rows[1].encoder_ratios == [2.0, 2.0]


class _Fake(Setting):
    def play(self) -> object: ...


def _setting(name: str, times: object) -> Setting:
    from edge_asr.bench.play import Tally

    class Timed(_Fake):
        def play(self) -> Tally:
            took = next(times)  # type: ignore[call-overload]
            return Tally(audio_s=1.0, work_s=took, encoder_s=took)

    return Timed(name, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [["--rounds", "-1"], ["--audio-s", "0"], ["--audio-s", "nan"]])
def test_wrong_usage(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere", "--recordings", str(CLIPS), *options]) == 64
    assert capsys.readouterr().err.count("\n") == 1


def test_no_such_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path / "nowhere"), "--recordings", str(CLIPS)]
    assert main([*arguments, "-o", str(tmp_path / "out.md")]) == 78
    assert "nowhere" in capsys.readouterr().err and not (tmp_path / "out.md").exists()
