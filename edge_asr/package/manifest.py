"""The manifest of a package: the interface of its programs, never their architecture.

Shape letters used in the whole project: ``B`` batch (1 on a device), ``N`` samples, ``T``
feature frames, ``T'`` encoder frames (about T / subsampling_rate), ``F`` mel bins, ``D`` model
width, ``V`` units, ``L`` layers, ``H`` heads.

Reading is strict: an unknown key, a wrong type, a number out of its range or another schema
version is a PackageError. What concerns one record is checked here, where the record is
declared; what concerns the files themselves is checked in ``edge_asr.package.files``.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from edge_asr.errors import PackageError
from edge_asr.package.seal import seal, unseal

SCHEMA_VERSION = 2  # 2: a digest, and programs without their weights

# What this version exports; "int4" is int8 with int4 experts.
Precision = Literal["fp32", "int8", "int4"]
Dispatch = Literal["portable", "native"]
Role = Literal["encoder", "decoder"]
Dtype = Literal["float32", "int64"]

# \A and \Z, because $ would let a newline through at the end.
FileName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
# Of backends and precisions a package may have what only newer versions know: another program may
# run here.
BackendName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9_-]{1,32}\Z")]
PrecisionName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9_-]{1,32}\Z")]
OperatorName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.:]{1,64}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
FileBytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 34)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Index = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]

# A state is copied at each step, so anything near this size is a mistake or an attack.
MAX_STATE_ELEMENTS = 1 << 28
MAX_BEAM = 64
MAX_BLANK_PENALTY = 100.0  # nats


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all manifest records."""


class FeatureSpec(Strict, frozen=True, kw_only=True):
    """Kaldi log-mel filterbank of samples in the int16 range (WeNet's settings, dither 0)."""

    sample_rate: Annotated[int, msgspec.Meta(ge=8000, le=48000)] = 16000
    num_mel_bins: Annotated[int, msgspec.Meta(ge=1, le=256)] = 80
    frame_length_ms: Annotated[float, msgspec.Meta(ge=5, le=100)] = 25.0
    frame_shift_ms: Annotated[float, msgspec.Meta(ge=5, le=100)] = 10.0
    low_freq_hz: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    high_freq_hz: float = 0.0  # from 0 down it counts from Nyquist
    window: Literal["povey"] = "povey"
    preemphasis: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.97

    @property
    def window_samples(self) -> int:
        """Samples under one frame; a fraction is dropped, as Kaldi does."""
        return int(self.sample_rate * self.frame_length_ms / 1000)

    @property
    def shift_samples(self) -> int:
        """Samples from one frame to the next; a fraction is dropped, as Kaldi does."""
        return int(self.sample_rate * self.frame_shift_ms / 1000)

    def __post_init__(self) -> None:
        if self.frame_shift_ms > self.frame_length_ms:
            raise ValueError(
                f"frame_shift_ms is {self.frame_shift_ms:g}, more than frame_length_ms "
                f"{self.frame_length_ms:g}: audio between the frames would be lost"
            )
        nyquist = self.sample_rate / 2
        high = self.high_freq_hz if self.high_freq_hz > 0 else nyquist + self.high_freq_hz
        if not self.low_freq_hz < high <= nyquist:
            raise ValueError(
                f"frequencies must be ordered low < high <= {nyquist:g} Hz, found "
                f"{self.low_freq_hz:g} and {high:g}"
            )


class HideSpec(Strict, frozen=True, kw_only=True):
    """How to hide frames of the left context: ``value`` in the first n entries along ``axis`` of
    a state tensor hides the n oldest of the ``left_context`` frames from all later steps."""

    axis: Annotated[int, msgspec.Meta(ge=0, le=16)]
    value: Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]  # float32 holds it


class TensorSpec(Strict, frozen=True, kw_only=True):
    """One state tensor. It starts as zeros and never changes its shape."""

    name: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._]{1,64}\Z")]
    shape: tuple[Count, ...]
    dtype: Dtype = "float32"
    hide: HideSpec | None = None  # None: it hides nothing, see edge_asr.backends.state

    def __post_init__(self) -> None:
        if self.hide is not None and not (
            self.hide.axis < len(self.shape) and self.dtype == "float32"
        ):
            raise ValueError(
                f"state {self.name!r} hides frames along axis {self.hide.axis}; it must be float32 "
                f"and have that axis, found {self.dtype} of shape {self.shape}"
            )
        if math.prod(self.shape) > MAX_STATE_ELEMENTS:
            raise ValueError(f"state {self.name!r} of shape {self.shape} is too large")


