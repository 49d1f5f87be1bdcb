"""benchmark.search.steps: numbers that stay probabilities, fresh searches, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.search import steps as search_speed
from benchmark.search.steps import flat, searches, time_chunks, widen, wider_units
from edge_asr.search.decoding import Decoding
from edge_asr.search.greedy import greedy
from edge_asr.streams.recognizer import Recognizer
from tests.benchmark.speech import CLIPS, write_set
from tests.tiny import UNITS


def test_wider_log_probs_are_probabilities_and_say_the_same() -> None:
    rng = np.random.default_rng(3)
    raw = rng.normal(0, 4, (50, len(UNITS)))
    narrow = (raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))).astype(np.float32)
    wide = widen(narrow, 500)
    assert wide.shape == (50, 500) and np.exp(wide).sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert [t.id for t in greedy(wide, 0)] == [t.id for t in greedy(narrow, 0)]
    assert np.allclose(wide[:, : len(UNITS)], narrow, atol=2e-4)


def test_flat_is_flat() -> None:
    found = flat(20, 1000)
    assert np.exp(found.astype(np.float64)).sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert np.ptp(found) < 1.2


def test_wider_units_are_units() -> None:
    units = wider_units(UNITS, 5000)
    assert len(set(units.symbols)) == 5000 and units.symbols[: len(UNITS)] == UNITS.symbols
    assert 0.4 < units.starts_word.mean() < 0.6


def test_an_encoder_runs_before_each_chunk_and_is_not_counted() -> None:
    order: list[int] = []

    class Search:
        def push(self, log_probs: np.ndarray) -> None:
            order.append(len(log_probs))

    took_ms = list(time_chunks(Search(), flat(40, 8), 16, lambda: order.append(-1)))  # type: ignore[arg-type]
    assert order == [-1, 16, -1, 16, -1, 8] and len(took_ms) == 3


def test_searches_start_anew() -> None:
    found = searches(wider_units(UNITS, 200), Decoding(beam=4, second_pass="off"), ["one", "two"])
    assert len(found) == 4
    for make in found.values():
        one, other = make(), make()
        one.push(flat(30, 200))
        assert one is not other and getattr(other, "frames", 0) == 0


def test_the_whole_command(recognizer: Recognizer, tmp_path: Path) -> None:
    recordings, out = write_set(tmp_path / "set", [("▁one ▁two", "", "a")], "x"), tmp_path / "p.md"
    root = str(recognizer.package.root)
    arguments = [root, str(recordings), "--rounds", "1", "--vocab", "300", "-o", str(out)]
    assert search_speed.main(arguments) == 0
    text = out.read_text()
    assert text.count("| speech |") == text.count("| flat |") == 4
    assert "of 27 ms (27.0 ms)" in text and "runs before" not in text
    assert search_speed.main([*arguments, "--encoder", root]) == 0
    assert "An encoder step runs before each chunk" in out.read_text()
    figures = json.loads(out.with_suffix(".json").read_text())
    assert figures["active"]["flat"] == 100 and figures["encoders_ms"]["tiny"] > 0


@pytest.mark.parametrize(
    "options", [["--vocab", "10"], ["--rounds", "0"], ["--audio-s", "nan"], ["--chunk", "0"]]
)
def test_wrong_usage(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert search_speed.main(["nowhere", str(CLIPS), *options]) == 64
    assert capsys.readouterr().err.count("\n") == 1
