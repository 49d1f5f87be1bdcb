"""What is exported: what the command line asks for, and the checkpoint that it names."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import torch

from edge_asr.package.manifest import (
    SCHEMA_VERSION,
    BackendName,
    DecoderSpec,
    Dispatch,
    EncoderSpec,
    FeatureSpec,
    Manifest,
    Precision,
    Provenance,
    Role,
    UnitsSpec,
    decode_manifest,
    encode_manifest,
)
from edge_asr.package.units import Units
from export.build import check_dispatches, check_native
from export.lowerings import LOWERINGS
from export.program import decoder_spec, encoder_spec
from model.tokenizer import units_text
from quant.checkpoint import QuantizedCheckpoint, load_at

QUANTIZATION = {
    "fp32": "none",
    "int8": (
        "weights int8 per output channel, activations int8 per row with a zero point, "
        "router float32"
    ),
    "int4": "as int8, and the experts' weights int4 in groups of {group} with a bfloat16 scale",
}


@dataclass(frozen=True)
class ExportConfig:
    """What the command line asks for."""

    checkpoint: Path
    out: Path
    name: str
    roles: tuple[Role, ...]
    precisions: tuple[Precision, ...]
    backends: tuple[BackendName, ...]
    dispatches: tuple[Dispatch, ...]
    left_context: int
    default_chunk: int
    max_chunk: int
    language: str
    license: str
    speech: Path
    metrics: dict[str, float]
    card: str | None
    replace: bool
    group: int | None = None  # of int4 weights; None for the usual one
    add: bool = False  # to the package that ``out`` is
    ctc_weight: float | None = None  # of the second pass; None is that of the training
    reverse_weight: float | None = None
    fresh_context: bool = True  # what streams do after silence unless they say otherwise


@dataclass(frozen=True)
class Source:
    """A checkpoint at each precision that is asked for, and the interface of its programs."""

    conf: ExportConfig
    quantized: Sequence[QuantizedCheckpoint]
    encoder: EncoderSpec
    decoder: DecoderSpec | None  # None where no decoder is asked for, or none was trained
    units_text: bytes
    units: Units

    @property
    def features(self) -> FeatureSpec:
        """What all its encoders read."""
        return self.quantized[0].described.features

    def manifest(self, name: str) -> Manifest:
        """The manifest of a package of that name, without its programs and files.

        Raises:
            PackageError: it cannot be one, for its name as an example.
        """
        first = self.quantized[0]
        network = first.described.conf
        rounding = [
            f"{q.precision}: {QUANTIZATION[q.precision]}".format(group=q.group)
            for q in self.quantized
        ]
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            name=name,
            language=self.conf.language,
            license=self.conf.license,
            features=self.features,
            encoder=self.encoder,
            units=UnitsSpec(blank=network.blank, sos=network.sos, eos=network.eos),
            programs=(),
            files=(),
            provenance=Provenance(
                checkpoint_sha256=first.source_sha256,
                created=datetime.now(UTC).strftime("%Y-%m-%d"),
                quantization="; ".join(rounding),
                versions=_versions(self.conf.backends),
                decoder_sha256=first.decoder_sha256,
            ),
            metrics=self.conf.metrics,
            decoder=self.decoder,
            fresh_context=self.conf.fresh_context,
        )
        # Reading is where a manifest is checked; a bad name should not cost an export first.
        return decode_manifest(encode_manifest(manifest), str(self.conf.out))


def open_source(conf: ExportConfig) -> Source:
    """Read and quantize the checkpoint.

    Raises:
        UsageError: a precision would get no program.
        BackendError: native programs are asked for, and the native libraries are not built.
        InputMissingError, ConfigError: see ``quant.checkpoint.load_at``.
    """
    check_dispatches(conf.precisions, conf.dispatches)
    check_native(conf.backends, conf.dispatches)
    torch.set_num_threads(1)  # the reference must not depend on the number of cores
    quantized = load_at(conf.checkpoint, conf.precisions, conf.group)
    network = quantized[0].network
    units = units_text(quantized[0].described.symbols).encode()
    return Source(
        conf,
        quantized,
        encoder_spec(network, conf.left_context, conf.default_chunk, conf.max_chunk),
        _second_pass(conf, quantized[0]),
        units,
        Units.parse(units, str(conf.checkpoint / "units.txt")),
    )


def _second_pass(conf: ExportConfig, source: QuantizedCheckpoint) -> DecoderSpec | None:
    if "decoder" not in conf.roles or source.described.conf.ctc_weight == 1.0:
        return None
    chosen = {"ctc_weight": conf.ctc_weight, "reverse_weight": conf.reverse_weight}
    given = {name: weight for name, weight in chosen.items() if weight is not None}
    return msgspec.structs.replace(decoder_spec(source.network), **given)


def _versions(backends: Sequence[BackendName]) -> dict[str, str]:
    libraries = [name for backend in backends for name in LOWERINGS[backend].libraries]
    names = ["torch", "numpy", *libraries]
    return {"python": platform.python_version()} | {name: version(name) for name in names}
