"""What is found of the weights in a program, and that it comes back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edge_asr
from edge_asr.errors import EdgeAsrError
from edge_asr.package.files import open_package
from edge_asr.package.stripped import restore, strip
from edge_asr.programs.loading import missing_library
from export.__main__ import main
from export.native import pack
from export.native_weights import WeightsFile, WeightsWriter
from export.stripping import SMALLEST_BYTES, find_inserts
from quant.linear import quantize_linear
from tests.paths import DATA
from tests.tiny import sealed

CLIP = DATA / "an4" / "an406-fcaw-b.flac"


def linear(outputs: int, inputs: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs)
    return quantize_linear(layer.weight, layer.bias)


def file_of(*layers: nn.Module) -> WeightsFile:
    writer = WeightsWriter()
    writer.add_linears(layers)
    return writer.finish()


def numbers(layer: nn.Module, name: str, transposed: bool = False) -> bytes:
    values = getattr(layer, name).detach().numpy()
    return (values.T if transposed else values).tobytes()


@pytest.mark.parametrize("transposed", [False, True])
def test_layers_that_are_one_matrix_are_found_one_by_one(transposed: bool) -> None:
    layers = [linear(70, 80, 1), linear(64, 80, 2), linear(65, 80, 3)]
    file = file_of(*layers)
    filling = np.random.default_rng(0).bytes(1000)
    whole = b"".join(
        filling[: 100 + number] + numbers(layer, name, transposed and name == "weight")
        for number, layer in enumerate(layers)
        for name in ("bias", "weight", "weight_scale", "weight_sum")
    )
    inserts = find_inserts(whole, file)
    assert len(inserts) == 4 * len(layers)
    stripped = strip(whole, inserts, file.sha256)
    assert restore(stripped, file.data, file.sha256, "p") == whole
    assert len(whole) - sum(insert.count for insert in inserts) == 4 * (100 + 101 + 102)


def test_what_is_in_a_program_twice_is_cut_out_twice() -> None:
    layer = linear(64, 64)
    whole = numbers(layer, "weight") * 2
    assert [insert.at for insert in find_inserts(whole, file_of(layer))] == [0, 64 * 64]


def test_what_overlaps_is_cut_out_once() -> None:
    layer = linear(64, 64)
    nn.init.zeros_(layer.bias)
    file = file_of(layer, layer)
    whole = bytes(64 * 4 * 3 + 40)
    inserts = find_inserts(whole, file)
    assert sum(insert.count for insert in inserts) == 64 * 4 * 3
    assert restore(strip(whole, inserts, file.sha256), file.data, file.sha256, "p") == whole


def test_little_and_other_things_stay() -> None:
    layer = linear(32, 64)
    assert 32 * 4 < SMALLEST_BYTES
    whole = b"?" + numbers(layer, "bias") + numbers(linear(32, 64, seed=9), "weight")
    assert find_inserts(whole, file_of(layer)) == []


def test_packing_needs_nothing_that_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.native.library", lambda: pytest.fail("opened"))
    packed = pack(nn.Sequential(linear(8, 8)))
    assert packed.file.sha256 == hashlib.sha256(packed.file.data).hexdigest()
    assert packed.native_ops == ("edge_asr::linear",)


@pytest.mark.slow
def test_integers_are_in_a_package_once(tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    options = ["--precision", "int8,fp32", "--backends", "onnx,torchscript"]
    assert main([str(DATA / "wenet-dense"), "-o", str(out), *options]) == 0
    package = open_package(out)
    for program in package.manifest.programs:
        stored, whole = package.read(program.file), package.read_program(program)
        if program.precision == "fp32":
            assert program.weights is None and stored == whole
        else:  # the layers are so small that most stay where they are
            assert program.weights is not None and len(stored) < len(whole)


@pytest.mark.slow
@pytest.mark.skipif(missing_library("onnx") is not None, reason="not built; run: make native")
def test_both_dispatches_read_one_file(tmp_path: Path) -> None:
    out = tmp_path / "both"
    options = ["--dispatch", "both", "--backends", "onnx"]
    assert main([str(DATA / "wenet-moe"), "-o", str(out), *options]) == 0
    package = open_package(out)
    for role in ("encoder", "decoder"):
        portable, native = (
            package.program(role, "onnx", dispatch=dispatch) for dispatch in ("portable", "native")
        )
        assert portable.weights == native.weights == f"{role}.int8.weights"
        assert {portable.file, native.file} <= package.parity.keys()
    # Another file of weights in its place, which the manifest vouches for.
    path = out / "encoder.int8.weights"
    data = bytearray(path.read_bytes())
    data[-65] ^= 1
    path.write_bytes(data)
    fields = json.loads((out / "manifest.json").read_bytes())
    (entry,) = [entry for entry in fields["files"] if entry["file"] == path.name]
    entry["sha256"] = hashlib.sha256(data).hexdigest()
    (out / "manifest.json").write_bytes(sealed(fields))
    for dispatch in ("portable", "native"):
        with pytest.raises(EdgeAsrError):
            edge_asr.load(out, dispatch=dispatch).transcribe(CLIP)
