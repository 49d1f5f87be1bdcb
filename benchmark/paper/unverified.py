"""Packages to measure with: programs of random weights, written without being verified.

The exporter would compare them with eager torch for most of an hour, and refuse some: in a deep
network of random weights a last bit decides on experts and integers, layer after layer. What is
measured does not depend on that; that a program computes what it should is proven on trained
models, and by the tests. The golden vector is empty, so that ``edge_asr.load`` refuses these.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmark.page import today
from benchmark.paper.variants import INT4_GROUP
from edge_asr.package.manifest import SCHEMA_VERSION, Manifest, Precision, Provenance, UnitsSpec
from edge_asr.package.writer import write_package
from export.build import Built, build_programs
from export.program import (
    DecoderProgram,
    EncoderProgram,
    decoder_interface,
    decoder_spec,
    encoder_interface,
    encoder_spec,
)
from model.checkpoint import load_checkpoint
from quant.checkpoint import quantize

LEFT_FRAMES, CHUNK_FRAMES, MAX_FRAMES = 64, 16, 512


def write_unverified(
    checkpoint: Path,
    out: Path,
    backends: Sequence[str],
    dispatch: str,
    precisions: Sequence[Precision],
) -> None:
    """Both roles of a checkpoint, lowered.

    Raises:
        EdgeAsrError: see ``export.package.export_package``.
    """
    torch.set_num_threads(1)
    loaded = load_checkpoint(checkpoint)
    built: list[Built] = []
    for precision in precisions:
        quantized = quantize(loaded, precision, INT4_GROUP)
        network = quantized.network
        spec = encoder_spec(network, LEFT_FRAMES, CHUNK_FRAMES, MAX_FRAMES)
        second = decoder_spec(network)
        for module, interface in (
            (EncoderProgram(network), encoder_interface(network, spec)),
            (DecoderProgram(network), decoder_interface(network, second)),
        ):
            built += build_programs(module, interface, precision, backends, (dispatch,))  # type: ignore[arg-type]
    conf = loaded.described.conf
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=out.name,
        language="und",
        license="CC0-1.0",
        features=loaded.described.features,
        encoder=spec,
        units=UnitsSpec(blank=conf.blank, sos=conf.sos, eos=conf.eos),
        programs=(),
        files=(),
        provenance=Provenance(
            checkpoint_sha256=quantized.source_sha256,
            created=today(),
            quantization=", ".join(precisions),
            versions={},
        ),
        decoder=second,
    )
    files = _files(checkpoint, built)
    write_package(out, manifest, [one.program for one in built], files, replace=True)


def _files(checkpoint: Path, built: Sequence[Built]) -> dict[str, bytes]:
    """What a package has next to its programs, by name; the proofs are empty."""
    empty = io.BytesIO()
    np.savez(empty, samples=np.zeros(0, np.float32))
    weights = {one.program.weights: one.weights for one in built if one.weights is not None}
    return {name: data for name, data in weights.items() if name is not None} | {
        "units.txt": (checkpoint / "units.txt").read_bytes(),
        "golden.npz": empty.getvalue(),
        "parity.json": json.dumps({"programs": {}, "verified": False}).encode(),
    }


def main(arguments: list[str] | None = None) -> int:
    """``python -m benchmark.paper.unverified CHECKPOINT --out PACKAGE ...``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.paper.unverified", description=__doc__
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backends", required=True)
    parser.add_argument("--dispatch", required=True, choices=("portable", "native"))
    parser.add_argument("--precision", required=True)
    options = parser.parse_args(arguments)
    write_unverified(
        options.checkpoint,
        options.out,
        options.backends.split(","),
        options.dispatch,
        options.precision.split(","),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