class EncoderSpec(Strict, frozen=True, kw_only=True):
    """Interface of the role "encoder".

    ``(feats f32[1,T,F], offset i64[1], *state) -> (encoder_out f32[1,T',D], log_probs
    f32[1,T',V], *next_state)`` with ``T' = ((T - 1) // 2 - 1) // 2`` for subsampling 4. A chunk
    of c encoder frames reads ``(c - 1) * subsampling_rate + right_context + 1`` feature frames
    and the next chunk begins ``c * subsampling_rate`` feature frames later. ``offset`` counts
    the encoder frames that the state has seen. A program takes every chunk from ``min_chunk``
    to ``max_chunk`` frames.
    """

    subsampling_rate: Annotated[int, msgspec.Meta(ge=1, le=16)]
    right_context: Annotated[int, msgspec.Meta(ge=0, le=256)]
    left_context: Index
    default_chunk: Count
    min_chunk: Count
    max_chunk: Count
    encoder_dim: Count
    vocab_size: Annotated[int, msgspec.Meta(ge=2, le=1 << 20)]
    state: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        if not self.min_chunk <= self.default_chunk <= self.max_chunk:
            raise ValueError(
                "chunks must be ordered min <= default <= max, found "
                f"{self.min_chunk}, {self.default_chunk}, {self.max_chunk}"
            )
        if self.right_context < self.subsampling_rate - 1:
            raise ValueError(
                f"right_context is {self.right_context}; at least {self.subsampling_rate - 1} is "
                "needed, so that the encoder reads every frame"
            )
        names = [tensor.name for tensor in self.state]
        if len(set(names)) != len(names):
            raise ValueError(f"state names must differ, found {', '.join(names)}")
        for tensor in self.state:
            if tensor.hide and tensor.shape[tensor.hide.axis] != self.left_context:
                raise ValueError(
                    f"state {tensor.name!r} hides frames along axis {tensor.hide.axis} of shape "
                    f"{tensor.shape}, whose size must be left_context, {self.left_context}"
                )

    def input_frames(self, chunk_frames: int) -> int:
        """Feature frames that a chunk of ``chunk_frames`` encoder frames reads."""
        return (chunk_frames - 1) * self.subsampling_rate + self.right_context + 1

    def output_frames(self, input_frames: int) -> int:
        """Encoder frames that ``input_frames`` feature frames give."""
        return 1 + (input_frames - self.right_context - 1) // self.subsampling_rate


class DecoderSpec(Strict, frozen=True, kw_only=True):
    """Interface of the role "decoder", the second pass over a segment that has ended.

    ``(hyps i64[N,U], hyp_lengths i64[N], encoder_out f32[1,T',D]) -> (left_scores f32[N,U+1],
    right_scores f32[N,U+1])``, for 1 to ``max_hyps`` hypotheses of up to ``max_units`` units (U is
    at least 1, a hypothesis may be empty) over up to ``max_frames`` encoder frames. Both scores
    are in the order of the text: at place i the log-probability of unit i, after the units before
    it (left) or after those behind it (right), then that of eos, then zeros. So a row's sum is the
    score of its hypothesis, and WeNet's choice is the hypothesis with the largest

        (1 - reverse_weight) * left + reverse_weight * right + ctc_weight * ctc

    The weights here are those of the training, or others that development data were better with;
    right_scores is zero unless ``bidirectional``.
    """

    bidirectional: bool
    ctc_weight: Annotated[float, msgspec.Meta(ge=0, le=100)]
    reverse_weight: Annotated[float, msgspec.Meta(ge=0, le=1)]
    max_hyps: Count
    max_units: Count
    max_frames: Count

    def __post_init__(self) -> None:
        if self.reverse_weight and not self.bidirectional:
            raise ValueError(
                f"reverse_weight is {self.reverse_weight:g}, but the decoder is not bidirectional"
            )


class LanguageModelSpec(Strict, frozen=True, kw_only=True):
    """An n-gram model of words in ARPA format (``edge_asr.fusion.arpa``), which prefix search uses
    unless told otherwise: its natural log-probabilities times ``weight``, and ``word_bonus`` nats
    for every word, chosen on development data; with ``beam`` hypotheses (None: as without) and
    ``blank_penalty`` nats less for blank."""

    file: FileName
    weight: Annotated[float, msgspec.Meta(ge=0, le=100)]
    word_bonus: Annotated[float, msgspec.Meta(ge=-100, le=100)] = 0.0
    beam: Annotated[int, msgspec.Meta(ge=1, le=MAX_BEAM)] | None = None
    blank_penalty: Annotated[float, msgspec.Meta(ge=0, le=MAX_BLANK_PENALTY)] = 0.0


class UnitsSpec(Strict, frozen=True, kw_only=True):
    """Which file lists the units, and the ids with a meaning of their own."""

    file: FileName = "units.txt"
    blank: Index = 0
    sos: Index = 2
    eos: Index = 2


