"""Prove a program equal to the eager network, or refuse it.

Every program streams the same real speech as the eager network of the same precision: past the
point where the left-context cache is full, in chunks of one size and of random sizes. The eager
network itself must give the same in chunks as in one masked forward.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from edge_asr.audio.features import Frames
from edge_asr.audio.windows import Step
from edge_asr.backends import BACKENDS, Encoder, FloatArray
from edge_asr.backends.state import State
from edge_asr.package.manifest import BackendName, EncoderSpec, Precision
from edge_asr.package.units import Units
from edge_asr.programs import streaming
from edge_asr.programs.golden import LEAD, is_near
from edge_asr.programs.streaming import cut, stream_log_probs
from edge_asr.search.greedy import greedy
from export.eager import EagerEncoder
from export.parity import GOLDEN_SAFETY, ROUNDING_SHARE, Bounds, Parity, ParityError, refuse
from export.speech import MIN_STEPS, Speech
from model.network import Network

# What a program may differ by, on log_probs of units, and on the text of clips.
# float32 programs differ by rounding only. With int8 activations a last-bit difference before a
# rounding step moves an integer by one, and rarely a router to its next choice, so single values
# may move far while the mean stays small. Weights of fewer bits change nothing in that: programs
# and eager network have the same.
BOUNDS: dict[Precision, Bounds] = {
    "fp32": Bounds(max_abs=1e-3, mean_abs=1e-4, agreement=1.0),
    "int8": Bounds(max_abs=8.0, mean_abs=0.1, agreement=0.9),
    "int4": Bounds(max_abs=8.0, mean_abs=0.1, agreement=0.9),
}
STREAMING_BOUND = 1e-4
# Different texts that clips must give, or all clips where they are fewer: equal texts that are
# empty, or all one, would be those of a broken network too.
DIFFERENT_TEXTS = 3

# A program on another processor rounds otherwise, by no more than eager torch would differ from
# itself if its input were moved by this much: a few last bits of a log-mel feature near 10.
JITTER = 1e-5


@dataclass(frozen=True)
class Stream:
    """Steps of one stream from a fresh state, what an encoder gives (T', V), and its state before
    each step."""

    steps: list[Step]
    log_probs: FloatArray
    states: list[State]


@dataclass(frozen=True)
class Reference:
    """What every program of one precision is compared with."""

    streams: list[Stream]  # the joined speech, in chunks of one size and of random sizes
    clips: list[Stream]
    jitter_max_abs: float
    jitter_mean_abs: float
    jitter_step_mean_abs: float  # of the step where it is largest
    rounding_mean_abs: float  # what rounding activations changes; 0 for fp32

    def allowed_mean_abs(self, precision: Precision) -> float:
        """The bound on a program's mean error: ``BOUNDS``, and for integers what noise explains."""
        bound = BOUNDS[precision].mean_abs
        if precision == "fp32":
            return bound
        noise = ROUNDING_SHARE * self.rounding_mean_abs
        return min(bound, max(noise, GOLDEN_SAFETY * self.jitter_mean_abs, BOUNDS["fp32"].mean_abs))


def run_stream(encoder: Encoder, steps: list[Step], spec: EncoderSpec) -> Stream:
    """Consecutive steps from a fresh state."""
    rows, states = [], []
    for step, (state, result) in zip(steps, streaming.stream(encoder, steps, spec), strict=True):
        states.append(state)
        rows.append(result.log_probs[0, : step.keep])
    return Stream(steps, np.concatenate(rows), states)


def step_errors(encoder: Encoder, expected: Stream) -> FloatArray:
    """Errors (T', V) of an encoder that begins each step with the state of ``expected``.

    In a stream of its own a quantized encoder drifts: an integer that moves by one changes the
    state, and where the network hesitates, that decides in which frame a unit is said. From the
    same state it must say the same, but for the integers that move within the step.
    """
    errors, begin = [], 0
    for step, state in zip(expected.steps, expected.states, strict=True):
        result = encoder.step(np.ascontiguousarray(step.feats, np.float32), begin, state)
        wanted = expected.log_probs[begin : begin + step.keep]
        errors.append(np.abs(result.log_probs[0, : step.keep] - wanted))
        begin += step.keep
    return np.concatenate(errors)


def cut_randomly(frames: Frames, spec: EncoderSpec, seed: int) -> list[Step]:
    """Steps of random sizes, from one encoder frame to 50."""
    rng = np.random.default_rng(seed)
    steps: list[Step] = []
    begin = 0
    while True:
        chunk = int(rng.integers(1, min(50, spec.max_chunk) + 1))
        size = spec.input_frames(chunk)
        if begin + size > len(frames):
            return steps
        steps.append(Step(frames[None, begin : begin + size], chunk))
        begin += chunk * spec.subsampling_rate


def greedy_text(log_probs: FloatArray, units: Units, blank: int) -> str:
    """Text of log_probs (T', V)."""
    return units.text(token.id for token in greedy(log_probs, blank))


def verify_streaming(
    network: Network, speech: Speech, spec: EncoderSpec, precision: Precision
) -> float:
    """Max error between the eager network in chunks and in one chunk-masked forward.

    With float32 it is rounding. A quantized network is held to what a program may differ by: a
    last bit before an integer's rounding moves the integer, in eager torch too.

    Raises:
        ParityError: it is above ``STREAMING_BOUND`` (fp32) or outside ``BOUNDS`` (else).
    """
    chunk = spec.default_chunk
    whole = (len(speech.joined) - spec.right_context - 1) // spec.subsampling_rate + 1
    steps = [step for step in cut(speech.joined, spec, chunk) if step.keep == chunk][
        : whole // chunk
    ]
    streamed = stream_log_probs(EagerEncoder(network), steps, spec)
    with torch.inference_mode():
        feats = torch.from_numpy(speech.joined[None, : spec.input_frames(len(streamed))])
        lengths = torch.tensor([feats.size(1)])
        out, _ = network.whole(feats, lengths, chunk, spec.left_context)
        offline = network.ctc(out)[0].numpy()
    errors = np.abs(streamed - offline)
    largest, mean, bounds = float(errors.max()), float(errors.mean()), BOUNDS[precision]
    if precision == "fp32":
        allowed, equal = f"{STREAMING_BOUND:.0e}", largest <= STREAMING_BOUND
    else:
        allowed, equal = f"{bounds.mean_abs:g} in the mean", mean <= bounds.mean_abs
    if not equal:
        raise ParityError(
            f"{precision}: streaming differs from the chunk-masked whole utterance by "
            f"{largest:.2e} ({mean:.1e} in the mean), allowed {allowed}: the network's state is "
            "wrong; do not ship this checkpoint"
        )
    return largest


def reference(network: Network, speech: Speech, spec: EncoderSpec) -> Reference:
    """Stream the speech through the eager network, as it is and moved by ``JITTER``.

    Raises:
        ParityError: too little speech to go past the left context.
    """
    eager = EagerEncoder(network)
    regular = cut(speech.joined, spec)
    if len(regular) < MIN_STEPS:
        raise ParityError(f"{len(regular)} chunks of speech, at least {MIN_STEPS} are needed")
    cuts = (regular, cut_randomly(speech.joined, spec, seed=1))
    streams = [run_stream(eager, steps, spec) for steps in cuts]
    clips = [cut(frames, spec) for frames in speech.features]
    rng = np.random.default_rng(0)
    moved = speech.joined + JITTER * rng.standard_normal(speech.joined.shape, np.float32)
    found = stream_log_probs(eager, cut(moved, spec), spec)
    jitter = np.abs(found - streams[0].log_probs)
    smooth = stream_log_probs(EagerEncoder(network, float_activations=True), regular, spec)
    return Reference(
        streams=streams,
        clips=[run_stream(eager, steps, spec) for steps in clips],
        jitter_max_abs=float(jitter.max()),
        jitter_mean_abs=float(jitter.mean()),
        jitter_step_mean_abs=max(_step_means(jitter, regular)),
        rounding_mean_abs=float(np.abs(smooth - streams[0].log_probs).mean()),
    )


class VacuousTextsError(ParityError):
    """Equal texts of this network would prove nothing."""


def check_texts(expected: Reference, units: Units, blank: int) -> None:
    """Refuse a network whose texts prove nothing.

    Raises:
        VacuousTextsError: few clips give a text, or most give the same.
    """
    texts = {greedy_text(clip.log_probs, units, blank) for clip in expected.clips} - {""}
    needed = min(DIFFERENT_TEXTS, len(expected.clips))
    if len(texts) < needed:
        raise VacuousTextsError(
            f"{len(expected.clips)} clips give {len(texts)} different texts that are not empty, at "
            f"least {needed} are needed for equal texts to prove anything; train the network, or "
            "give --speech that it understands"
        )


def verify_program(
    encoder: Encoder,
    expected: Reference,
    spec: EncoderSpec,
    units: Units,
    blank: int,
    label: tuple[BackendName, Precision],
) -> Parity:
    """Compare a loaded program with the eager network of the same precision. Errors are those of
    whole streams, each with its own state; the largest of a quantized program is that within one
    step, from the eager network's state.

    Raises:
        ParityError: a difference outside ``BOUNDS``, or more than noise explains.
    """
    backend, precision = label
    whole = [(stream_log_probs(encoder, s.steps, spec), s.log_probs) for s in expected.streams]
    errors = [np.abs(found - wanted) for found, wanted in whole]
    said = [stream_log_probs(encoder, clip.steps, spec) for clip in expected.clips]
    texts, equal = _texts(said, expected, units, blank, precision)
    mean_abs = float(np.concatenate([error.ravel() for error in errors]).mean())
    # Steps of random sizes may be one frame, whose mean says little of a whole chunk's.
    step_mean = max(_step_means(errors[0], expected.streams[0].steps))
    golden_max = max(float(errors[0].max()), expected.jitter_max_abs)
    if precision != "fp32":
        errors = [step_errors(encoder, stream) for stream in expected.streams]
    max_abs = float(max(error.max() for error in errors))
    floor = BOUNDS["fp32"]
    parity = Parity(
        backend=backend,
        precision=precision,
        amounts={
            "steps": sum(len(one.steps) for one in expected.streams),
            "different_texts": len({*texts} - {""}),  # few of them prove little
        },
        max_abs=max_abs,
        mean_abs=mean_abs,
        allowed_mean_abs=expected.allowed_mean_abs(precision),
        results="texts",
        compared=len(expected.clips),
        equal=equal,
        golden_max_abs=max(floor.max_abs, GOLDEN_SAFETY * golden_max),
        golden_mean_abs=max(
            floor.mean_abs, GOLDEN_SAFETY * max(step_mean, expected.jitter_step_mean_abs)
        ),
    )
    refuse(parity, BOUNDS[precision], f"{backend} {precision}")
    return parity


def _texts(
    said: list[FloatArray], expected: Reference, units: Units, blank: int, precision: Precision
) -> tuple[list[str], int]:
    """What the eager network hears in the clips, and how many of these texts ``said``, of
    log-probabilities (T', V), is equal to; see ``is_near``."""
    heard = [clip.log_probs for clip in expected.clips]
    ours, theirs = ([greedy_text(rows, units, blank) for rows in each] for each in (said, heard))
    lead = LEAD * expected.allowed_mean_abs(precision)
    near = [is_near(found, wanted, lead) for found, wanted in zip(said, heard, strict=True)]
    return theirs, sum(map(operator.or_, near, map(str.__eq__, ours, theirs)))


def _step_means(errors: FloatArray, steps: list[Step]) -> list[float]:
    """Mean of the errors (T', V) of each step."""
    ends = np.cumsum([step.keep for step in steps])[:-1]
    return [float(part.mean()) for part in np.split(errors, ends)]


def certificate(
    parities: Mapping[str, Parity], streaming: Mapping[str, float], speech: Speech
) -> dict[str, Any]:
    """The content of parity.json. ``parities`` are those of every program file."""
    return {
        "bounds": {precision: bounds.row("text") for precision, bounds in BOUNDS.items()},
        "streaming_bound": STREAMING_BOUND,
        "streaming_equals_offline_max_abs": streaming,
        "speech_seconds": round(len(speech.joined) / 100, 1),
        "programs": {
            file: parity.row() | {"measured_with": _libraries(parity.backend)}
            for file, parity in parities.items()
        },
    }


def _libraries(backend: str) -> dict[str, str]:
    """The versions of what ran the programs; those of a package may differ where some were added
    later."""
    return {name: version(name) for name in BACKENDS[backend].libraries}
