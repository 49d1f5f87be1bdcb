"""benchmark.captions.cuts: recordings within the limit, texts that cuts change, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.captions import cuts
from benchmark.captions.cuts import LONGEST_S, NO_ENDPOINT, compare, recordings, segments
from edge_asr.bench.play import Clip
from edge_asr.package.files import Package
from edge_asr.search.endpoint import EndpointRule
from edge_asr.streams.recognizer import Recognizer
from tests.benchmark.speech import write_set
from tests.tiny import RATE, tones


def clip(text: str) -> Clip:
    return Clip(tones(text)[:, None], RATE)


def test_recordings_hold_each_clip_once_and_are_short_enough() -> None:
    clips = [Clip(np.full((round(s * RATE), 1), s, np.float32), RATE) for s in (1, 5, 9, 20, 27.5)]
    found = list(recordings(clips))
    assert all(len(one.samples) <= LONGEST_S * RATE for one in found)
    kept = np.unique(np.concatenate([one.samples[:, 0] for one in found]))
    assert [s for s in (1, 5, 9, 20, 27.5) if s in kept] == [1, 5, 9, 20], "27.5 s leave no pause"


def test_endpoints_cut_and_the_whole_is_one(recognizer: Recognizer) -> None:
    spoken = clip("▁one s 1200 ▁two 1200 ▁two")
    assert segments(recognizer, spoken, "greedy", EndpointRule()) == ["ones", "two", "two"]
    assert segments(recognizer, spoken, "prefix", NO_ENDPOINT) == ["ones two two"]


def test_a_word_that_a_cut_loses_is_counted(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [clip("▁one 1200 ▁two"), clip("▁two s")]
    honest = compare(recognizer, "tones", clips, "prefix")
    assert (honest.recordings, honest.equal, honest.words, honest.unlike) == (1, 1, 3, 0)
    assert honest.cuts == 2
    real = cuts.segments

    def lossy(*arguments: object) -> list[str]:
        found = real(*arguments)  # type: ignore[arg-type]
        return found if arguments[-1] is NO_ENDPOINT else found[1:]

    monkeypatch.setattr(cuts, "segments", lossy)
    broken = compare(recognizer, "tones", clips, "prefix")
    assert (broken.equal, broken.unlike) == (0, 1)


def test_the_page(tiny_package: Package, tmp_path: Path) -> None:
    recordings = write_set(tmp_path / "said", [("▁one", "one", "a"), ("▁two", "two", "a")], "test")
    out = tmp_path / "cuts.md"
    assert cuts.main([str(tiny_package.root), str(recordings), "-o", str(out)]) == 0
    assert "| said test | greedy | 1 | 1 | 1 | 2 | 0 |" in out.read_text()
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["search"] for row in rows] == ["greedy", "prefix"]
    assert cuts.main([str(tiny_package.root), str(tmp_path / "none.tsv")]) == 66
