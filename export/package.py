"""Checkpoint in, verified package out: the one exporter."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from edge_asr.errors import ConfigError, OutputError, PackageError
from edge_asr.package.files import PARITY, Package, open_package
from edge_asr.package.manifest import Manifest
from edge_asr.package.writer import write_package
from edge_asr.programs.golden_decoder import GOLDEN_DECODER
from export.addition import (
    join_files,
    join_manifests,
    join_parity,
    join_programs,
    open_base,
)
from export.card import CARD, card_is_generated, model_card
from export.roles import DecoderExport, EncoderExport, Made, RoleExport, Say, make_programs
from export.source import ExportConfig, Source, open_source
from export.speech import MIN_STEPS, Speech, load_speech
from export.verify import certificate
from export.verify_decoder import decoder_bounds
from model.layout import unused_average

NO_DECODER = "no decoder: with a ctc_weight of 1 it was not trained"


def export_package(conf: ExportConfig, say: Say) -> Package:
    """Quantize, lower, verify, write.

    Raises:
        EdgeAsrError: the checkpoint cannot be read, a program does not equal the network
            (ParityError), or the package cannot be written. Nothing is half-written.
    """
    if remark := unused_average(conf.checkpoint):
        say(remark)
    return added_to(conf, say) if conf.add else new_package(conf, say)


def new_package(conf: ExportConfig, say: Say) -> Package:
    """A package of its own, in the place of an old one where that is asked for.

    Raises:
        EdgeAsrError: see ``export_package``.
    """
    if conf.out.exists() and not conf.replace:  # what write_package would say minutes later
        raise OutputError(f"{conf.out} exists; give another --out, --replace it, or --add to it")
    source = open_source(conf)
    if "decoder" in conf.roles and source.decoder is None:
        say(NO_DECODER)
    manifest = source.manifest(conf.name)
    speech = _speech(source)
    encoder = EncoderExport(source, speech, say)
    roles: list[RoleExport] = [encoder]
    decoder = None
    if source.decoder is not None:
        decoder = DecoderExport(source, source.decoder, speech, {})
        roles.append(decoder)
    made = make_programs(roles, source, say)
    parity = certificate(made.parities, encoder.streaming, speech) | {
        "steps": encoder.coverage,
        "rounding": encoder.rounding,
    }
    if decoder is not None:
        parity |= decoder_bounds() | {"decoder_experts_not_reached": decoder.not_reached}
    manifest = _as_old_as_its_programs(manifest, made, conf.out)
    files = made.weights | dict(role.golden_file() for role in roles)
    files |= {"units.txt": source.units_text, PARITY: _json(parity)}
    files[CARD] = _card(conf, manifest, parity)
    return write_package(conf.out, manifest, made.programs, files, replace=conf.replace)


def _as_old_as_its_programs(manifest: Manifest, made: Made, out: Path) -> Manifest:
    """With the day of the package in ``out`` if it has the same programs and weights, byte by byte:
    what was measured with them stays true."""
    try:
        there = open_package(out)
    except PackageError:
        return manifest
    data = {program.file: program.data for program in made.programs} | made.weights
    names = {program.file for program in there.manifest.programs}
    if names != {program.file for program in made.programs} or not all(
        there.lists(file) and there.entry(file).sha256 == hashlib.sha256(content).hexdigest()
        for file, content in data.items()
    ):
        return manifest
    created = there.manifest.provenance.created
    return msgspec.structs.replace(
        manifest, provenance=msgspec.structs.replace(manifest.provenance, created=created)
    )


def added_to(conf: ExportConfig, say: Say) -> Package:
    """The package ``conf.out`` with decoders added; what it has stays as it is.

    Raises:
        EdgeAsrError: see ``export_package``; the package is of another checkpoint, or has one of
            these programs.
    """
    base = open_base(conf.out, conf.roles, conf.precisions, conf.backends, conf.dispatches)
    source = open_source(conf)
    if source.decoder is None:
        raise ConfigError(f"{conf.checkpoint}: {NO_DECODER}; there is nothing to add")
    manifest = join_manifests(base, source.manifest(base.manifest.name), source.units_text)
    speech = _speech(source)
    golden = base.golden(GOLDEN_DECODER) if base.lists(GOLDEN_DECODER) else {}
    decoder = DecoderExport(source, source.decoder, speech, golden)
    made = make_programs([decoder], source, say)
    parity = join_parity(base, certificate(made.parities, {}, speech) | decoder_bounds())
    files = join_files(base, made.weights) | dict([decoder.golden_file()])
    files[PARITY] = _json(parity)
    if conf.card or card_is_generated(base):
        files[CARD] = _card(conf, manifest, parity)
    programs = join_programs(base, made.programs)
    return write_package(conf.out, manifest, programs, files, replace=True)


def _speech(source: Source) -> Speech:
    """Enough to go well past the left context."""
    conf = source.conf
    steps = max(MIN_STEPS, 2 * conf.left_context // conf.default_chunk + 1)
    frames = source.encoder.input_frames(steps * conf.default_chunk)
    return load_speech(conf.speech, source.features, frames)


def _card(conf: ExportConfig, manifest: Manifest, parity: dict[str, Any]) -> bytes:
    return (conf.card or model_card(manifest, parity)).encode()


def _json(parity: dict[str, Any]) -> bytes:
    return (json.dumps(parity, indent=1, allow_nan=False) + "\n").encode()
