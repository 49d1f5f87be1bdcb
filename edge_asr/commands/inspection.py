"""``edge-asr inspect``: what a package says about itself."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from edge_asr.backends.table import BACKENDS, NOT_KNOWN
from edge_asr.package import DEFAULT_PACKAGE

if TYPE_CHECKING:
    from edge_asr.package.files import Package
    from edge_asr.package.manifest import EncoderSpec, Manifest

_CHUNKS_SHOWN_MS = (160, 320, 640, 1280)
_AFTER_SILENCE = {  # by fresh_context
    True: "the encoder starts from zeros",
    False: "the encoder goes on with its context",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``edge-asr inspect``."""
    parser.add_argument(
        "package",
        nargs="?",
        default=DEFAULT_PACKAGE,
        help=f"name or directory (default: {DEFAULT_PACKAGE})",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print; the exit code.

    Raises:
        PackageError: there is no such package, or it is damaged.
    """
    from edge_asr.package.files import open_package

    facts = inspect_package(open_package(arguments.package))
    print(json.dumps(facts, indent=2) if arguments.json else as_table(facts))
    return 0


def inspect_package(package: Package) -> dict[str, Any]:
    """What the manifest and the certificate say, and what follows from it, as plain values."""
    manifest = package.manifest
    spec = manifest.encoder
    return {
        "name": manifest.name,
        "language": manifest.language,
        "license": manifest.license,
        "directory": str(package.root),
        "programs": [
            {
                "file": program.file,
                "role": program.role,
                "backend": program.backend,
                "backend_known": program.backend in BACKENDS,
                "precision": program.precision,
                "bytes": program.bytes,
                "sha256": program.sha256,
                "native_ops": list(program.native_ops),
                "parity": package.parity.get(program.file, {}),
            }
            for program in manifest.programs
        ],
        "other_files_bytes": sum(entry.bytes for entry in manifest.files),
        "sample_rate_hz": manifest.features.sample_rate,
        "mel_bins": manifest.features.num_mel_bins,
        "subsampling_rate": spec.subsampling_rate,
        "encoder_dim": spec.encoder_dim,
        "left_context_frames": spec.left_context,
        "units": len(package.units),
        "state_bytes_per_stream": state_bytes(spec),
        "state_tensors": len(spec.state),
        "fresh_context": manifest.fresh_context,
        "language_model": _language_model(package),
        "latency": [latency(manifest, frames) for frames in _chunks(manifest)],
        "metrics": dict(manifest.metrics),
        "provenance": {
            "checkpoint_sha256": manifest.provenance.checkpoint_sha256,
            "created": manifest.provenance.created,
            "quantization": manifest.provenance.quantization,
            "versions": dict(manifest.provenance.versions),
        },
    }


def _language_model(package: Package) -> dict[str, Any]:
    """Its file, size and weights; empty where there is none."""
    spec = package.manifest.language_model
    if spec is None:
        return {}
    return {
        "file": spec.file,
        "bytes": package.entry(spec.file).bytes,
        "weight": spec.weight,
        "word_bonus": spec.word_bonus,
        **({} if spec.beam is None else {"beam": spec.beam}),
        "blank_penalty": spec.blank_penalty,
    }


def state_bytes(spec: EncoderSpec) -> int:
    """What each open stream keeps of the encoder."""
    sizes = {"float32": 4, "int64": 8}
    return sum(math.prod(tensor.shape) * sizes[tensor.dtype] for tensor in spec.state)


def latency(manifest: Manifest, chunk_frames: int) -> dict[str, float]:
    """What a chunk of ``chunk_frames`` encoder frames costs in waiting, without any work.

    ``lookahead_ms`` is the audio that a step reads behind its chunk. A sound waits for it, and for
    the rest of its chunk: for all of it at worst, for half of it on average.
    """
    spec, features = manifest.encoder, manifest.features
    chunk_ms = chunk_frames * manifest.frame_ms
    read_samples = (spec.input_frames(chunk_frames) - 1) * features.shift_samples
    read_ms = (read_samples + features.window_samples) * 1000 / features.sample_rate
    lookahead_ms = read_ms - chunk_ms
    return {
        "chunk_ms": chunk_ms,
        "lookahead_ms": lookahead_ms,
        "mean_wait_ms": chunk_ms / 2 + lookahead_ms,
        "longest_wait_ms": chunk_ms + lookahead_ms,
    }


def _chunks(manifest: Manifest) -> list[int]:
    """The usual chunks that the programs take, and the default, smallest and largest one."""
    spec = manifest.encoder
    frame_ms = manifest.frame_ms
    usual = {round(ms / frame_ms) for ms in _CHUNKS_SHOWN_MS if ms % frame_ms == 0}
    chosen = {count for count in usual if spec.min_chunk <= count <= spec.max_chunk}
    return sorted(chosen | {spec.default_chunk, spec.min_chunk, spec.max_chunk})


def as_table(facts: dict[str, Any]) -> str:
    """The facts of ``inspect_package`` for people."""
    from edge_asr.console import clean

    rows: list[tuple[str, str]] = [
        ("package", f"{facts['name']} in {facts['directory']}"),
        ("language", facts["language"]),
        ("licence", facts["license"]),
        ("audio", f"{facts['sample_rate_hz']} Hz, {facts['mel_bins']} mel bins"),
        (
            "encoder",
            f"{facts['encoder_dim']} wide, 1 frame of {facts['subsampling_rate']}, "
            f"{facts['left_context_frames']} frames of left context",
        ),
        ("units", str(facts["units"])),
        (
            "state",
            f"{facts['state_bytes_per_stream'] / 1000:.4g} KB per stream in "
            f"{facts['state_tensors']} tensors",
        ),
    ]
    for program in facts["programs"]:
        native = f", needs {' '.join(program['native_ops'])}" if program["native_ops"] else ""
        about = f"{program['role']}, {program['backend']} {program['precision']}"
        unknown = "" if program["backend_known"] else f", backend {NOT_KNOWN}"
        size = f"{program['bytes'] / 1e6:.2f} MB"
        rows.append((program["file"], f"{about}, {size}{native}{unknown}"))
        rows.append(("", _scalars(program["parity"])))
    rows.append(("after silence", _AFTER_SILENCE[facts["fresh_context"]]))
    rows.append(("language model", _scalars(facts["language_model"])))
    rows.append(("other files", f"{facts['other_files_bytes'] / 1e6:.2f} MB"))
    for row in facts["latency"]:
        rows.append(
            (
                f"chunk {row['chunk_ms']:g} ms",
                f"reads {row['lookahead_ms']:g} ms ahead; a sound waits {row['mean_wait_ms']:g} ms "
                f"on average, {row['longest_wait_ms']:g} ms at most",
            )
        )
    rows.append(("metrics", _scalars(facts["metrics"])))
    provenance = facts["provenance"]
    rows += [
        ("made", provenance["created"]),
        ("quantization", provenance["quantization"]),
        ("checkpoint", provenance["checkpoint_sha256"]),
        ("made with", _scalars(provenance["versions"])),
    ]
    width = max(len(name) for name, _ in rows) + 1
    # The manifest is input: its texts must not move the cursor.
    return "\n".join(f"{clean(name):<{width}} {clean(text)}" for name, text in rows if text)


def _scalars(values: dict[str, Any]) -> str:
    """Names with their values, as far as they are single values."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
        if isinstance(value, str | int | float)
    )
