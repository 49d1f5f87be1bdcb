"""Streams: any blocking, flushes, gaps, snapshots, faults of the encoder, bad input."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_asr.audio.features import FbankState, fbank, flush_samples
from edge_asr.backends import Encoder, EncoderStep
from edge_asr.backends.state import State
from edge_asr.events import Event, Final, Gap, Partial, Status
from edge_asr.package.files import Package
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer, load
from edge_asr.streams.stream import Stream
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import ENCODER, FEATURES, MANIFEST, RATE, UNITS, FakeEncoder, Samples, play, tones

few = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SPEECH = tones("▁one s 400 ▁two 1200 ▁one ty ▁two")
SPOKEN = ["ones two", "onety two"]


def texts(events: Sequence[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def at_rate(samples: Samples, rate: int) -> Samples:
    """``samples`` at another rate; any resampling will do for tones."""
    times = np.arange(len(samples) * rate // RATE) * (RATE / rate)
    return np.interp(times, np.arange(len(samples)), samples).astype(np.float32)


@few
@given(
    data=st.data(),
    rate=st.sampled_from([16000, 48000, 44100, 8000]),
    channels=st.integers(1, 3),
    as_int16=st.booleans(),
)
def test_any_blocking_gives_the_same_events(
    recognizer: Recognizer, data: st.DataObject, rate: int, channels: int, as_int16: bool
) -> None:
    mono = at_rate(SPEECH, rate)
    noise = np.random.default_rng(0).standard_normal((len(mono), channels)) * 1e-3
    samples = (mono[:, None] * np.linspace(1, 0.5, channels) + noise).astype(np.float32)
    if as_int16:
        samples = (samples * 32767).astype(np.int16)
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=30))
    chunk_ms = data.draw(st.sampled_from([40, 320, 640]))
    whole = play(recognizer.stream(chunk_ms), samples, rate)
    assert play(recognizer.stream(chunk_ms), samples, rate, cuts) == whole
    # 8 kHz holds no tone of 4200 Hz.
    assert texts(whole) == SPOKEN or rate == 8000
    check_guarantees(whole)


def test_float_and_int16_say_the_same(recognizer: Recognizer) -> None:
    integers = (SPEECH * 32767).astype(np.int16)
    assert play(recognizer.stream(), integers, RATE) == play(
        recognizer.stream(), integers / 32768, RATE
    )


def test_the_chunk_changes_no_final(recognizer: Recognizer) -> None:
    finals = [
        [event for event in play(recognizer.stream(ms), SPEECH, RATE) if isinstance(event, Final)]
        for ms in (40, 200, 640, None)
    ]
    assert texts(finals[0]) == SPOKEN
    assert all(other == finals[0] for other in finals)


def test_words_are_where_the_tones_are(recognizer: Recognizer) -> None:
    finals = play(recognizer.stream(), tones("500 ▁one 400 ▁two"), RATE)
    (final,) = (event for event in finals if isinstance(event, Final))
    # 120 ms and 500 ms of silence, 200 ms of tone, 120 and 400 ms of silence, 200 ms of tone
    for word, start_ms in zip(final.words, (620, 1340), strict=True):
        assert abs(word.start_ms - start_ms) <= 80
        assert abs(word.end_ms - (start_ms + 200)) <= 120


@few
@given(
    count=st.integers(0, 12_000), chunk=st.sampled_from([1, 2, 5, 16]), cut=st.integers(0, 12_000)
)
def test_every_frame_is_encoded_exactly_once(count: int, chunk: int, cut: int) -> None:
    samples = np.random.default_rng(count).standard_normal(count).astype(np.float32) * 0.1
    encoder = FakeEncoder(ENCODER)
    stream = Stream(encoder, MANIFEST, UNITS, chunk)
    stream.push(samples[:cut])
    stream.push(samples[cut:])
    stream.flush()
    state = FbankState()
    state.pending = samples
    frames = fbank(samples, FEATURES)
    if len(frames):
        state.pending, state.frames = samples[len(frames) * FEATURES.shift_samples :], len(frames)
    frames = np.concatenate([frames, flush_samples(state, FEATURES)])
    encoded = np.concatenate([*encoder.own, np.zeros((0, FEATURES.num_mel_bins), np.float32)])
    np.testing.assert_array_equal(encoded[: len(frames)], frames)
    assert len(encoder.own) == -(-len(frames) // ENCODER.subsampling_rate)
    assert (encoded[len(frames) :] == frames[-1:]).all()


@few
@given(count=st.integers(0, 30_000), rate=st.sampled_from([8000, 44100, 48000]))
def test_flush_takes_the_rest_out_of_every_stage(count: int, rate: int) -> None:
    encoder = FakeEncoder(ENCODER)
    stream = Stream(encoder, MANIFEST, UNITS, 4)
    stream.push(np.full((count, 2), 0.1, np.float32), rate)
    stream.flush()
    heard = count * RATE // rate
    over = max(0, heard - FEATURES.window_samples)
    frames = 1 + -(-over // FEATURES.shift_samples) if heard else 0
    assert len(encoder.own) == -(-frames // ENCODER.subsampling_rate)
    assert stream.state.position_samples == heard


def test_push_after_flush_goes_on_with_the_clock(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    first, second = play(stream, SPEECH, RATE), play(stream, SPEECH, RATE)
    offset_ms = len(SPEECH) * 1000 // RATE
    check_guarantees([*first, *second])
    assert texts(second) == SPOKEN
    for before, after in zip(first, second, strict=True):
        assert shifted(before, lambda ms: ms + offset_ms, segments=2) == after
    assert stream.position_ms == 2 * offset_ms


def shifted(event: Event, move: Callable[[int], int], segments: int = 0) -> Event:
    """``event`` with all its times moved, and its segment."""
    event = copy.deepcopy(event)
    words = getattr(event, "words", ())
    for part in [event, *words, *(unit for word in words for unit in word.units)]:
        for name in ("start_ms", "end_ms", "at_ms"):
            if hasattr(part, name):
                object.__setattr__(part, name, move(getattr(part, name)))
    if isinstance(event, Partial | Final):
        object.__setattr__(event, "segment", event.segment + segments)
    return event


def test_flush_of_nothing_says_nothing(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    assert stream.flush() == []
    stream.push(np.zeros(1, np.float32))
    assert stream.flush() == []
    assert stream.flush() == []
    assert stream.position_ms == 0


def test_a_gap_ends_the_segment_and_moves_the_clock(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    events = stream.push(SPEECH) + stream.declare_gap(3_600_001, "unplugged")
    heard_ms = len(SPEECH) * 1000 // RATE
    assert events[-1] == Gap(heard_ms, heard_ms + 3_600_001, "unplugged")
    later = play(stream, SPEECH, RATE)
    check_guarantees([*events, *later])
    assert texts(events) == texts(later) == SPOKEN
    assert stream.position_ms == 2 * heard_ms + 3_600_001


def test_gaps_of_odd_length_add_up(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    for _ in range(300):
        stream.push(np.zeros(441, np.float32), 44100)
        stream.declare_gap(7, "overflow")
    assert stream.position_ms == 300 * (10 + 7)


def test_the_clock_counts_the_samples_that_are_decoded() -> None:
    # Formats that change all the time: what the filterbank gets is what the clock shows.
    encoder = FakeEncoder(ENCODER)
    stream = Stream(encoder, MANIFEST, UNITS, 1)
    for index in range(400):
        stream.push(np.full((331, 1 + index % 2), 0.1, np.float32), (44100, 48000)[index % 2])
    position_samples = stream.state.position_samples
    stream.flush()
    frames = -(-(position_samples - FEATURES.window_samples) // FEATURES.shift_samples) + 1
    assert len(encoder.own) == -(-frames // ENCODER.subsampling_rate)


@settings(few, max_examples=3)
@given(first=st.integers(0, len(SPEECH)), second=st.integers(0, len(SPEECH)))
def test_a_snapshot_goes_back(recognizer: Recognizer, first: int, second: int) -> None:
    speech = at_rate(SPEECH, 44100)[:, None].repeat(2, axis=1)
    stream = recognizer.stream()
    stream.push(speech[:first], 44100)
    snapshot = copy.deepcopy(stream.state)
    rest = play(stream, speech[first:], 44100)
    stream.state = snapshot
    stream.push(speech[second:], 44100)
    stream.state = snapshot
    assert play(stream, speech[first:], 44100) == rest
    other = recognizer.stream()  # one snapshot serves many times
    other.state = snapshot
    assert play(other, speech[first:], 44100) == rest


@pytest.mark.slow
@few
@given(cuts=st.lists(st.integers(0, len(SPEECH)), max_size=12))
def test_streams_share_a_recognizer(recognizer: Recognizer, cuts: list[int]) -> None:
    signals = [SPEECH, np.roll(SPEECH, len(SPEECH) // 3), SPEECH[::-1].copy()]
    alone = [play(recognizer.stream(), signal, RATE) for signal in signals]
    streams = [recognizer.stream() for _ in signals]
    together: list[list[Event]] = [[] for _ in signals]
    for start, end in itertools.pairwise([0, *sorted(cuts), len(SPEECH)]):
        for stream, signal, events in zip(streams, signals, together, strict=True):
            events += stream.push(signal[start:end])
    for stream, events in zip(streams, together, strict=True):
        events += stream.flush()
    assert together == alone


class BrokenNow(FakeEncoder):
    """The tone encoder with steps that give ``poison`` instead of numbers."""

    def __init__(self, encoder: Encoder, steps: set[int], poison: Callable[[EncoderStep], None]):
        super().__init__(ENCODER)
        self.encoder, self.steps, self.poison = encoder, steps, poison
        self.states: list[State] = []

    def step(self, feats: Samples, offset: int, state: State) -> EncoderStep:
        self.offsets.append(offset)
        self.states.append(state)
        result = self.encoder.step(feats, offset, state)
        if len(self.offsets) - 1 not in self.steps:
            return result
        poisoned = copy.deepcopy(result)
        self.poison(poisoned)
        return poisoned


def one_nan(result: EncoderStep) -> None:
    result.log_probs[0, -1, 3] = np.nan


def one_infinity(result: EncoderStep) -> None:
    result.log_probs[0, 0, 0] = np.inf


def a_frame_without_any_unit(result: EncoderStep) -> None:
    result.log_probs[0, 1] = -np.inf


def what_the_second_pass_reads(result: EncoderStep) -> None:
    result.encoder_out[0, 3, -1] = np.nan


def a_state_of_both_infinities(result: EncoderStep) -> None:
    result.state[0].reshape(-1)[:2] = np.inf, -np.inf


@pytest.mark.parametrize(
    "poison",
    [
        one_nan,
        one_infinity,
        a_frame_without_any_unit,
        what_the_second_pass_reads,
        a_state_of_both_infinities,
    ],
)
def test_an_encoder_without_numbers_is_started_afresh(
    recognizer: Recognizer, poison: Callable[[EncoderStep], None]
) -> None:
    encoder = BrokenNow(recognizer.encoder, {1}, poison)
    events = play(Stream(encoder, MANIFEST, UNITS, 16), SPEECH, RATE)
    check_guarantees(events)
    assert [(e.kind, e.at_ms) for e in events if isinstance(e, Status)] == [("recovered", 640)]
    assert encoder.offsets[:4] == [0, 16, 0, 16]
    assert not any(array.any() for array in encoder.states[2])
    assert texts(events)[-1] == SPOKEN[-1]  # said after the fault
    whole = play(recognizer.stream(), SPEECH, RATE)
    assert events[-1].words[-1].start_ms == whole[-1].words[-1].start_ms  # type: ignore[union-attr]


def test_an_encoder_that_never_gives_numbers_keeps_the_clock(recognizer: Recognizer) -> None:
    stream = Stream(BrokenNow(recognizer.encoder, {*range(99)}, one_nan), MANIFEST, UNITS, 16)
    events = play(stream, SPEECH, RATE)
    assert [e.at_ms for e in events if isinstance(e, Status)] == [
        640 * n for n in range(len(events))
    ]
    assert stream.position_ms == len(SPEECH) * 1000 // RATE


def test_samples_of_the_caller_are_copied(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    buffer, events = np.zeros(1000, np.float32), []
    for start in range(0, len(SPEECH), 1000):
        block = SPEECH[start : start + 1000]
        buffer[: len(block)] = block
        events += stream.push(buffer[: len(block)])
        buffer[:] = 9.0
    assert events + stream.flush() == play(recognizer.stream(), SPEECH, RATE)


def test_no_samples_of_another_format_change_nothing(recognizer: Recognizer) -> None:
    speech = at_rate(SPEECH, 44100)
    stream = recognizer.stream()
    events = stream.push(speech[:50_001], 44100)
    assert stream.push(np.zeros((0, 2), np.int16), 48000) == stream.push([]) == []
    events += stream.push(speech[50_001:], 44100)
    position_samples = stream.state.position_samples
    assert events + stream.flush() == play(recognizer.stream(), speech, 44100)
    assert position_samples == len(speech) * RATE // 44100


def test_integers_of_numpy_are_integers(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    state = copy.deepcopy(stream.state)
    state.origin_samples = 2**31 - 1
    stream.state = state
    stream.push(SPEECH, np.int32(44100))
    stream.declare_gap(np.int16(30_000), "stalled")
    samples = 2**31 - 1 + len(SPEECH) * RATE // 44100 + 30 * RATE
    assert stream.position_ms == samples * 1000 // RATE


@pytest.mark.parametrize("origin", [2**24 - 1, 2**24, 2**31 - 1, 2**32, 99 * 3600 * RATE, 2**53])
def test_long_positions_shift_times_and_nothing_else(recognizer: Recognizer, origin: int) -> None:
    early, late = recognizer.stream(), recognizer.stream()
    state = copy.deepcopy(late.state)
    state.origin_samples = origin
    late.state = state
    expected = [
        shifted(event, lambda ms: (origin + ms * RATE // 1000) * 1000 // RATE)
        for event in play(early, SPEECH, RATE)
    ]
    assert play(late, SPEECH, RATE) == expected


@pytest.mark.parametrize("frames", [2**24 - 1, 2**31 - 1, 2**32])
def test_long_runs_shift_times_and_nothing_else(recognizer: Recognizer, frames: int) -> None:
    early, late = recognizer.stream(), recognizer.stream()
    state = copy.deepcopy(late.state)
    state.text.search.frames = state.frames_seen_by_encoder = frames
    state.samples_of_closed_intakes = frames * 4 * FEATURES.shift_samples
    state.fbank.frames = 0
    late.state = state
    expected = [shifted(event, lambda ms: ms + frames * 40) for event in play(early, SPEECH, RATE)]
    assert play(late, SPEECH, RATE) == expected


def test_a_package_opens_streams_of_its_own(tiny_package: Package) -> None:
    assert texts(play(load(tiny_package.root).stream(), SPEECH, RATE)) == SPOKEN


@pytest.mark.parametrize("chunk", [1, 16])
def test_after_silence_the_encoder_starts_afresh(recognizer: Recognizer, chunk: int) -> None:
    # Two segments; the pauses inside them are too short to end one.
    for fresh, runs in ((True, 2), (False, 1)):
        encoder = BrokenNow(recognizer.encoder, set(), one_nan)
        decoding = Decoding(fresh_context=fresh)
        events = play(Stream(encoder, MANIFEST, UNITS, chunk, decoding), SPEECH, RATE)
        assert texts(events) == SPOKEN
        begins = [index for index, offset in enumerate(encoder.offsets) if offset == 0]
        assert len(begins) == runs
        for begin in begins:
            assert not any(array.any() for array in encoder.states[begin])
    assert encoder.offsets == [chunk * index for index in range(len(encoder.offsets))]


@pytest.mark.parametrize(
    ("package", "stream", "runs"),
    [(True, None, 2), (False, None, 1), (True, False, 1), (False, True, 2)],
)
def test_the_package_chooses_what_the_stream_does_not(
    recognizer: Recognizer, package: bool, stream: bool | None, runs: int
) -> None:
    encoder = BrokenNow(recognizer.encoder, set(), one_nan)
    manifest = msgspec.structs.replace(MANIFEST, fresh_context=package)
    play(Stream(encoder, manifest, UNITS, 16, Decoding(fresh_context=stream)), SPEECH, RATE)
    assert encoder.offsets.count(0) == runs


def test_a_segment_begun_in_the_same_step_keeps_its_context(recognizer: Recognizer) -> None:
    encoder = BrokenNow(recognizer.encoder, set(), one_nan)
    stream = Stream(encoder, MANIFEST, UNITS, 45)  # a second segment begins in the first step
    events = play(stream, tones("▁one 1100 ▁two 200 ▁one"), RATE)
    assert texts(events) == ["one", "two one"]
    assert encoder.offsets == [0, 45]
