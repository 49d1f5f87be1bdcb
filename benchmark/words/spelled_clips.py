"""``python -m benchmark.words.spelled_clips PACKAGE LIST... [--digits FOLDER] -o OUT.tsv``:
letters and digits, one per clip: cut out of recordings of strings, and those of the Free Spoken
Digit Dataset. Made of test recordings, they are the test set ``spelled/test.tsv`` of
``benchmark.words.sets``; made of training recordings, training data of commands-en.

The package says where the words of the known text are (``benchmark.alignment``); a cut is
made where it is quietest between two of them, and only where that is a pause. A letter or digit
with a pause on both sides becomes a clip.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

import edge_asr
from benchmark.alignment import align
from benchmark.loudness import FRAME_MS, levels_db
from benchmark.options import add_package, add_recordings
from benchmark.replay import read_clips, record_all
from benchmark.words.sets import DIGITS
from edge_asr.audio.recordings import Utterance, read_recordings, write_recordings
from edge_asr.bench.play import Clip
from edge_asr.errors import InputMissingError
from edge_asr.exits import errors_as_lines
from edge_asr.streams.recognizer import Recognizer

PAUSE_DB = 12.0  # below the quieter of its two neighbours
MIN_MS = 250  # less is a piece of a word
AROUND_MS = 1000  # at most, from the middle of a word


def quietest(levels: npt.NDArray[np.float64], begin: int, end: int) -> int | None:
    """The frame between two peaks where it is quietest, or None if that is no pause."""
    if end - begin < 3:
        return None
    frame = begin + int(levels[begin:end].argmin())
    left, right = levels[begin:frame].max(initial=-200), levels[frame:end].max(initial=-200)
    return frame if min(left, right) - levels[frame] >= PAUSE_DB else None


def single(
    recognizer: Recognizer, clip: Clip, text: str, log_probs: npt.NDArray[np.float32]
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Letters and digits of a recording that stand alone, with their samples."""
    tokens = align(log_probs, text, recognizer.package.units)
    words = text.split()
    if tokens is None or len(tokens) != len(words):  # a word is spelled: peaks are not words
        return
    samples = clip.samples[:, 0].astype(np.float32)
    size = clip.rate * FRAME_MS // 1000
    levels = levels_db(clip)
    step = recognizer.package.manifest.frame_ms / FRAME_MS
    peaks = [min(len(levels) - 1, int((token.start + token.end) / 2 * step)) for token in tokens]
    cuts: list[int | None] = [0]
    cuts += [quietest(levels, left, right) for left, right in itertools.pairwise(peaks)]
    cuts.append(len(levels))
    for word, peak, begin, end in zip(words, peaks, cuts, cuts[1:], strict=False):
        if begin is None or end is None or not (len(word) == 1 or word in (*DIGITS, "OH")):
            continue
        around = AROUND_MS // FRAME_MS
        begin, end = max(begin, peak - around), min(end, peak + around)
        if (end - begin) * FRAME_MS >= MIN_MS:
            yield word, samples[begin * size : end * size]


def write_clips(
    recognizer: Recognizer, utterances: list[Utterance], folder: Path
) -> list[tuple[str, float, str, str]]:
    """Write the clips into ``folder``; the rows of their recording list."""
    rows: list[tuple[str, float, str, str]] = []
    clips = read_clips(utterances)
    recordings = record_all(recognizer, utterances, clips, "whole", "words")
    for utterance, recording in zip(utterances, recordings, strict=True):
        clip, log_probs = recording.clip, recording.log_probs
        for number, (word, samples) in enumerate(
            single(recognizer, clip, utterance.text, log_probs)
        ):
            # Recordings of several folders may have one name.
            name = f"{len(rows):05}-{utterance.path.stem}-{number}.flac"
            soundfile.write(folder / name, samples, clip.rate)
            rows.append((name, len(samples) / clip.rate, utterance.speaker, word))
    return rows


def digit_rows(folder: Path) -> Iterator[tuple[str, float, str, str]]:
    """The test part of the Free Spoken Digit Dataset: DIGIT_SPEAKER_N.wav with N below 5.

    Raises:
        InputMissingError: there is none in the folder.
    """
    paths = sorted(folder.glob("[0-9]_*_[0-4].wav"))
    if not paths:
        raise InputMissingError(f"{folder}: no recordings named DIGIT_SPEAKER_N.wav")
    for path in paths:
        digit, speaker, _ = path.stem.split("_")
        seconds = soundfile.info(path).duration
        yield str(path.resolve()), seconds, speaker, DIGITS[int(digit)]


@errors_as_lines("benchmark.words.spelled_clips")
def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.words.spelled_clips", description=__doc__
    )
    add_package(parser)
    add_recordings(parser, "strings of letters and digits")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, help="the recording list; clips go next to it"
    )
    parser.add_argument("--digits", type=Path, help="recordings/ of the Free Spoken Digit Dataset")
    options = parser.parse_args(argv)
    recognizer = edge_asr.load(options.package, second_pass=False)
    utterances = [u for path in options.recordings for u in read_recordings(path)]
    folder = options.out.parent
    folder.mkdir(parents=True, exist_ok=True)
    rows = write_clips(recognizer, utterances, folder)
    rows += digit_rows(options.digits) if options.digits else []
    write_recordings(options.out, rows)
    print(f"{options.out}: {len(rows)} clips")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
