"""Encoder steps, recorded once and replayed through whole streams.

An utterance is encoded once for each chunk, and each way of decoding reads the same steps:
features, windows, search, second pass and events are those of every stream, only the encoder's
numbers come out of memory. They are those of a stream with greedy search. Of the search an encoder
knows only when silence ended a segment, after which it starts afresh; another search may find that
in another step, and what a replay says may then differ a little from what its own stream would say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from edge_asr.audio.recordings import Utterance
from edge_asr.audio.windows import ChunkMs
from edge_asr.backends import Encoder, EncoderStep, FloatArray
from edge_asr.backends.state import State
from edge_asr.bench.play import BLOCK_MS, Clip, read_clip
from edge_asr.events import Event, Final
from edge_asr.fusion.hotword_text import Phrase
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer

_LONGEST_S = 3600.0
_BLOCK_S = 10.0  # what a file is pushed in where nothing depends on it
GREEDY = Decoding(search="greedy", second_pass="off")


@dataclass(frozen=True)
class Recording:
    """A clip with its text, and what the encoder made of it in chunks of ``chunk_ms``."""

    clip: Clip
    text: str
    speaker: str
    chunk_ms: ChunkMs
    steps: tuple[EncoderStep, ...]  # without states

    @property
    def log_probs(self) -> FloatArray:
        """(T', V) of the whole clip; frames after its end are those of the padding."""
        return np.concatenate([step.log_probs[0] for step in self.steps])


class _Recorder:
    """An encoder that keeps what it says."""

    def __init__(self, encoder: Encoder) -> None:
        self.steps: list[EncoderStep] = []
        self._encoder = encoder

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        result = self._encoder.step(feats, offset, state)
        self.steps.append(EncoderStep(result.encoder_out, result.log_probs, ()))
        return result


class _Replayer:
    """An encoder that says again what was recorded; its state stays as it is."""

    def __init__(self, steps: Sequence[EncoderStep]) -> None:
        self._steps = iter(steps)

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        return replace(next(self._steps), state=state)


def set_name(path: Path) -> str:
    """How pages call a test set: its corpus, which is the folder, and its part."""
    return f"{path.parent.name} {path.stem}"


def read_clips(utterances: Sequence[Utterance]) -> list[Clip]:
    """The recordings of a list, whole.

    Raises:
        InputMissingError, AudioError: one cannot be read.
    """
    return [read_clip(str(utterance.path), _LONGEST_S) for utterance in utterances]


def record(
    recognizer: Recognizer, clip: Clip, text: str, speaker: str, chunk_ms: ChunkMs
) -> Recording:
    """Encode a clip.

    Raises:
        UsageError: a chunk that the package does not allow.
    """
    encoder = _Recorder(recognizer.encoder)
    with replace(recognizer, encoder=encoder).stream(chunk_ms, decoding=GREEDY) as stream:
        for block in blocks(clip, _BLOCK_S):
            stream.push(block, clip.rate)
        stream.flush()
    return Recording(clip, text, speaker, chunk_ms, tuple(encoder.steps))


def record_all(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    clips: Sequence[Clip],
    chunk_ms: ChunkMs,
    label: str,
) -> list[Recording]:
    """``record`` of each utterance, with a bar."""
    pairs = list(zip(utterances, clips, strict=True))
    return [
        record(recognizer, clip, utterance.text, utterance.speaker, chunk_ms)
        for utterance, clip in track(pairs, label, console=Console(stderr=True), transient=True)
    ]


def replay(
    recognizer: Recognizer,
    recording: Recording,
    decoding: Decoding,
    hotwords: Sequence[Phrase] = (),
    block_s: float = _BLOCK_S,
) -> Iterator[tuple[int, Event]]:
    """All events, each with the ms of audio that had been pushed when it came.

    Raises:
        UsageError: see ``Recognizer.stream``.
    """
    encoder = _Replayer(recording.steps)
    with replace(recognizer, encoder=encoder).stream(
        recording.chunk_ms, hotwords=hotwords, decoding=decoding
    ) as stream:
        for block in blocks(recording.clip, block_s):
            for event in stream.push(block, recording.clip.rate):
                yield stream.position_ms, event
        end_ms = stream.position_ms
        for event in stream.flush():
            yield end_ms, event


def finals(
    recognizer: Recognizer,
    recording: Recording,
    decoding: Decoding,
    hotwords: Sequence[Phrase] = (),
) -> list[Final]:
    """What ``replay`` says in the end."""
    events = replay(recognizer, recording, decoding, hotwords)
    return [event for _, event in events if isinstance(event, Final)]


def texts(
    recognizer: Recognizer,
    recordings: Sequence[Recording],
    decoding: Decoding,
    hotwords: Sequence[Phrase] = (),
) -> list[str]:
    """What is said of each recording."""
    return [
        " ".join(final.text for final in finals(recognizer, one, decoding, hotwords) if final.text)
        for one in recordings
    ]


def join(clips: Sequence[Clip], pauses_s: Sequence[float]) -> Clip:
    """The clips one after another, so much noise of a quiet room after each."""
    parts = [clip.with_quiet(s) for clip, s in zip(clips, pauses_s, strict=True)]
    return Clip(np.concatenate([part.samples for part in parts]), parts[0].rate)


def microphone_block_s() -> float:
    """What a microphone delivers at a time."""
    return BLOCK_MS / 1000


def blocks(clip: Clip, block_s: float) -> Iterator[FloatArray]:
    """The samples of a clip, in pieces."""
    size = round(clip.rate * block_s)
    for start in range(0, len(clip.samples), size):
        yield clip.samples[start : start + size]
