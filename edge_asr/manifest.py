"""The manifest of a package: the interface of its programs, never their architecture.

Shape letters used in the whole project: ``B`` batch (1 on a device), ``N`` samples, ``T``
feature frames, ``T'`` encoder frames (about T / subsampling_rate), ``F`` mel bins, ``D`` model
width, ``V`` units, ``L`` layers, ``H`` heads.

Reading is strict: an unknown key, a wrong type or another schema version is a PackageError.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_asr.errors import PackageError

SCHEMA_VERSION = 1

BackendName = Literal["onnx", "executorch", "torchscript"]
Precision = Literal["fp32", "int8"]
Dtype = Literal["float32", "int64"]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all manifest records."""


class FeatureSpec(Strict):
    """Kaldi log-mel filterbank of samples in the int16 range (WeNet's settings, dither 0)."""

    sample_rate: int = 16000
    num_mel_bins: int = 80
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    low_freq_hz: float = 20.0
    high_freq_hz: float = 0.0  # 0 is Nyquist
    window: Literal["povey"] = "povey"
    preemphasis: float = 0.97


class TensorSpec(Strict):
    """One state tensor. It starts as zeros and never changes its shape."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype = "float32"


class EncoderSpec(Strict):
    """Interface of the role "encoder".

    ``(feats f32[1,T,F], offset i64[1], *state) -> (encoder_out f32[1,T',D], log_probs
    f32[1,T',V], *next_state)`` with ``T' = ((T - 1) // 2 - 1) // 2`` for subsampling 4. A chunk
    of c encoder frames reads ``(c - 1) * subsampling_rate + right_context + 1`` feature frames
    and the next chunk begins ``c * subsampling_rate`` feature frames later. ``offset`` counts
    the encoder frames that the state has seen.
    """

    subsampling_rate: int
    right_context: int
    left_context: int
    default_chunk: int
    min_chunk: int
    max_chunk: int
    encoder_dim: int
    vocab_size: int
    state: tuple[TensorSpec, ...]


class UnitsSpec(Strict):
    """Which file lists the units, and the ids with a meaning of their own."""

    file: str = "units.txt"
    blank: int = 0
    sos: int = 2
    eos: int = 2


class Program(Strict):
    """One compiled program of the package."""

    role: Literal["encoder", "decoder"]
    backend: BackendName
    precision: Precision
    file: str
    bytes: int
    sha256: str
    native_ops: tuple[str, ...] = ()


class FileEntry(Strict):
    """A file of the package that is not a program."""

    file: str
    bytes: int
    sha256: str


class Provenance(Strict):
    """Where the package came from."""

    checkpoint_sha256: str
    created: str
    quantization: str
    versions: dict[str, str]


class Manifest(Strict):
    """The whole of manifest.json."""

    schema_version: int
    name: str
    language: str
    license: str
    features: FeatureSpec
    encoder: EncoderSpec
    units: UnitsSpec
    programs: tuple[Program, ...]
    files: tuple[FileEntry, ...]
    provenance: Provenance
    metrics: dict[str, float] = {}


def decode_manifest(text: bytes, where: str) -> Manifest:
    """Parse manifest.json.

    Raises:
        PackageError: not JSON, an unknown key, a wrong type, or another schema version.
    """
    try:
        version = msgspec.json.decode(text, type=dict[str, object]).get("schema_version")
        if version != SCHEMA_VERSION:
            raise PackageError(
                f"{where}: schema_version is {version!r}, this edge_asr reads {SCHEMA_VERSION}; "
                "export the package again or install the matching edge_asr"
            )
        return msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise PackageError(f"{where}: {error}; export the package again") from error
    except RecursionError as error:
        raise PackageError(f"{where}: nested too deeply; export the package again") from error


def encode_manifest(manifest: Manifest) -> bytes:
    """manifest.json as indented UTF-8 text."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
