"""benchmark.streams: every utterance is in one stream, with its text."""

from __future__ import annotations

from pathlib import Path

from benchmark.streams import record_streams
from edge_asr.audio.recordings import Utterance
from edge_asr.bench.play import Clip
from edge_asr.streams.recognizer import Recognizer
from tests.tiny import RATE, tones


def test_streams_hold_every_utterance_once(recognizer: Recognizer) -> None:
    spoken = [Utterance(Path("x"), "a", f"word{number}") for number in range(45)]
    clips = [Clip(tones("s")[:, None], RATE)] * 45
    streams = record_streams(recognizer, spoken, clips, 640)
    assert [len(stream.text.split()) for stream in streams] == [20, 20, 5]
    said = [word for stream in streams for word in stream.text.split()]
    assert said != sorted(said) and set(said) == {one.text for one in spoken}
    for stream, count in zip(streams, (20, 20, 5), strict=True):
        pause_s = stream.clip.duration_s / count - clips[0].duration_s
        assert 0.3 <= pause_s <= 1.5
