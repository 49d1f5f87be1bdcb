"""A package small enough to build in each test, whose encoder recognises tones.

The encoder reads a band of mel energies per unit and says that unit while its tone sounds, blank
otherwise. Its state is real: each output mixes in the frame before, so an encoder whose state is
lost or mixed up gives other log-probabilities.
"""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_asr.backends import DecoderScores, Encoder, EncoderStep, open_encoder
from edge_asr.backends.state import State
from edge_asr.errors import BackendError
from edge_asr.events import Event
from edge_asr.package.files import Package
from edge_asr.package.manifest import (
    SCHEMA_VERSION,
    DecoderSpec,
    EncoderSpec,
    FeatureSpec,
    Manifest,
    Provenance,
    TensorSpec,
    UnitsSpec,
)
from edge_asr.package.seal import seal
from edge_asr.package.units import Units
from edge_asr.package.writer import NewProgram, write_package
from edge_asr.programs.golden_steps import ARRAYS, RESOLUTION, run_chains, step_places
from edge_asr.programs.streaming import cut, stream_log_probs, whole_features
from edge_asr.search.greedy import greedy
from edge_asr.streams.stream import Stream

RATE = 16000
SYMBOLS = ("<blank>", "<unk>", "<sos/eos>", "▁one", "▁two", "s", "ty")
TONES_HZ = {"▁one": 400, "▁two": 900, "s": 1900, "ty": 4200}
UNITS = Units(SYMBOLS)
FEATURES = FeatureSpec(num_mel_bins=16)
ENCODER = EncoderSpec(
    subsampling_rate=4,
    right_context=6,
    left_context=1,
    default_chunk=16,
    min_chunk=1,
    max_chunk=64,
    encoder_dim=len(TONES_HZ),
    vocab_size=len(SYMBOLS),
    state=(TensorSpec(name="last", shape=(1, 1, len(TONES_HZ))),),
)
DECODER = DecoderSpec(
    bidirectional=True,
    ctc_weight=0.5,
    reverse_weight=0.3,
    max_hyps=4,
    max_units=8,
    max_frames=32,
)
MANIFEST = Manifest(
    schema_version=SCHEMA_VERSION,
    name="tiny",
    language="en",
    license="CC0-1.0",
    features=FEATURES,
    encoder=ENCODER,
    units=UnitsSpec(),
    programs=(),
    files=(),
    provenance=Provenance(
        checkpoint_sha256="", created="2026-01-01", quantization="none", versions={}
    ),
)


def sealed(fields: dict[str, Any]) -> bytes:
    """manifest.json of these fields, right or wrong, with the digest that belongs to them."""
    given = {key: value for key, value in fields.items() if key != "digest"}
    return seal(json.dumps(given, indent=2).encode())


BOUNDS = ("golden_max_abs", "golden_mean_abs")
_MIX = 0.1
_THRESHOLD = 20.0  # of a log mel energy: between a tone and what it leaks into other bands
Samples = npt.NDArray[np.float32]


