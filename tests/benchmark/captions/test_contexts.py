"""benchmark.captions.contexts: recordings with their texts, streams that start afresh or not, and
the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.captions import contexts
from benchmark.captions.contexts import joined
from benchmark.captions.cuts import PAUSES_S
from benchmark.streams import UTTERANCES
from edge_asr.bench.play import Clip
from edge_asr.package.files import Package
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer
from tests.benchmark.speech import write_set
from tests.tiny import RATE, tones


def test_recordings_hold_all_that_is_said_in_its_order() -> None:
    count = UTTERANCES + 3
    clips = [Clip(tones("▁one")[:, None], RATE)] * count
    texts = [f"word{number}" for number in range(count)]
    found = joined(clips, texts)
    assert [len(text.split()) for _, text in found] == [UTTERANCES, 3]
    assert " ".join(text for _, text in found).split() == texts
    pause_s = found[1][0].duration_s / 3 - clips[0].duration_s
    assert PAUSES_S[0] <= pause_s <= PAUSES_S[1]


def test_each_context_has_its_own_streams(
    tiny_package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []
    real = contexts.segment_texts

    def watched(recognizer: Recognizer, clip: Clip, decoding: Decoding) -> list[str]:
        asked.append((decoding.search, decoding.fresh_context))
        # A context that goes on costs a word, so that the columns cannot change places.
        return real(recognizer, clip, decoding) if decoding.fresh_context else ["one"]

    monkeypatch.setattr(contexts, "segment_texts", watched)
    spoken = [("▁one", "one", "a"), ("▁two s", "twos", "a")]
    recordings, out = write_set(tmp_path / "said", spoken, "dev"), tmp_path / "page.md"
    assert contexts.main([str(tiny_package.root), str(recordings), "-o", str(out)]) == 0
    searches = ("greedy", "prefix")
    assert asked == [(search, fresh) for search in searches for fresh in (True, False)]
    for search in searches:
        assert f"| said dev | {search} | 2 | 0.00 | 50.00 |" in out.read_text()
    assert len(json.loads(out.with_suffix(".json").read_text())["rows"]) == 2
    assert contexts.main([str(tmp_path / "none"), str(recordings)]) == 78
