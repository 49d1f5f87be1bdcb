"""benchmark.replay: a replayed stream says what the stream itself says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.replay import finals, join, read_clips, record, replay, texts
from edge_asr.audio.recordings import read_recordings
from edge_asr.audio.windows import ChunkMs
from edge_asr.bench.play import Clip
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer, load
from tests.benchmark.speech import CLIPS
from tests.tiny import RATE, tones

TEXT = "▁one ▁two s 1500 ▁two ty 400 ▁one"


@pytest.mark.slow
@pytest.mark.parametrize("chunk_ms", [40, 160, 640, None, "whole"])
@pytest.mark.parametrize("search", ["greedy", "prefix"])
def test_replay_is_the_stream(recognizer: Recognizer, chunk_ms: ChunkMs, search: str) -> None:
    clip = Clip(tones(TEXT)[:, None], RATE)
    decoding = Decoding(search=search)  # type: ignore[arg-type]
    expected = []
    with recognizer.stream(chunk_ms, decoding=decoding) as stream:
        for start in range(0, len(clip.samples), 800):
            expected += stream.push(clip.samples[start : start + 800], RATE)
        expected += stream.flush()
    recording = record(recognizer, clip, "ONE TWOS TWOTY ONE", "anna", chunk_ms)
    found = list(replay(recognizer, recording, decoding, block_s=0.05))
    assert [event for _, event in found] == expected
    assert texts(recognizer, [recording], decoding) == ["one twos twoty one"]
    times = [pushed_ms for pushed_ms, _ in found]
    assert times == sorted(times) and times[-1] == len(clip.samples) * 1000 // RATE
    assert all(event.at_ms <= ms for ms, event in found if hasattr(event, "at_ms"))


def test_hotwords_reach_the_search(recognizer: Recognizer) -> None:
    """The same steps, another text."""
    clip = Clip(tones("▁one ty")[:, None], RATE)
    recording = record(recognizer, clip, "", "", 640)
    recording.steps[0].log_probs[..., 6] -= 30  # ty is not so sure
    plain = texts(recognizer, [recording], Decoding())
    wanted = texts(recognizer, [recording], Decoding(score_beam=100), [("onety", 20.0)])
    assert plain == ["one"]
    assert "onety" in wanted[0].split()


def test_joined_clips_keep_their_samples_and_pauses() -> None:
    clips = [Clip(tones(unit)[:, None], RATE) for unit in ("s", "ty")]
    joined = join(clips, [0.5, 0.25])
    first, second = (clip.samples for clip in clips)
    assert len(joined.samples) == len(first) + len(second) + RATE * 3 // 4
    assert np.array_equal(joined.samples[: len(first)], first)
    assert np.array_equal(joined.samples[-len(second) - RATE // 4 : -RATE // 4], second)


@pytest.mark.slow
def test_real_speech_with_both_passes() -> None:
    recognizer = load()
    utterances = read_recordings(CLIPS)[:3]
    decoding = Decoding(second_pass="inline", nbest=5)
    for utterance, clip in zip(utterances, read_clips(utterances), strict=True):
        recording = record(recognizer, clip, utterance.text, utterance.speaker, 320)
        expected = recognizer.transcribe(utterance.path, 320, decoding=decoding)
        assert tuple(finals(recognizer, recording, decoding)) == expected.segments


def test_a_recording_list_is_read_whole() -> None:
    utterances = read_recordings(Path(CLIPS))
    clips = read_clips(utterances)
    assert [round(clip.duration_s, 1) for clip in clips][:3] == [4.0, 2.2, 1.5]
