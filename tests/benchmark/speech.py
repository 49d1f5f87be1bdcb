"""Recordings of the tiny package's tones with a recording list, for programs that measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import soundfile

from tests.tiny import RATE, tones

CLIPS = Path(__file__).resolve().parents[1] / "data" / "clips.tsv"


def write_set(folder: Path, utterances: Sequence[tuple[str, str, str]], name: str) -> Path:
    """A recording list of (tones, text, speaker) with their files; texts may differ."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path\tseconds\tspeaker\ttext"]
    for number, (played, text, speaker) in enumerate(utterances):
        file = f"{name}-{number}.wav"
        samples = tones(played)
        soundfile.write(folder / file, samples, RATE, subtype="FLOAT")
        lines.append(f"{file}\t{len(samples) / RATE:.3f}\t{speaker}\t{text}")
    recordings = folder / f"{name}.tsv"
    recordings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return recordings