def tones(text: str, tone_ms: int = 200, pause_ms: int = 120) -> Samples:
    """Samples (N,) for units separated by spaces; a number among them is a pause in ms."""
    parts = [_silence(pause_ms)]
    for word in text.split():
        if word.isdigit():
            parts.append(_silence(int(word)))
            continue
        time_s = np.arange(tone_ms * RATE // 1000) / RATE
        parts.append(0.3 * np.sin(2 * np.pi * TONES_HZ[word] * time_s))
        parts.append(_silence(pause_ms))
    return np.concatenate(parts).astype(np.float32)


def play(
    stream: Stream, samples: npt.NDArray[np.generic], rate: int, cuts: Sequence[int] = ()
) -> list[Event]:
    """All events of ``samples``, pushed in blocks that end at ``cuts``, and of a flush."""
    events: list[Event] = []
    for start, end in itertools.pairwise([0, *sorted(cuts), len(samples)]):
        events += stream.push(samples[start:end], rate)
    return events + stream.flush()


def _silence(duration_ms: int) -> npt.NDArray[np.float64]:
    return np.zeros(duration_ms * RATE // 1000)


def band_weights() -> npt.NDArray[np.float32]:
    """(F, D): which mel bin each unit listens to, found with its tone."""
    from edge_asr.audio.features import fbank

    weights = np.zeros((FEATURES.num_mel_bins, len(TONES_HZ)), np.float32)
    for unit, symbol in enumerate(TONES_HZ):
        middle = fbank(tones(symbol), FEATURES)[20]
        weights[middle.argmax(), unit] = 1.0
    return weights


def unit_scores() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(D, V) and (V,): scores of the units from their bands."""
    scores = np.zeros((len(TONES_HZ), len(SYMBOLS)), np.float32)
    scores[:, 3:] = np.eye(len(TONES_HZ), dtype=np.float32)
    bias = np.zeros(len(SYMBOLS), np.float32)
    bias[0], bias[1:3] = _THRESHOLD * (1 + _MIX), -100.0
    return scores, bias


def encode_tones(feats: Samples, last: Samples) -> tuple[Samples, Samples, Samples]:
    """The encoder in numpy: feats (1, T, F) and last (1, 1, D) to encoder_out (1, T', D), log_probs
    (1, T', V) and the next last."""
    scores, bias = unit_scores()
    energies = feats[:, 3:-3:4] @ band_weights()
    encoder_out = energies + _MIX * np.concatenate([last, energies[:, :-1]], axis=1)
    logits = encoder_out @ scores + bias
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return encoder_out, log_probs, energies[:, -1:]


def tiny_onnx(**changes: object) -> bytes:
    """The encoder as ONNX. ``changes``: fields of the model to set before it is serialised."""
    scores, bias = unit_scores()
    constants = {
        "begin": np.array([3]),
        "end": np.array([-3]),
        "axis": np.array([1]),
        "step": np.array([4]),
        "minus_one": np.array([-1]),
        "last_end": np.array([2**31]),
        "bands": band_weights(),
        "mix": np.array(_MIX, np.float32),
        "scores": scores,
        "bias": bias,
        "zero": np.array([0]),
        "not_offset": np.array(0.0, np.float32),
    }
    dim, vocab = len(TONES_HZ), len(SYMBOLS)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["feats", "begin", "end", "axis", "step"], ["centers"]),
            helper.make_node("MatMul", ["centers", "bands"], ["energies"]),
            helper.make_node("Concat", ["last", "energies"], ["joined"], axis=1),
            helper.make_node("Slice", ["joined", "zero", "minus_one", "axis"], ["before"]),
            helper.make_node("Mul", ["before", "mix"], ["memory"]),
            # An input that nothing uses would be dropped from the interface.
            helper.make_node("Cast", ["offset"], ["offset_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["offset_float", "not_offset"], ["nothing"]),
            helper.make_node("Add", ["memory", "nothing"], ["memory_2"]),
            helper.make_node("Add", ["energies", "memory_2"], ["encoder_out"]),
            helper.make_node("MatMul", ["encoder_out", "scores"], ["raw"]),
            helper.make_node("Add", ["raw", "bias"], ["logits"]),
            helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
            helper.make_node("Slice", ["energies", "minus_one", "last_end", "axis"], ["next_last"]),
        ],
        "tiny",
        [
            value("feats", TensorProto.FLOAT, [1, "T", FEATURES.num_mel_bins]),
            value("offset", TensorProto.INT64, [1]),
            value("last", TensorProto.FLOAT, [1, 1, dim]),
        ],
        [
            value("encoder_out", TensorProto.FLOAT, [1, "T2", dim]),
            value("log_probs", TensorProto.FLOAT, [1, "T2", vocab]),
            value("next_last", TensorProto.FLOAT, [1, 1, dim]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **changes
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tiny_steps(encoder: Encoder, precision: str = "fp32") -> dict[str, npt.NDArray[np.generic]]:
    """Golden steps of an encoder without experts."""
    size = (3, ENCODER.input_frames(2), FEATURES.num_mel_bins)
    frames = np.random.default_rng(0).normal(60, 20, size).clip(-127, 127).astype(np.int8)
    feats = (frames * np.float32(RESOLUTION))[:, step_places(size[1], ENCODER)]
    expected = run_chains(encoder, feats, ENCODER)
    bound = np.full(expected.shape[:3], 1e-3, np.float32)
    none = np.zeros((*feats.shape[:2], 0, 1), np.uint8), np.zeros(0, np.int64)
    arrays = (frames, expected, bound, np.full(expected.shape[2], 0.1, np.float32), *none)
    return {f"steps_{n}_{precision}": array for n, array in zip(ARRAYS, arrays, strict=True)}


def tiny_files(program: bytes, bound: float = 1e-3) -> dict[str, bytes]:
    """Units, golden vector and certificate for ``program``."""
    samples = tones("▁one ▁two s 300 ▁one ty 100 ▁two")
    encoder = open_encoder("onnx", program, ENCODER)
    steps = cut(whole_features(samples, MANIFEST.features), ENCODER)
    log_probs = stream_log_probs(encoder, steps, ENCODER)
    text = UNITS.text(token.id for token in greedy(log_probs, 0))
    golden = io.BytesIO()
    arrays = {"samples": samples, "log_probs_fp32": log_probs, "text_fp32": np.array(text)}
    np.savez(golden, allow_pickle=False, **arrays, **tiny_steps(encoder))  # type: ignore[arg-type]
    parity = {"programs": {"encoder.fp32.onnx": dict.fromkeys(BOUNDS, bound)}}
    return {
        "units.txt": "".join(f"{s} {i}\n" for i, s in enumerate(SYMBOLS)).encode(),
        "golden.npz": golden.getvalue(),
        "parity.json": json.dumps(parity).encode(),
        "README.md": b"# tiny\n",
    }


def write_tiny_package(
    directory: Path, program: bytes | None = None, files: Mapping[str, bytes] | None = None
) -> Package:
    """Build the package.

    Args:
        program: another one than that which the golden vector comes from.
        files: added to the usual ones, or in their place.
    """
    usual = tiny_onnx()
    new = NewProgram("encoder", "onnx", "fp32", "encoder.fp32.onnx", program or usual)
    return write_package(directory, MANIFEST, [new], tiny_files(usual) | dict(files or {}))


class FakeEncoder:
    """Says one unit per encoder frame, and keeps what it was given.

    The unit of a frame follows from its first feature frame, so a frame lost, doubled or moved
    changes the text. The state counts frames; the encoder checks it against ``offset``.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec
        self.own: list[npt.NDArray[np.float32]] = []  # the feature frames of each encoder frame
        self.offsets: list[int] = []

    def step(self, feats: npt.NDArray[np.float32], offset: int, state: State) -> EncoderStep:
        """See ``edge_asr.backends.Encoder``."""
        rate, frames = self.spec.subsampling_rate, feats.shape[1]
        count, rest = divmod(frames - self.spec.right_context - 1, rate)
        assert rest == 0, f"{frames} frames are no whole number of encoder frames"
        assert len(state) == len(self.spec.state)
        own = [feats[0, k * rate : (k + 1) * rate] for k in range(count + 1)]
        self.own += own
        self.offsets.append(offset)
        units = [3 + round(abs(float(f[0].sum())) * 1000) % (self.spec.vocab_size - 3) for f in own]
        log_probs = np.full((1, len(own), self.spec.vocab_size), -10.0, np.float32)
        log_probs[0, range(len(own)), units] = -0.01
        return EncoderStep(log_probs, log_probs, state)


class FakeDecoder:
    """Scores at random, the same text always the same, and keeps what it was given.

    ``gate`` holds it up until it is set. ``faults`` counts down: so many calls fail.
    """

    def __init__(
        self, seed: int = 0, spread: float = 3.0, gate: threading.Event | None = None
    ) -> None:
        self.seed, self.spread, self.gate = seed, spread, gate
        self.faults = 0
        self.read: list[tuple[list[tuple[int, ...]], Samples]] = []  # texts, encoder_out (T', D)
        self.begun = threading.Event()

    def score(
        self, hyps: npt.NDArray[np.int64], hyp_lengths: npt.NDArray[np.int64], encoder_out: Samples
    ) -> DecoderScores:
        """See ``edge_asr.backends.Decoder``."""
        self.begun.set()
        if self.gate is not None:
            assert self.gate.wait(60), "a test forgot to open the gate"
        assert len(encoder_out) == 1 and 0 < len(hyps) == len(hyp_lengths)
        assert hyps.shape[1] == max(1, hyp_lengths.max())
        texts = [
            tuple(row[:length].tolist()) for row, length in zip(hyps, hyp_lengths, strict=True)
        ]
        assert len(set(texts)) == len(texts), "a text twice"
        self.read.append((texts, encoder_out[0].copy()))
        if self.faults:
            self.faults -= 1
            raise BackendError("the decoder fell asleep")
        scores = np.zeros((2, len(texts), hyps.shape[1] + 1), np.float32)
        for row, text in enumerate(texts):
            generator = np.random.default_rng([self.seed, *text])
            scores[:, row, : len(text) + 1] = -generator.exponential(
                self.spread, (2, len(text) + 1)
            )
        return DecoderScores(scores[0], scores[1])


def lattice(
    seed: int, frames: int, vocab_size: int, *, spiky: float = 0.0, sharpness: float = 2.0
) -> Samples:
    """Random log-probabilities (T', V); a share ``spiky`` of the frames is nearly all blank."""
    generator = np.random.default_rng(seed)
    logits = sharpness * generator.standard_normal((frames, vocab_size))
    quiet = generator.random(frames) < spiky
    logits[quiet, 0] += generator.choice([4.0, 8.0, 16.0], frames)[quiet]
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return logits.astype(np.float32)


class Reciting:
    """An encoder that gives ``log_probs`` (T', V) from the beginning of each run on, and behind
    them sure blank. encoder_out (1, T', 1) is the number of the frame, from 1 on."""

    def __init__(self, spec: EncoderSpec, log_probs: Samples) -> None:
        self.spec, self.log_probs = spec, log_probs

    def step(self, feats: Samples, offset: int, state: State) -> EncoderStep:
        """See ``edge_asr.backends.Encoder``."""
        count = 1 + (feats.shape[1] - self.spec.right_context - 1) // self.spec.subsampling_rate
        given = self.log_probs[offset : offset + count]
        blank = np.full((count - len(given), self.spec.vocab_size), -20.0, np.float32)
        blank[:, 0] = 0.0
        numbers = np.arange(offset + 1, offset + 1 + count, dtype=np.float32)
        return EncoderStep(numbers[None, :, None], np.concatenate([given, blank])[None], state)
