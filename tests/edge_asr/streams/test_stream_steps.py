"""Streams driven by ``feed``, ``next_step`` and ``take``: the same events as from ``push``."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_asr.backends import Encoder
from edge_asr.errors import UsageError
from edge_asr.events import Event
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer
from edge_asr.streams.stream import Stream
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import RATE, play, tones

few = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SPEECH = tones("▁one s 400 ▁two 1200 ▁one ty ▁two")
OTHER = tones("900 ▁two ty 1100 ▁one ▁one s")


def take_rounds(encoder: Encoder, streams: list[Stream], events: list[list[Event]]) -> None:
    """Rounds of one step per stream, until all streams miss audio."""
    while True:
        requests = [stream.next_step() for stream in streams]
        if requests == [None] * len(streams):
            return
        results = [r and encoder.step(r.feats, r.offset, r.state) for r in requests]
        for stream, result, found in zip(streams, results, events, strict=True):
            if result is not None:
                found += stream.take(result)


@few
@given(
    cuts=st.tuples(*[st.lists(st.integers(0, len(SPEECH)), max_size=10)] * 2),
    chunks_ms=st.tuples(*[st.sampled_from([40, 200, 640])] * 2),
    rate=st.sampled_from([16000, 44100]),
    ends_in_rounds=st.booleans(),
)
def test_two_streams_share_an_encoder_step_by_step(
    recognizer: Recognizer,
    cuts: tuple[list[int], list[int]],
    chunks_ms: tuple[int, int],
    rate: int,
    ends_in_rounds: bool,
) -> None:
    signals = [SPEECH, OTHER]
    expected = [
        play(recognizer.stream(chunk_ms), signal, rate)
        for chunk_ms, signal in zip(chunks_ms, signals, strict=True)
    ]
    streams = [recognizer.stream(chunk_ms) for chunk_ms in chunks_ms]
    events: list[list[Event]] = [[], []]
    blocks = [
        np.split(signal, sorted(places)) for signal, places in zip(signals, cuts, strict=True)
    ]
    for pair in itertools.zip_longest(*blocks, fillvalue=np.zeros(0, np.float32)):
        for stream, block in zip(streams, pair, strict=True):
            stream.feed(block, rate)
        take_rounds(recognizer.encoder, streams, events)
    if ends_in_rounds:
        for stream in streams:
            stream.end_run()
        take_rounds(recognizer.encoder, streams, events)
    for stream, found in zip(streams, events, strict=True):
        found += stream.flush()
        check_guarantees(found)
    assert events == expected


@few
@given(cuts=st.lists(st.integers(0, len(SPEECH)), max_size=6))
def test_audio_may_wait_for_its_steps(recognizer: Recognizer, cuts: list[int]) -> None:
    stream = recognizer.stream(200)
    for block in np.split(SPEECH, sorted(cuts)):
        stream.feed(block)
    assert stream.flush() == play(recognizer.stream(200), SPEECH, RATE)


def test_a_push_decodes_what_was_fed_before(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    stream.feed(SPEECH[:30_000])
    assert stream.position_ms == 30_000 * 1000 // RATE
    events = stream.push(SPEECH[30_000:])
    assert events + stream.flush() == play(recognizer.stream(), SPEECH, RATE)


def test_a_step_is_offered_until_it_is_taken(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    assert stream.next_step() is None
    stream.feed(SPEECH)
    first, again = stream.next_step(), stream.next_step()
    assert first is not None and again is not None
    assert first.feats is again.feats
    assert (first.offset, again.offset) == (0, 0)
    stream.take(recognizer.encoder.step(first.feats, first.offset, first.state))
    second = stream.next_step()
    assert second is not None and second.offset == 16
    assert any(array.any() for array in second.state)


@pytest.mark.parametrize("ended", [False, True])
def test_a_snapshot_between_two_steps_goes_back(recognizer: Recognizer, ended: bool) -> None:
    stream = recognizer.stream(200)
    stream.feed(SPEECH)
    if ended:
        stream.end_run()
    before: list[Event] = []
    for _ in range(3):
        request = stream.next_step()
        assert request is not None
        before += stream.take(recognizer.encoder.step(request.feats, request.offset, request.state))
    snapshot = copy.deepcopy(stream.state)
    rest = stream.flush()
    assert before + rest == play(recognizer.stream(200), SPEECH, RATE)
    stream.push(OTHER)
    stream.state = snapshot
    assert stream.flush() == rest


def test_the_search_restarts_the_encoder_between_steps(recognizer: Recognizer) -> None:
    offsets = []
    for fresh in (True, False):
        stream = recognizer.stream(40, decoding=Decoding(fresh_context=fresh))
        stream.feed(SPEECH)
        offsets.append([])
        while (request := stream.next_step()) is not None:
            offsets[-1].append(request.offset)
            if request.offset == 0:
                assert not any(array.any() for array in request.state)
            stream.take(recognizer.encoder.step(request.feats, request.offset, request.state))
    assert [found.count(0) for found in offsets] == [2, 1]


def test_a_result_that_nobody_asked_for_is_refused(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    stream.feed(SPEECH)
    request = stream.next_step()
    assert request is not None
    result = recognizer.encoder.step(request.feats, request.offset, request.state)
    other = recognizer.stream()
    with pytest.raises(UsageError, match="next_step"):
        other.take(result)
    stream.close()
    for call in (stream.next_step, stream.end_run, lambda: stream.take(result)):
        with pytest.raises(UsageError, match="closed"):
            call()
    with pytest.raises(UsageError, match="closed"):
        stream.feed(SPEECH)


def test_between_the_end_of_a_run_and_its_flush_no_audio_is_taken(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    events = stream.push(SPEECH)
    stream.end_run()
    for call in (stream.feed, stream.push):
        with pytest.raises(UsageError, match="flush"):
            call(OTHER)
    assert events + stream.flush() == play(recognizer.stream(), SPEECH, RATE)
    assert stream.push(OTHER) != []
