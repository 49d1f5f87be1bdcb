"""A decoder for a package that exists: it fits, it runs, and the rest stays as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest

from edge_asr.errors import PackageError
from edge_asr.package.files import Package, open_package
from edge_asr.package.manifest import Strict
from edge_asr.package.writer import NewProgram
from edge_asr.programs.golden_decoder import check_decoder_golden
from edge_asr.programs.loading import choose_program, load_decoder
from export.__main__ import main
from export.addition import (
    join_files,
    join_manifests,
    join_parity,
    join_programs,
)
from export.card import card_is_generated
from tests.paths import DATA
from tests.tiny import DECODER

CHECKPOINT = DATA / "wenet-dense"
Record = TypeVar("Record", bound=Strict)
ADD = ("--add", "--roles", "decoder", "--backends", "onnx")


def changed(record: Record, **fields: Any) -> Record:
    return msgspec.structs.replace(record, **fields)


def test_what_is_joined(tiny_package: Package) -> None:
    base, ours = tiny_package, tiny_package.manifest
    units = base.read(ours.units.file)
    provenance = changed(
        ours.provenance, quantization="none; int8: some", versions={"torch": "9", "new": "1"}
    )
    made = changed(
        ours, decoder=DECODER, metrics={"wer": 3.0}, provenance=provenance, language="xx"
    )
    joined = join_manifests(base, made, units)
    assert joined.decoder == DECODER and joined.metrics == ours.metrics | {"wer": 3.0}
    assert joined.provenance.quantization == "none; int8: some"
    assert joined.provenance.versions == {"torch": "9", "new": "1"} | ours.provenance.versions
    rest = {"decoder": None, "metrics": {}, "provenance": ours.provenance}
    assert changed(joined, **rest) == changed(ours, **rest)

    new = NewProgram("decoder", "onnx", "fp32", "decoder.fp32.onnx", b"new")
    programs = join_programs(base, [new])
    assert [p.file for p in programs] == [*(p.file for p in ours.programs), new.file]
    assert all(p.data == (base.root / p.file).read_bytes() for p in programs[:-1])

    rows = {new.file: {"max_abs": 0.5}}
    parity = join_parity(base, {"programs": rows, "decoder_bounds": 1, "speech_seconds": 1})
    assert parity["programs"] == base.parity | rows and parity["decoder_bounds"] == 1
    before = json.loads(base.read("parity.json"))
    assert parity | {"programs": 0} == {"decoder_bounds": 1, "speech_seconds": 1} | before | {
        "programs": 0
    }


def test_all_that_is_said_of_a_program_is_kept(tiny_package: Package) -> None:
    ours = tiny_package.manifest
    native = {"native_ops": ("edge_asr::moe_ffn",), "weights": "units.txt", "group": 64}
    program = changed(ours.programs[0], precision="int4", **native)
    base = Package(tiny_package.root, changed(ours, programs=(program,)), tiny_package.units)
    (kept,) = join_programs(base, [])
    told = {name: value for name, value in kept._asdict().items() if name != "data"}
    assert told == {name: getattr(program, name) for name in told} and told["group"] == 64


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"features": {"num_mel_bins": 17}}, "features.num_mel_bins is 16 there and 17 here"),
        ({"encoder": {"left_context": 9}}, "encoder.left_context is 1 there and 9 here"),
        ({"encoder": {"state": ()}}, "encoder.state is"),
        ({"units": {"eos": 1}}, "units.eos is 2 there and 1 here"),
        ({"provenance": {"checkpoint_sha256": "0" * 64}}, "final.pt of sha256"),
    ],
)
def test_another_interface_is_refused(
    tiny_package: Package, change: dict[str, Any], word: str
) -> None:
    base = tiny_package
    units = base.read(base.manifest.units.file)
    fields = {name: changed(getattr(base.manifest, name), **new) for name, new in change.items()}
    with pytest.raises(PackageError) as caught:
        join_manifests(base, changed(base.manifest, **fields), units)
    assert word in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(PackageError, match="units"):
        join_manifests(base, base.manifest, units + b"\n")


def test_a_file_that_programs_read_never_changes(tiny_package: Package) -> None:
    files = join_files(tiny_package, {"decoder.int8.weights": b"w"})
    assert files["decoder.int8.weights"] == b"w" and files["units.txt"]
    name = tiny_package.manifest.units.file
    assert join_files(tiny_package, {name: tiny_package.read(name)})
    with pytest.raises(PackageError, match="would have another"):
        join_files(tiny_package, {name: b"other"})


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--add"], 64, "--roles decoder"),
        (["--add", "--roles", "encoder"], 64, "--roles decoder"),
        ([*ADD, "--replace"], 64, "--replace"),
        ([*ADD, "--language", "en"], 64, "--language"),
        ([*ADD, "--name", "other"], 64, "--name"),
        ([*ADD, "--keep-context"], 64, "--keep-context"),
        ([*ADD], 66, "no such package"),
    ],
)
def test_refused_in_one_line(
    options: list[str], code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(CHECKPOINT), "-o", str(tmp_path / "commands-en"), *options]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("export: ") and word in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def encoder_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "tiny"
    options = ["--roles", "encoder", "--precision", "fp32", "--backends", "onnx"]
    options += ["--language", "en", "--keep-context"]
    assert main([str(CHECKPOINT), "-o", str(out), *options]) == 0
    return out


@pytest.mark.slow
def test_a_decoder_is_added(encoder_alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "renamed package"
    shutil.copytree(encoder_alone, out)
    assert card_is_generated(before := open_package(encoder_alone))
    weights = ["--ctc-weight", "2.5", "--reverse-weight", "0.25"]
    for precision in ("fp32", "int8"):
        assert (
            main([str(CHECKPOINT), "-o", str(out), *ADD, *weights, "--precision", precision]) == 0
        )
    package = open_package(out)
    kept = {"encoder.fp32.onnx", "units.txt", "golden.npz"}
    for name in kept:
        assert (out / name).read_bytes() == (encoder_alone / name).read_bytes()
    assert package.manifest.programs[0] == before.manifest.programs[0]
    assert (package.manifest.name, package.manifest.language) == ("tiny", "en")
    assert not before.manifest.fresh_context and not package.manifest.fresh_context
    assert {path.name for path in out.iterdir()} == kept | {
        "manifest.json", "parity.json", "README.md", "decoder.fp32.onnx", "decoder.int8.onnx",
        "decoder.int8.weights", "golden_decoder.npz",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == [out.name], "nothing is left beside it"

    spec = package.manifest.decoder
    assert spec is not None and (spec.ctc_weight, spec.reverse_weight) == (2.5, 0.25)
    certificate = json.loads((out / "parity.json").read_text())
    row = certificate["programs"]["decoder.int8.onnx"]
    assert row["max_abs"] <= certificate["decoder_bounds"]["int8"]["max_abs"]
    assert certificate["programs"]["encoder.fp32.onnx"] == before.parity["encoder.fp32.onnx"]
    assert card_is_generated(package) and "decoder.int8.onnx" in (out / "README.md").read_text()
    assert "fp32: none; int8: " in package.manifest.provenance.quantization

    for precision in ("int8", "fp32"):
        program = choose_program(package, "decoder", "onnx", precision)
        decoder = load_decoder(package, program)
        assert check_decoder_golden(package, decoder, program) is not None
    memory = np.zeros((1, 7, package.manifest.encoder.encoder_dim), np.float32)
    scores = decoder.score(np.array([[3, 4]]), np.array([2]), memory)
    assert scores.left.shape == (1, 3) and (scores.left < 0).all() and (scores.right < 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint", "options", "code", "word"),
    [
        ("wenet-moe", [], 78, "final.pt"),
        ("wenet-dense", ["--left-frames", "63"], 78, "left_context is 64 there and 63 here"),
        ("wenet-dense", ["--chunk-frames", "8"], 78, "default_chunk"),
    ],
)
def test_a_package_of_something_else_stays_as_it_is(
    encoder_alone: Path,
    checkpoint: str,
    options: list[str],
    code: int,
    word: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path.name: path.read_bytes() for path in encoder_alone.iterdir()}
    assert main([str(DATA / checkpoint), "-o", str(encoder_alone), *ADD, *options]) == code
    assert word in capsys.readouterr().err.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in encoder_alone.iterdir()} == before


def test_other_decoders_do_not_go_beside_those_that_are_there(tiny_package: Package) -> None:
    ours = changed(tiny_package.manifest, decoder=DECODER)
    base = Package(tiny_package.root, ours, tiny_package.units)
    units = base.read(ours.units.file)
    provenance = msgspec.structs.replace(ours.provenance, decoder_sha256="0" * 64)
    made = changed(ours, provenance=provenance)
    with pytest.raises(PackageError, match="decoders are others"):
        join_manifests(base, made, units)
    joined = join_manifests(tiny_package, made, units)  # which has none yet
    assert joined.provenance.decoder_sha256 == "0" * 64


@pytest.mark.slow
def test_what_is_there_is_not_made_again(
    encoder_alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tiny"
    shutil.copytree(encoder_alone, out)
    card = "# Written by hand\n"
    (tmp_path / "card.md").write_text(card)
    arguments = [str(CHECKPOINT), "-o", str(out), *ADD, "--precision", "fp32"]
    assert main([*arguments, "--card", str(tmp_path / "card.md")]) == 0
    assert (out / "README.md").read_text() == card and not card_is_generated(open_package(out))
    assert main(arguments) == 64
    assert "has decoder.fp32.onnx already" in capsys.readouterr().err
    assert main([*arguments, "--precision", "int8"]) == 0
    assert (out / "README.md").read_text() == card


@pytest.mark.slow
def test_a_damaged_package_gets_nothing(encoder_alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    shutil.copytree(encoder_alone, out)
    program = out / "encoder.fp32.onnx"
    data = bytearray(program.read_bytes())
    data[len(data) // 2] ^= 1
    program.write_bytes(data)
    assert main([str(CHECKPOINT), "-o", str(out), *ADD]) == 78
    assert not (out / "decoder.int8.onnx").exists()
