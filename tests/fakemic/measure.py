"""``python -m tests.fakemic.measure``: the figures of the microphone, with real speech.

``python -m edge_asr.mic`` listens through PortAudio to a fake ALSA device that speaks clips in a
loop. A caption's delay is from the end of its word at the device, as the same model places it in
the clip, until the JSON line that first has it can be read. Unplugged and plugged in again, the
times are those of the JSON lines, and a gap's error is against what the device counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import edge_asr
from edge_asr.audio.recordings import read_recordings
from edge_asr.machine import describe_machine
from edge_asr.package import DEFAULT_PACKAGE
from model.recordings import read_samples
from tests.fakemic.device import FakeMicrophone, Fault, build_plugin, why_impossible
from tests.fakemic.program import MicProgram, Said, rss_mib
from tests.tiny import RATE

CLIPS = Path(__file__).parents[1] / "data" / "clips.tsv"
PAUSE_S = 1.3  # past the endpoint, so that every clip is a segment
START_S = 30.0


def speech(
    recognizer: edge_asr.Recognizer, clips: Sequence[Path]
) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Samples (N,) of the clips with pauses, and each word with its end in seconds."""
    parts: list[np.ndarray] = []
    words: list[tuple[str, float]] = []
    position_s = 0.0
    for clip in clips:
        samples = read_samples(clip, RATE)
        quiet = np.random.default_rng(0).normal(0, 1e-4, round(PAUSE_S * RATE))
        for segment in recognizer.transcribe(clip).segments:
            words += [(word.text, position_s + word.end_ms / 1000) for word in segment.words]
        parts += [samples, quiet.astype(np.float32)]
        position_s += (len(samples) + len(quiet)) / RATE
    return np.concatenate(parts), words


def captioned_after_s(
    program: MicProgram, microphone: FakeMicrophone, words: list[tuple[str, float]]
) -> list[float]:
    """Delays of the words of the first loop, by order; words that differ are left out."""
    shown: list[tuple[str, int]] = []
    finished: list[str] = []
    for said in program.of("partial", "final"):
        text = [*finished, *said.text.split()]
        shown += [(word, said.at_ns) for word in text[len(shown) :]]
        if said.kind == "final":
            finished = text
    return [
        (at_ns - microphone.spoken_at_ns(round(end_s * microphone.rate))) / 1e9
        for (word, at_ns), (expected, end_s) in zip(shown, words, strict=False)
        if word == expected
    ]


def outages(program: MicProgram, microphone: FakeMicrophone, count: int) -> dict[str, list[float]]:
    """Unplug and plug in ``count`` times; seconds until noticed and back, and gap errors in ms."""
    figures: dict[str, list[float]] = {"noticed_s": [], "back_s": [], "gap_error_ms": []}

    def since_s(said: Said, then_ns: int) -> float:
        return (said.at_ns - then_ns) / 1e9

    for number in range(count):
        time.sleep(1.0)
        lost_before_ms = microphone.lost_ms
        program.skip()
        unplugged_ns = microphone.inject(Fault.UNPLUGGED)
        figures["noticed_s"].append(since_s(program.expect("lost", 10), unplugged_ns))
        time.sleep(0.2 + 0.1 * (number % 10))
        plugged_ns = microphone.inject(Fault.NONE)
        gap = program.expect("gap", 10)
        figures["back_s"].append(since_s(program.expect("recovered", 10), plugged_ns))
        truth_ms = microphone.lost_ms - lost_before_ms
        figures["gap_error_ms"].append(abs(gap.duration_ms - truth_ms))
    return figures


def spread(values: list[float]) -> dict[str, float]:
    """Count, median, 95th percentile and maximum."""
    p50, p95 = np.quantile(values, [0.5, 0.95])
    row = {"count": len(values), "p50": p50, "p95": p95, "max": max(values)}
    return {name: round(float(value), 3) for name, value in row.items()}


def measure(package: str, chunk_ms: int, cycles: int) -> dict[str, object]:
    """All figures for one chunk."""
    recognizer = edge_asr.load(package)
    samples, words = speech(recognizer, [utterance.path for utterance in read_recordings(CLIPS)])
    audio = np.clip(samples * 32767, -32767, 32767).astype(np.int16)[:, None]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        microphone = FakeMicrophone(home, build_plugin(home), audio, RATE)
        program = MicProgram(
            recognizer.package.root, microphone.environment(), f"--chunk-ms={chunk_ms}"
        )
        with program:
            program.expect("listening", START_S)
            time.sleep(len(samples) / RATE)
            delays = captioned_after_s(program, microphone, words)
            rss_before = rss_mib(program.pid)
            figures = outages(program, microphone, cycles)
            rss_after = rss_mib(program.pid)
            code = program.stop()
    return {
        "chunk_ms": chunk_ms,
        "words": len(words),
        "caption_delay_s": spread(delays),
        **{name: spread(values) for name, values in figures.items()},
        "rss_mib": [round(rss_before, 1), round(rss_after, 1)],
        "exit_code": code,
        "summary": program.errors[-1],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakemic.measure", description=__doc__)
    parser.add_argument("--package", default=DEFAULT_PACKAGE, help="package: name or directory")
    parser.add_argument("--chunk-ms", type=int, nargs="+", default=[640, 320], metavar="N")
    parser.add_argument("--cycles", type=int, default=20, help="times to unplug (default: 20)")
    options = parser.parse_args()
    if reason := why_impossible():
        raise SystemExit(reason)
    report = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "runs": [measure(options.package, ms, options.cycles) for ms in options.chunk_ms],
    }
    print(json.dumps(report, indent=1, default=vars))


if __name__ == "__main__":
    main()