class Program(Strict, frozen=True, kw_only=True):
    """One compiled program of the package."""

    role: Role
    backend: BackendName
    precision: PrecisionName
    file: FileName
    bytes: FileBytes
    sha256: Sha256
    native_ops: tuple[OperatorName, ...] = ()
    # The file that native operators read; of a portable program, where its integers are: see
    # edge_asr.package.stripped.
    weights: FileName | None = None
    group: Count | None = None  # input channels that share a scale of int4 weights, where known

    def __post_init__(self) -> None:
        if self.group is not None and self.precision != "int4":
            raise ValueError(f"{self.file!r} has a group, which is for int4, at {self.precision}")
        if self.native_ops and not self.weights:
            raise ValueError(f"{self.file!r} has native_ops, and no weights that they read")

    @property
    def dispatch(self) -> Dispatch:
        """Whether it needs operators of ours."""
        return "native" if self.native_ops else "portable"

    @property
    def native_weights(self) -> str | None:
        """The file of weights that its operators read, of a native program."""
        return self.weights if self.native_ops else None

    @property
    def cut_out(self) -> str | None:
        """The file that has its integers, of a portable program without them."""
        return None if self.native_ops else self.weights


class FileEntry(Strict, frozen=True, kw_only=True):
    """A file of the package that is not a program."""

    file: FileName
    bytes: FileBytes
    sha256: Sha256


class Provenance(Strict, frozen=True, kw_only=True):
    """Where the package came from."""

    checkpoint_sha256: str  # of final.pt
    created: str
    quantization: str
    versions: dict[str, str]
    decoder_sha256: str = ""  # of decoder.pt, where decoders were trained further


class Manifest(Strict, frozen=True, kw_only=True):
    """The whole of manifest.json."""

    schema_version: int
    name: FileName
    language: str
    license: str
    features: FeatureSpec
    encoder: EncoderSpec
    units: UnitsSpec
    programs: tuple[Program, ...]
    files: tuple[FileEntry, ...]
    provenance: Provenance
    metrics: dict[str, float] = {}
    decoder: DecoderSpec | None = None
    language_model: LanguageModelSpec | None = None
    # Whether the encoder starts from zeros after silence has ended a segment, where a stream does
    # not say so; chosen on development data.
    fresh_context: bool = True

    @property
    def frame_samples(self) -> int:
        """Audio of one encoder frame."""
        return self.features.shift_samples * self.encoder.subsampling_rate

    @property
    def frame_ms(self) -> float:
        """The same in ms."""
        return self.frame_samples * 1000 / self.features.sample_rate

    def __post_init__(self) -> None:
        names = ["manifest.json", *(p.file for p in self.programs), *(f.file for f in self.files)]
        # Names that differ only in case would be one file on another file system.
        if len({name.casefold() for name in names}) != len(names):
            raise ValueError(f"a file is listed twice: {', '.join(sorted(names))}")
        for name in {".", ".."} & set(names):
            raise ValueError(f"{name!r} is not a file name")
        keys = [(p.role, p.backend, p.precision, p.dispatch) for p in self.programs]
        if len(set(keys)) != len(keys):
            raise ValueError("two programs have the same role, backend, precision and dispatch")
        listed = {entry.file for entry in self.files}
        for program in self.programs:
            if program.weights is not None and program.weights not in listed:
                raise ValueError(f"{program.file!r} reads {program.weights!r}, which is not listed")
        if self.decoder is None and any(program.role == "decoder" for program in self.programs):
            raise ValueError("a decoder program is listed, but the interface 'decoder' is missing")
        special = {"blank": self.units.blank, "sos": self.units.sos, "eos": self.units.eos}
        for key, unit in special.items():
            if unit >= self.encoder.vocab_size:
                raise ValueError(f"{key} is {unit}, the last unit is {self.encoder.vocab_size - 1}")


def decode_manifest(text: bytes, where: str) -> Manifest:
    """Parse manifest.json.

    Raises:
        PackageError: changed since it was written, not JSON, an unknown key, a wrong type, or
            another schema version.
    """
    body = unseal(text, where)
    try:
        version = msgspec.json.decode(text, type=dict[str, object]).get("schema_version")
        if version != SCHEMA_VERSION:
            raise PackageError(
                f"{where}: schema_version is {version!r:.40}, this edge_asr reads "
                f"{SCHEMA_VERSION}; export the package again or install the matching edge_asr"
            )
        if body is None:
            raise PackageError(
                f"{where}: has no digest in its first line; copy or export the package again"
            )
        return msgspec.json.decode(body, type=Manifest)
    except UnicodeDecodeError as error:
        raise PackageError(f"{where}: a string is not UTF-8; export the package again") from error
    except msgspec.MsgspecError as error:
        # It may quote a key of the file, whatever that holds.
        reason = "".join(c if c.isprintable() else "?" for c in str(error))
        raise PackageError(f"{where}: {reason:.300}; export the package again") from error
    except RecursionError as error:
        raise PackageError(f"{where}: nested too deeply; export the package again") from error


def encode_manifest(manifest: Manifest) -> bytes:
    """manifest.json as indented UTF-8 text, with its digest."""
    return seal(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
