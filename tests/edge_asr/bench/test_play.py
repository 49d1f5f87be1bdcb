"""The arithmetic of clips that are played without waiting."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from edge_asr.audio.recordings import Utterance
from edge_asr.backends import DecoderScores, Encoder, EncoderStep, FloatArray
from edge_asr.backends.state import State
from edge_asr.bench.play import (
    BLOCK_MS,
    Clip,
    Tally,
    TimedDecoder,
    TimedEncoder,
    choose_clips,
    play,
    read_clip,
    read_clips,
)
from edge_asr.events import Event, Final, Partial, Word
from edge_asr.package.files import Package
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer, load
from edge_asr.streams.stream import Stream
from tests.tiny import DECODER, RATE, FakeDecoder, tones

CHUNK_MS = 640
STEP_READS_MS = 640 + 45  # the chunk and what the encoder reads behind it
SPEECH = tones("▁one ▁two s 1500 ▁one")[:, None]


class SlowEncoder:
    """Takes ``cost_s`` of a clock of its own for each step, and nothing else takes time."""

    def __init__(self, encoder: Encoder, cost_s: float) -> None:
        self.now_s = 0.0
        self._encoder, self._cost_s = encoder, cost_s

    def clock(self) -> float:
        return self.now_s

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        self.now_s += self._cost_s
        return self._encoder.step(feats, offset, state)


def played(package: Package, cost_s: float, clip: Clip) -> tuple[Tally, TimedEncoder]:
    recognizer: Recognizer = load(package.root)
    slow = SlowEncoder(recognizer.encoder, cost_s)
    timed = TimedEncoder(slow, slow.clock)
    stream = Stream(timed, package.manifest, package.units, CHUNK_MS // 40)
    tally = Tally()
    play(stream, timed, clip, tally, slow.clock)
    return tally, timed


def arrival_ms(chunk: int) -> int:
    """When the block is there that completes a chunk, counted from 0."""
    return math.ceil((chunk * CHUNK_MS + STEP_READS_MS) / BLOCK_MS) * BLOCK_MS


def test_without_work_only_the_audio_is_waited_for(tiny_package: Package) -> None:
    clip = Clip(SPEECH, RATE)
    tally, _ = played(tiny_package, 0.0, clip)
    assert tally.work_s == 0
    assert tally.audio_s == pytest.approx(len(SPEECH) / RATE)
    # "one" ends at 400 ms and is in the first chunk; the other "one" is what flush brings.
    assert tally.first_partial_ms[0] == pytest.approx(arrival_ms(0) - 400)
    assert tally.final_after_flush_ms == [0]
    assert len(tally.endpoint_ms) == 1


def test_the_endpoint_counts_from_the_end_of_speech(tiny_package: Package) -> None:
    tally, _ = played(tiny_package, 0.0, Clip(SPEECH[: 3 * RATE // 2], RATE).with_quiet(2.5))
    # "twos" ends at 1040 ms. A second of silence behind its last frame ends within the 4th chunk.
    assert tally.endpoint_ms == [pytest.approx(arrival_ms(3) - 1040)]
    assert tally.final_after_flush_ms == []


def test_work_is_added_to_the_encoder_and_the_push(tiny_package: Package) -> None:
    tally, encoder = played(tiny_package, 0.1, Clip(SPEECH, RATE))
    in_pushes = sum(1 for chunk in range(20) if arrival_ms(chunk) <= len(SPEECH) * 1000 / RATE)
    assert tally.push_ms == pytest.approx([100] * in_pushes)
    assert encoder.steps > in_pushes, "flush takes steps too"
    assert tally.work_s == pytest.approx(0.1 * encoder.steps)
    assert tally.encoder_s == pytest.approx(tally.work_s)


def test_a_machine_that_falls_behind_is_late_by_all_of_it(tiny_package: Package) -> None:
    cost_s = 2.0  # of work for each 0.64 s of audio
    tally, encoder = played(tiny_package, cost_s, Clip(SPEECH, RATE))
    done_s = arrival_ms(0) / 1000 + cost_s * encoder.steps
    assert tally.final_after_flush_ms == [pytest.approx((done_s - len(SPEECH) / RATE) * 1000)]
    assert tally.first_partial_ms[0] == pytest.approx(arrival_ms(0) + cost_s * 1000 - 400)


def test_a_tally_adds_up_over_clips(tiny_package: Package) -> None:
    recognizer = load(tiny_package.root)
    slow = SlowEncoder(recognizer.encoder, 0.5)
    timed = TimedEncoder(slow, slow.clock)
    tally = Tally()
    timed.spent_s = 1000.0  # of what went before
    for _ in range(3):
        stream = Stream(timed, tiny_package.manifest, tiny_package.units, 16)
        play(stream, timed, Clip(SPEECH, RATE), tally, slow.clock)
    assert tally.encoder_s == pytest.approx(0.5 * timed.steps)
    assert tally.audio_s == pytest.approx(3 * len(SPEECH) / RATE)
    assert len(tally.final_after_flush_ms) == 3


class Scripted:
    """A stream that says what a test wants: events for each push, then for the flush."""

    def __init__(self, *events: list[Event]) -> None:
        self._events = list(events)

    def push(self, samples: object, rate: int) -> list[Event]:
        return self._events.pop(0) if len(self._events) > 1 else []

    def flush(self) -> list[Event]:
        return self._events.pop()


def test_partials_of_the_next_segment_may_come_first_and_finals_be_empty() -> None:
    def said(segment: int, text: str, end_ms: int) -> Final:
        return Final(segment, text, (Word(text, 0, end_ms, 1.0),), 0, end_ms)

    stream = Scripted(
        [Partial(0, "", "a", 50)],
        [Partial(1, "", "b", 100)],
        [Partial(1, "", "", 150), said(0, "a", 20)],
        [Final(1, "", (), 200, 200), Partial(2, "", "c", 200)],
        [said(2, "c", 170)],
    )
    tally, encoder = Tally(), TimedEncoder(SlowEncoder(None, 0.0), lambda: 0.0)  # type: ignore[arg-type]
    clip = Clip(np.zeros((4 * BLOCK_MS * RATE // 1000, 1), np.float32), RATE)
    play(stream, encoder, clip, tally, lambda: 0.0)  # type: ignore[arg-type]
    # "a" ends at 20 ms and is in the first block; "c" at 170, in the fourth.
    assert tally.first_partial_ms == [50 - 20, 200 - 170]
    assert tally.endpoint_ms == [150 - 20]
    assert tally.final_after_flush_ms == [0]


def test_the_time_of_a_decoder_is_kept(recognizer: Recognizer) -> None:
    now_s = [0.0]

    class Slow(FakeDecoder):
        def score(self, *arguments: Any) -> DecoderScores:
            now_s[0] += 0.25
            return super().score(*arguments)

    slow = Slow()
    decoder = TimedDecoder(slow, lambda: now_s[0])
    manifest = msgspec.structs.replace(recognizer.package.manifest, decoder=DECODER)
    package = dataclasses.replace(recognizer.package, manifest=manifest)
    able = dataclasses.replace(recognizer, package=package, decoder=decoder)
    with able.stream(decoding=Decoding(second_pass="inline")) as stream:
        stream.push(SPEECH, RATE)
        stream.flush()
    assert decoder.spent_s == 0.25 * len(slow.read) > 0


def test_quiet_is_quiet_and_not_nothing() -> None:
    clip = Clip(np.zeros((100, 2), np.float32), 48000).with_quiet(0.5)
    assert clip.samples.shape == (100 + 24000, 2)
    assert clip.samples.dtype == np.float32
    assert 0 < np.abs(clip.samples[100:]).max() < 1e-3


def test_a_clip_is_the_beginning_of_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.zeros((50000, 2)), 8000)
    clip = read_clip(path, 2.5)
    assert (clip.samples.shape, clip.rate) == ((20000, 2), 8000)
    assert read_clip(path, 100).duration_s == 6.25


def test_clips_are_so_much_audio_and_the_same_each_time(tmp_path: Path) -> None:
    utterances = []
    for number in range(4):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.full(8000, number / 10), 8000)
        utterances.append(Utterance(path, str(number), ""))
    clips = choose_clips(utterances, 2.5)
    assert [clip.duration_s for clip in clips] == [1, 1, 0.5]
    assert len({clip.samples[0, 0] for clip in clips}) == 3
    again = choose_clips(utterances, 2.5)
    assert all((a.samples == b.samples).all() for a, b in zip(clips, again, strict=True))
    given = read_clips([str(utterances[0].path), "never read"], 1.0)
    assert [clip.duration_s for clip in given] == [1]
