"""Streams: utterances joined, as one speaker after another in a room would say them, and texts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmark.replay import Recording, blocks, join, record
from edge_asr.audio.recordings import Utterance
from edge_asr.audio.windows import ChunkMs
from edge_asr.bench.play import Clip
from edge_asr.events import Final
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer

PAUSES_S = (0.3, 1.5)
UTTERANCES = 20  # in one stream
_BLOCK_S = 1.0


def record_streams(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    clips: Sequence[Clip],
    chunk_ms: ChunkMs,
    seed: int = 0,
) -> list[Recording]:
    """Streams of ``UTTERANCES``, shuffled, with pauses of ``PAUSES_S`` between them, encoded."""
    rng = random.Random(seed)
    pairs = list(zip(utterances, clips, strict=True))
    rng.shuffle(pairs)
    streams = []
    for begin in range(0, len(pairs), UTTERANCES):
        group = pairs[begin : begin + UTTERANCES]
        clip = join([clip for _, clip in group], [rng.uniform(*PAUSES_S) for _ in group])
        text = " ".join(utterance.text for utterance, _ in group)
        streams.append(record(recognizer, clip, text, "", chunk_ms))
    return streams


def segment_texts(
    recognizer: Recognizer, clip: Clip, decoding: Decoding, chunk_ms: ChunkMs = None
) -> list[str]:
    """The texts of all segments of a stream of the clip, empty ones too."""
    with recognizer.stream(chunk_ms, decoding=decoding) as stream:
        events = [e for block in blocks(clip, _BLOCK_S) for e in stream.push(block, clip.rate)]
        events += stream.flush()
    return [event.text for event in events if isinstance(event, Final)]
