"""A recognizer for tests that says what the test tells it, without a model.

    >>> import numpy as np
    >>> from edge_asr.testing import scripted
    >>> recognizer = scripted([("turn", 400), ("left", 800)])
    >>> with recognizer.stream() as stream:
    ...     events = stream.push(np.zeros(16000, np.float32), 16000) + stream.flush()
    >>> [(word.text, word.start_ms) for word in events[-1].words]
    [('turn', 400), ('left', 800)]

Only the encoder is replaced. Streams, events, segments, times, hotwords, grammars and errors are
real, so whatever is built on a recognizer can be tested in milliseconds, on any audio.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_asr.audio.windows import ChunkMs
from edge_asr.backends import EncoderStep, FloatArray
from edge_asr.backends.state import State
from edge_asr.errors import UsageError
from edge_asr.fusion.hotword_text import Phrases
from edge_asr.package.files import Package
from edge_asr.package.manifest import (
    SCHEMA_VERSION,
    EncoderSpec,
    FeatureSpec,
    HideSpec,
    Manifest,
    Program,
    Provenance,
    TensorSpec,
    UnitsSpec,
)
from edge_asr.package.units import SPACE, Units
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer
from edge_asr.streams.stream import Stream

FRAME_MS = 40  # words begin at a multiple of it
MIN_DISTANCE_MS = 2 * FRAME_MS  # CTC needs a frame of blank between two equal units
_SPECIAL_UNITS = ("<blank>", "<unk>", "<sos/eos>")
_LEFT_CONTEXT = 64
_SURE, _UNLIKELY = math.log(0.999), -12.0


def scripted(words: Sequence[tuple[str, int]]) -> Recognizer:
    """A recognizer whose streams say ``words``, each stream all of them, whatever is pushed.

    Args:
        words: each with the ms of stream time at which it begins, rounded down to a frame of
            ``FRAME_MS``; 80 ms or more apart. A stream says those that its audio reaches. Not
            heard are a word in a declared gap, and one in the last 15 ms before it or a flush.

    Raises:
        UsageError: a word that is empty or has a space, a time below 0, or words that are closer
            together or not in the order of their times.
    """
    earliest_ms = 0
    for word, at_ms in words:
        if not word or any(character.isspace() or character == SPACE for character in word):
            raise UsageError.of_setting("words", word, "words without spaces")
        if at_ms < earliest_ms:
            raise UsageError.of_setting("words", at_ms, f"times of {word!r} from {earliest_ms} ms")
        earliest_ms = at_ms + MIN_DISTANCE_MS
    spoken = dict.fromkeys(SPACE + word for word, _ in words)
    units = Units((*_SPECIAL_UNITS, *spoken))
    manifest = _manifest(len(units))
    ids = {symbol: unit for unit, symbol in enumerate(units.symbols)}
    rate = manifest.features.sample_rate
    script = tuple((at_ms * rate // 1000, ids[SPACE + word]) for word, at_ms in words)
    return _ScriptedRecognizer(
        Package(Path("scripted"), manifest, units),
        manifest.programs[0],
        _ScriptedEncoder(manifest, script),
        script=script,
    )


@dataclass(frozen=True)
class _ScriptedRecognizer(Recognizer):
    """Gives each stream an encoder of its own, which looks at the clock of the stream."""

    script: tuple[tuple[int, int], ...] = ()  # sample, unit

    def stream(
        self,
        chunk_ms: ChunkMs = None,
        *,
        hotwords: Phrases = (),
        decoding: Decoding | None = None,
    ) -> Stream:
        """See ``Recognizer.stream``."""
        encoder = _ScriptedEncoder(self.package.manifest, self.script)
        own = dataclasses.replace(self, encoder=encoder)
        encoder.stream = Recognizer.stream(own, chunk_ms, hotwords=hotwords, decoding=decoding)
        return encoder.stream


class _ScriptedEncoder:
    """The log-probabilities of one stream. ``offset`` starts at 0 again after silence, so the time
    is taken from the stream."""

    def __init__(self, manifest: Manifest, script: Sequence[tuple[int, int]]) -> None:
        self.stream: Stream | None = None
        self._spec = manifest.encoder
        self._frame_samples = manifest.frame_samples
        self._script = script

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``edge_asr.backends.Encoder``; encoder_out (1, T', 1) is zeros."""
        spec = self._spec
        count = spec.output_frames(feats.shape[1])
        log_probs = np.full((1, count, spec.vocab_size), _UNLIKELY, np.float32)
        log_probs[:, :, 0] = _SURE
        start, end = self._time_samples()
        for sample, unit in self._script:
            frame = (sample - start) // self._frame_samples
            # What comes after the end of a run is padding; the next run says it.
            if 0 <= frame < count and sample < end:
                log_probs[0, frame, [0, unit]] = _UNLIKELY, _SURE
        return EncoderStep(np.zeros((1, count, 1), np.float32), log_probs, state)

    def _time_samples(self) -> tuple[int, int]:
        """When the next frame begins and the audio received ends, since the stream began."""
        assert self.stream is not None, "recognizer.stream() sets it"
        state = self.stream.state
        start = state.origin_samples + state.text.search.frames * self._frame_samples
        return start, state.position_samples


def _manifest(vocab_size: int) -> Manifest:
    """That of a package of today, with few mel bins, which nobody looks at."""
    encoder = EncoderSpec(
        subsampling_rate=4,
        right_context=6,
        left_context=_LEFT_CONTEXT,
        default_chunk=16,
        min_chunk=1,
        max_chunk=64,
        encoder_dim=1,
        vocab_size=vocab_size,
        state=(TensorSpec(name="cache", shape=(_LEFT_CONTEXT,), hide=HideSpec(axis=0, value=0.0)),),
    )
    program = Program(
        role="encoder",
        backend="onnx",
        precision="fp32",
        file="scripted.onnx",
        bytes=0,
        sha256="0" * 64,
    )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name="scripted",
        language="en",
        license="CC0-1.0",
        features=FeatureSpec(num_mel_bins=8),
        encoder=encoder,
        units=UnitsSpec(),
        programs=(program,),
        files=(),
        provenance=Provenance(checkpoint_sha256="", created="", quantization="", versions={}),
    )
