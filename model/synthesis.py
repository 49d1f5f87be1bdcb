"""Speech of synthetic voices, as a corpus to train on:
``python -m model.synthesis sentences|strings --hours N -o FOLDER``.

The voices are Debian's espeak-ng (many variants and accents, also those of other first languages:
``accents``), flite and festival, each at a rate and a pitch of its own. What is written is a
list ``train.tsv`` and FLAC files in its folder.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from rich.console import Console
from rich.progress import Progress

from edge_asr.audio.recordings import read_recordings, write_recordings
from edge_asr.errors import InputMissingError, UsageError
from edge_asr.exits import errors_as_lines
from model.accents import LANGUAGES, accented
from model.synthesis_texts import plain, read_lines, sentences, strings

Samples = npt.NDArray[np.float32]

SAMPLE_RATE = 16000
_SHARES = ("espeak-ng=0.4", "accents=0.2", "flite=0.35", "text2wave=0.05")
_AT_ONCE = 64
_TIMEOUT_S = 60
# Variants of espeak-ng that people would not take for a person are left out.
_ACCENTS = ("en-us", "en-us", "en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan",
            "en-gb-x-gbcwmd", "en-029", "en-us-nyc")  # fmt: skip
_VARIANTS = (
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Gene2", "Jacky", "Lee",
    "Marco", "Mario", "Michael", "Mike", "Nguyen", "adam", "anika", "antonio", "aunty", "belinda",
    "benjamin", "boris", "caleb", "david", "ed", "edward", "edward2", "f1", "f2", "f3", "f4", "f5",
    "grandma", "grandpa", "gustave", "iven", "iven2", "iven3", "john", "kaukovalta", "linda", "m1",
    "m2", "m3", "m4", "m5", "m6", "m7", "m8", "marcelo", "max", "michel", "miguel", "norbert",
    "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph2",
    "steph3", "travis", "victor", "zac", "klatt", "klatt2", "klatt3", "klatt4",
)  # fmt: skip
_FLITE = {"awb": (100, 170), "kal": (80, 140), "rms": (80, 130), "slt": (150, 230)}


@dataclass(frozen=True)
class Request:
    """A text, the program that says it, and the seed of its voice, rate and pitch."""

    text: str
    program: str
    seed: int
    spelled: bool  # a lone A is the letter's name, and not the article


def _espeak(text: str, rng: np.random.Generator) -> tuple[str, bytes]:
    return _espeak_as(str(rng.choice(_ACCENTS)), text, rng)


def _accents(text: str, rng: np.random.Generator) -> tuple[str, bytes]:
    command = ["espeak-ng", "-q", "-x", "--sep=_", "-v", "en-us", text]
    sounds = _output(command).decode(errors="replace")
    return _espeak_as(str(rng.choice(LANGUAGES)), f"[[{accented(sounds, rng)}]]", rng)


def _espeak_as(language: str, text: str, rng: np.random.Generator) -> tuple[str, bytes]:
    voice = f"{language}+{rng.choice(_VARIANTS)}"
    command = [
        "espeak-ng", "-v", voice, "-s", str(int(rng.integers(120, 215))),
        "-p", str(int(rng.integers(20, 81))), "-g", str(int(rng.integers(0, 8))),
        "--stdout", text,
    ]  # fmt: skip
    return voice, _output(command)


def _flite(text: str, rng: np.random.Generator) -> tuple[str, bytes]:
    voice = str(rng.choice(list(_FLITE)))
    stretch, pitch = rng.uniform(0.75, 1.3), rng.uniform(*_FLITE[voice])
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        _output([
            "flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.2f}",
            "--setf", f"int_f0_target_mean={pitch:.0f}", "-t", text, "-o", file.name,
        ])  # fmt: skip
        return f"flite-{voice}", Path(file.name).read_bytes()


def _festival(text: str, rng: np.random.Generator) -> tuple[str, bytes]:
    stretch = rng.uniform(0.8, 1.25)
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        _output([
            "text2wave", "-eval", "(voice_cmu_us_slt_arctic_hts)",
            "-eval", f"(Parameter.set 'Duration_Stretch {stretch:.2f})", "-o", file.name,
        ], text)  # fmt: skip
        return "festival-slt-hts", Path(file.name).read_bytes()


_PROGRAMS: dict[str, Callable[[str, np.random.Generator], tuple[str, bytes]]] = {
    "espeak-ng": _espeak,
    "accents": _accents,
    "flite": _flite,
    "text2wave": _festival,
}
# How each is told to name the letter: to espeak-ng by its sounds.
_LETTER_A = {"espeak-ng": "[[eI]]", "accents": "[[eI]]", "flite": "ay", "text2wave": "ay"}


def say(request: Request) -> tuple[str, Samples]:
    """The voice's name and its samples (N,) at 16 kHz, peak between 0.05 and 0.9.

    Raises:
        InputMissingError: the program is not installed, failed, or said nothing.
    """
    rng = np.random.default_rng(request.seed)
    letter = _LETTER_A[request.program] if request.spelled else "a"
    spoken = " ".join(letter if word == "A" else word.lower() for word in request.text.split())
    voice, wav = _PROGRAMS[request.program](spoken, rng)
    try:
        # espeak-ng writes to a pipe, where it cannot go back to fill in the length.
        samples, rate = soundfile.read(io.BytesIO(_with_length(wav)), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise InputMissingError(f"{request.program}: no speech for {request.text!r}") from error
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        raise InputMissingError(f"{request.program}: silence for {request.text!r}")
    level = np.exp(rng.uniform(np.log(0.05), np.log(0.9)))
    return voice, np.asarray(samples * (level / peak), np.float32)


def requests(
    texts: Iterator[str], spelled: bool, programs: dict[str, float], rng: np.random.Generator
) -> Iterator[Request]:
    """Endless texts, each given to a program drawn by its weight."""
    names = list(programs)
    weights = np.array(list(programs.values()))
    for text in texts:
        program = str(rng.choice(names, p=weights / weights.sum()))
        yield Request(text, program, int(rng.integers(2**62)), spelled)


def write_corpus(wanted: Iterator[Request], hours: float, folder: Path, quiet: bool = False) -> int:
    """Write FLAC files and, when all are there, ``train.tsv``; returns the count of utterances."""
    rows: list[tuple[str, float, str, str]] = []
    total_s, number = 0.0, 0
    console = Console(stderr=True)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress(*Progress.get_default_columns(), console=console, disable=quiet) as progress,
    ):
        task = progress.add_task("voices", total=hours * 3600)
        while total_s < hours * 3600:
            some = list(islice(wanted, _AT_ONCE))
            for request, (voice, samples) in zip(some, pool.map(say, some), strict=True):
                path = Path(f"{number // 1000:04d}", f"{number:07d}.flac")
                (folder / path.parent).mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / path, samples, SAMPLE_RATE)
                seconds = len(samples) / SAMPLE_RATE
                rows.append((str(path), seconds, voice, request.text))
                total_s, number = total_s + seconds, number + 1
            progress.update(task, completed=total_s)
    write_recordings(folder / "train.tsv", rows)
    return number


def _output(command: list[str], text: str | None = None) -> bytes:
    if shutil.which(command[0]) is None:
        raise InputMissingError(f"{command[0]}: not installed; apt-get install espeak-ng flite "
                                "festival festvox-us-slt-hts")  # fmt: skip
    try:
        done = subprocess.run(
            command, input=None if text is None else text.encode(), capture_output=True,
            timeout=_TIMEOUT_S, check=True,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        raise InputMissingError(f"{' '.join(command)}: {error}") from error
    return done.stdout


def _with_length(wav: bytes) -> bytes:
    """The same with the lengths that are true, where the header says that they are unknown."""
    if wav[36:40] != b"data":
        return wav
    size = len(wav) - 44
    riff, data = (size + 36).to_bytes(4, "little"), size.to_bytes(4, "little")
    return wav[:4] + riff + wav[8:40] + data + wav[44:]


def _shares(items: Iterable[str]) -> dict[str, float]:
    """The weights in ``NAME=WEIGHT``.

    Raises:
        UsageError: another name, or no positive weight.
    """
    found: dict[str, float] = {}
    for item in items:
        name, _, weight = item.partition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = math.nan
        if name not in _PROGRAMS or not 0 < found[name] < math.inf:
            raise UsageError(
                f"--program {item}; allowed are NAME=WEIGHT with a weight above 0 and a name of "
                f"{', '.join(_PROGRAMS)}"
            )
    return found


@errors_as_lines("model.synthesis")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.synthesis", description=__doc__)
    parser.add_argument("kind", choices=("sentences", "strings"), help="what the voices say")
    parser.add_argument("--hours", type=float, required=True, help="how much speech to make")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="files of sentences")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[],
                        help="recording lists whose texts must not be said")  # fmt: skip
    parser.add_argument("--program", action="append", metavar="NAME=WEIGHT",
                        help=f"share of a program (default: {' '.join(_SHARES)})")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    shares = _shares(options.program or _SHARES)
    if options.kind == "strings":
        if options.text or options.exclude:
            raise UsageError("strings are drawn by chance; --text and --exclude are for sentences")
        texts = strings(rng)
    else:
        lines = [line for path in options.text for line in read_lines(path)]
        if not lines:
            raise InputMissingError("sentences: name at least one file with --text")
        excluded = {plain(u.text) for path in options.exclude for u in read_recordings(path)}
        texts = sentences(lines, excluded, rng)
    count = write_corpus(
        requests(texts, options.kind == "strings", shares, rng), options.hours, options.out
    )
    print(f"{options.out / 'train.tsv'}: {count} utterances")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
