"""Real speech to verify with: clips, one long stream made of them, and their features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_asr.audio.features import Frames, fbank
from edge_asr.audio.recordings import read_recordings
from edge_asr.errors import AudioError
from edge_asr.package.manifest import FeatureSpec
from model.recordings import read_samples

# The joined stream must fill the left-context cache and go well past it.
MIN_STEPS = 20


@dataclass(frozen=True)
class Speech:
    """Samples of every clip (N,), the features (T, F) of each, and of all joined, and what was said
    in each; "" is unknown."""

    clips: list[npt.NDArray[np.float32]]
    features: list[Frames]
    joined: Frames
    texts: list[str]


def load_speech(recordings: Path, spec: FeatureSpec, min_frames: int) -> Speech:
    """Read the clips of a list; the joined stream (T, F) repeats them up to ``min_frames``.

    Raises:
        InputMissingError, AudioError: a clip is not there or cannot be read, or there is none.
    """
    utterances = read_recordings(recordings)
    paths = [utterance.path for utterance in utterances]
    if not paths:
        raise AudioError(f"{recordings}: lists no clip; verification needs speech")
    clips = [read_samples(path, spec.sample_rate) for path in paths]
    features = [fbank(clip, spec) for clip in clips]
    for path, frames in zip(paths, features, strict=True):
        if not len(frames):
            raise AudioError(f"{path}: is shorter than one window of {spec.frame_length_ms:g} ms")
    joined = fbank(np.concatenate(clips), spec)
    repeats = -(-min_frames // len(joined))
    texts = [utterance.text for utterance in utterances]
    return Speech(clips, features, np.tile(joined, (repeats, 1)), texts)
