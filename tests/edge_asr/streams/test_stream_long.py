"""Half an hour through one stream: flat memory, and at the end text as at the beginning."""

from __future__ import annotations

import dataclasses
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest

from edge_asr.events import Event, Final, Partial
from edge_asr.streams.recognizer import load
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import RATE, tones

MINUTES = 30
PHRASES = {
    "▁one ▁two 1500": "one two",  # ends in silence
    "▁one s ▁two ty 100 ▁one 400": "ones twoty one",  # never a second of silence
}
BLOCK = 1600
RSS_MIB = 8  # 25 minutes of samples alone would be 92, the events are about 2


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("phrase", PHRASES)
def test_half_an_hour(_built_tiny_package: Path, phrase: str) -> None:
    speech, stream = tones(phrase), load(_built_tiny_package).stream()
    events: list[Event] = []
    state_bytes, memory_mib = [], []
    for minute in range(MINUTES):
        for start in range(minute * 60 * RATE, (minute + 1) * 60 * RATE, BLOCK):
            block = np.take(speech, np.arange(start, start + BLOCK), mode="wrap")
            # The words of partials are many and would hide what the stream itself keeps.
            events += [
                dataclasses.replace(event, words=()) if isinstance(event, Partial) else event
                for event in stream.push(block)
            ]
        state_bytes.append(len(pickle.dumps(stream.state)))
        memory_mib.append(rss_mib())
    events += stream.flush()
    check_guarantees(events, partial_words=False)
    assert stream.position_ms == MINUTES * 60_000
    said = [word for event in events if isinstance(event, Final) for word in event.words]
    phrases, words = MINUTES * 60 * RATE // len(speech), PHRASES[phrase].split()
    assert [word.text for word in said[: phrases * len(words)]] == words * phrases
    assert len(said) - phrases * len(words) <= len(words)  # a phrase that was begun
    # Each phrase is where it was said, to a frame.
    for index in range(phrases):
        start_ms = said[0].start_ms + index * len(speech) * 1000 / RATE
        assert abs(said[index * len(words)].start_ms - start_ms) <= 40
    # The state holds at most a segment, whose length swings: what counts is that it has no trend.
    half = MINUTES // 2
    assert max(state_bytes[half:]) <= 1.1 * max(state_bytes[:half])
    assert memory_mib[-1] - memory_mib[4] < RSS_MIB
