"""The exporter from end to end: what it writes, and what it refuses to write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edge_asr
from edge_asr.backends import BACKENDS, EncoderStep
from edge_asr.package.files import open_package
from edge_asr.programs.golden import check_golden
from edge_asr.programs.golden_decoder import check_decoder_golden
from edge_asr.programs.loading import load_decoder
from export import to_torchscript
from export.__main__ import main
from export.eager import EagerEncoder
from export.parity import ParityError
from export.program import STATE_NAMES, EncoderProgram, Interface
from quant.__main__ import main as quant_main
from tests.export.checkpoints import checkpoint_at
from tests.paths import DATA
from tests.tiny import sealed

CLIP = DATA / "an4" / "an406-fcaw-b.flac"


def export(checkpoint: Path, out: Path, *options: str, backends: str = "torchscript") -> int:
    return main([str(checkpoint), "-o", str(out), "--backends", backends, *options])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dense tiny checkpoint for two backends at both precisions."""
    out = tmp_path_factory.mktemp("export") / "tiny"
    options = ["--precision", "int8,fp32", "--language", "en", "--license", "CC0-1.0"]
    assert export(DATA / "wenet-dense", out, *options, backends="onnx,torchscript") == 0
    return out


PROGRAMS = [(b, p) for b in ("onnx", "torchscript") for p in ("int8", "fp32")]


@pytest.mark.slow
def test_what_is_written(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names == {
        "manifest.json", "units.txt", "golden.npz", "golden_decoder.npz", "parity.json",
        "README.md",
        "encoder.int8.weights", "decoder.int8.weights",
        "encoder.int8.onnx", "encoder.fp32.onnx", "encoder.int8.pt", "encoder.fp32.pt",
        "decoder.int8.onnx", "decoder.fp32.onnx", "decoder.int8.pt", "decoder.fp32.pt",
    }  # fmt: skip
    package = open_package(exported)
    manifest = package.manifest
    assert (manifest.name, manifest.language, manifest.license) == ("tiny", "en", "CC0-1.0")
    assert manifest.fresh_context
    assert (manifest.encoder.left_context, manifest.encoder.default_chunk) == (64, 16)
    assert tuple(tensor.name for tensor in manifest.encoder.state) == STATE_NAMES
    assert (manifest.units.blank, manifest.units.sos, manifest.units.eos) == (0, 2, 2)
    assert len(manifest.provenance.checkpoint_sha256) == 64
    for role in ("encoder", "decoder"):
        programs = [program for program in manifest.programs if program.role == role]
        assert {(p.backend, p.precision) for p in programs} == set(PROGRAMS)
    assert manifest.decoder is not None and manifest.decoder.bidirectional
    assert (manifest.decoder.ctc_weight, manifest.decoder.reverse_weight) == (0.3, 0.3)
    assert not list(exported.parent.glob(".*")), "nothing else is left behind"


@pytest.mark.slow
def test_certificate(exported: Path) -> None:
    parity = json.loads((exported / "parity.json").read_text())
    assert set(parity["streaming_equals_offline_max_abs"]) == {"fp32", "int8"}
    assert parity["streaming_equals_offline_max_abs"]["fp32"] <= parity["streaming_bound"]
    for file, row in parity["programs"].items():
        assert (exported / file).is_file()
        libraries = BACKENDS[row["backend"]].libraries
        assert row["measured_with"] == {name: version(name) for name in libraries}
        if file.startswith("decoder"):
            bounds = parity["decoder_bounds"][row["precision"]]
            assert row["max_abs"] <= bounds["max_abs"]
            assert row["mean_abs"] <= row["allowed_mean_abs"] <= bounds["mean_abs"]
            assert row["equal_choices"] >= bounds["choice_agreement"] * row["choices"] > 0
            assert 0 < row["golden_mean_abs"] < row["golden_max_abs"]
            continue
        bounds = parity["bounds"][row["precision"]]
        assert row["steps"] >= 20
        assert row["max_abs"] <= min(bounds["max_abs"], row["golden_max_abs"])
        assert row["mean_abs"] <= min(bounds["mean_abs"], row["golden_mean_abs"])
        assert row["equal_texts"] >= bounds["text_agreement"] * row["texts"] > 0
    with np.load(exported / "golden.npz", allow_pickle=False) as golden:
        assert golden["samples"].shape == (64000,)
        for precision in ("int8", "fp32"):
            assert golden[f"log_probs_{precision}"].shape == (100, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "precision"), PROGRAMS)
def test_the_runtime_opens_and_transcribes(exported: Path, backend: str, precision: str) -> None:
    recognizer = edge_asr.load(exported, backend=backend, precision=precision)
    result = check_golden(recognizer.package, recognizer.encoder, recognizer.program, steps=None)
    assert result.frames == 100 and result.max_abs <= result.bound
    transcript = recognizer.transcribe(CLIP)
    assert abs(transcript.duration_ms - 4000) < 100
    assert transcript == recognizer.transcribe(CLIP)


@pytest.mark.slow
def test_golden_bound_sees_a_damaged_weight(exported: Path) -> None:
    """The bound of an int8 program is near what was measured, not near what is possible."""
    package = open_package(exported)
    program = package.program("encoder", "torchscript", "int8")

    class Off:
        def __init__(self, encoder: Any) -> None:
            self.encoder = encoder

        def step(self, feats: Any, offset: int, state: Any) -> Any:
            return self.encoder.step(1.02 * feats, offset, state)

    encoder = edge_asr.load(exported, backend="torchscript", precision="int8").encoder
    check_golden(package, encoder, program)
    with pytest.raises(edge_asr.PackageError, match="golden"):
        check_golden(package, Off(encoder), program, steps=None)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "precision"), PROGRAMS)
def test_decoders_have_a_golden_vector(exported: Path, backend: str, precision: str) -> None:
    package = open_package(exported)
    program = package.program("decoder", backend, precision)
    decoder = load_decoder(package, program)
    result = check_decoder_golden(package, decoder, program)
    assert result is not None and result.hypotheses == 10
    assert result.max_abs <= result.bound

    class Off:
        def score(self, hyps: Any, hyp_lengths: Any, encoder_out: Any) -> Any:
            return decoder.score(hyps, hyp_lengths, self.change * encoder_out)

    for change in (0.5, np.float32(np.nan)):
        off = Off()
        off.change = np.float32(change)  # type: ignore[attr-defined]
        with pytest.raises(edge_asr.PackageError, match="golden scores"):
            check_decoder_golden(package, off, program)  # type: ignore[arg-type]


def lower_broken(monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]) -> None:
    """Make the TorchScript lowering lower ``change`` of the outputs instead."""
    lower = to_torchscript.lower

    class Broken(nn.Module):
        def __init__(self, program: EncoderProgram) -> None:
            super().__init__()
            self.program = program
            self.encoder = program.encoder

        def forward(
            self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor
        ) -> tuple[Tensor, ...]:
            return tuple(change(list(self.program(a, b, c, d, e, f))))

    def broken(program: nn.Module, interface: Interface) -> bytes:
        if isinstance(program, EncoderProgram):
            program = Broken(program).eval()
        return lower(program, interface)

    monkeypatch.setattr(to_torchscript, "lower", broken)


def drop_state(name: str) -> Callable[[list[Tensor]], list[Tensor]]:
    def change(outputs: list[Tensor]) -> list[Tensor]:
        index = 2 + STATE_NAMES.index(name)
        outputs[index] = torch.zeros_like(outputs[index])
        return outputs

    return change


def scaled(outputs: list[Tensor]) -> list[Tensor]:
    return [outputs[0], 1.01 * outputs[1], *outputs[2:]]


def not_numbers(outputs: list[Tensor]) -> list[Tensor]:
    return [outputs[0], outputs[1] * torch.tensor(float("nan")), *outputs[2:]]


BROKEN = {"conv lost": drop_state("conv"), "scaled": scaled, "NaN": not_numbers,
          "key lost": drop_state("key"), "value lost": drop_state("value"),
          "score lost": drop_state("score")}  # fmt: skip


@pytest.mark.parametrize(
    "how", ["conv lost", *(pytest.param(h, marks=pytest.mark.slow) for h in list(BROKEN)[1:])]
)
def test_a_wrong_program_is_refused(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lower_broken(monkeypatch, BROKEN[how])
    code = export(DATA / "wenet-moe", tmp_path / "out", "--precision", "fp32")
    assert code == ParityError.exit_code == 70
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("export: torchscript fp32: ") and "outside the bounds" in last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["scaled", "conv lost", "score lost"])
def test_a_wrong_int8_program_is_refused(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lower_broken(monkeypatch, BROKEN[how])
    assert export(DATA / "wenet-moe", tmp_path / "out") == 70
    assert "export: torchscript int8: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_unchanged_program_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the refusals above are for what was changed."""
    lower_broken(monkeypatch, lambda outputs: outputs)
    assert export(DATA / "wenet-moe", tmp_path / "out", "--precision", "fp32") == 0


@pytest.mark.slow
def test_a_network_that_does_not_stream_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(EagerEncoder, "step", forgetful(EagerEncoder.step))
    assert export(DATA / "wenet-dense", tmp_path / "out", "--precision", "int8") == 70
    assert "fp32: streaming differs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def forgetful(step: Callable[..., EncoderStep]) -> Callable[..., EncoderStep]:
    def forget(self: EagerEncoder, feats: Any, offset: int, state: Any) -> EncoderStep:
        result = step(self, feats, offset, state)
        fresh = tuple(np.zeros_like(array) for array in result.state)
        return EncoderStep(result.encoder_out, result.log_probs, fresh)

    return forget


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--precision", "int4"], 64, "int4"),
        (["--roles", "joiner"], 64, "joiner"),
        (["--roles", "decoder"], 64, "encoder"),
        (["--precision", ""], 64, "--precision"),
        (["--backends", "onnx,tensorrt"], 64, "tensorrt"),
        (["--left-frames", "0"], 64, "--left-frames"),
        (["--chunk-frames", "0"], 64, "--chunk-frames"),
        (["--chunk-frames", "32", "--max-chunk-frames", "16"], 64, "--max-chunk-frames"),
        (["--speech", "nowhere.tsv"], 66, "nowhere.tsv"),
        (["--metrics", "nowhere.json"], 66, "nowhere.json"),
        (["--metrics", str(DATA / "clips.tsv")], 78, "clips.tsv"),
        (["--card", str(CLIP)], 78, CLIP.name),
        (["--name", "no/name"], 78, "name"),
    ],
)
def test_refused_in_one_line(
    options: list[str], code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(DATA / "wenet-dense"), "-o", str(out), *options]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("export: ") and word in lines[0]
    assert not out.exists()


def test_missing_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path / "nothing", tmp_path / "out") == 66
    assert "train.yaml and final.pt and units.txt are missing" in capsys.readouterr().err


@pytest.mark.slow
def test_what_exists_is_replaced_only_on_demand(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--precision", "fp32", "--left-frames", "4"]
    assert export(DATA / "wenet-dense", out, *options) == 0
    before = (out / "manifest.json").read_bytes()
    assert export(DATA / "wenet-dense", out, "--precision", "fp32") == 73
    assert "--replace" in capsys.readouterr().err.splitlines()[-1]
    assert (out / "manifest.json").read_bytes() == before
    assert export(DATA / "wenet-dense", out, "--precision", "fp32", "--replace") == 0
    assert open_package(out).manifest.encoder.left_context == 64


@pytest.mark.slow
def test_an_encoder_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export(DATA / "wenet-dense", out, "--roles", "encoder", "--precision", "fp32") == 0
    manifest = open_package(out).manifest
    assert [program.role for program in manifest.programs] == ["encoder"]
    assert manifest.decoder is None and "decoder_bounds" not in (out / "parity.json").read_text()


@pytest.mark.slow
def test_a_decoder_that_was_not_trained_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "ctc-only"
    shutil.copytree(DATA / "wenet-dense", source)
    conf = (source / "train.yaml").read_text()
    assert "ctc_weight: 0.3" in conf
    (source / "train.yaml").write_text(conf.replace("ctc_weight: 0.3", "ctc_weight: 1.0"))
    assert export(source, tmp_path / "out", "--precision", "fp32") == 0
    assert "no decoder: with a ctc_weight of 1" in capsys.readouterr().err
    assert open_package(tmp_path / "out").manifest.decoder is None


@pytest.mark.slow
@pytest.mark.parametrize("left", ["1", "200"])
def test_left_context(left: str, tmp_path: Path) -> None:
    options = ["--left-frames", left, "--chunk-frames", "8", "--max-chunk-frames", "20"]
    assert export(DATA / "wenet-moe", tmp_path / "out", *options, backends="onnx") == 0
    package = open_package(tmp_path / "out")
    assert package.manifest.encoder.left_context == int(left)
    assert package.manifest.encoder.state[0].shape[3] == int(left)
    steps = package.parity["encoder.int8.onnx"]["steps"]
    assert isinstance(steps, int) and steps * 8 > 2 * int(left)
    recognizer = edge_asr.load(tmp_path / "out")
    assert recognizer.transcribe(CLIP, chunk_ms=320) == recognizer.transcribe(CLIP, chunk_ms=320)


@pytest.mark.slow
def test_unusual_settings(tmp_path: Path) -> None:
    """Another subsampling, relu experts, batch_norm and one decoder."""
    checkpoint = checkpoint_at("unusual", tmp_path)
    out = tmp_path / "out"
    assert export(checkpoint, out, "--precision", "int8,fp32", backends="onnx,torchscript") == 0
    decoder = open_package(out).manifest.decoder
    assert decoder is not None and not decoder.bidirectional and decoder.reverse_weight == 0
    for backend in ("onnx", "torchscript"):
        recognizer = edge_asr.load(out, backend=backend)
        assert recognizer.package.manifest.encoder.subsampling_rate == 6
        assert recognizer.transcribe(CLIP, chunk_ms=960).duration_ms > 3900


@pytest.mark.slow
def test_integers_of_the_quantizer_give_the_same_package(tmp_path: Path) -> None:
    """Checkpoint to package, and checkpoint to integers to package: the same bytes.

    A TorchScript file counts the classes that its process compiled before, so ONNX it is.
    """
    assert quant_main([str(DATA / "wenet-moe"), "-o", str(tmp_path / "integers")]) == 0
    programs = []
    for source in (DATA / "wenet-moe", tmp_path / "integers"):
        out = tmp_path / f"from-{source.name}"
        assert export(source, out, backends="onnx") == 0
        manifest = open_package(out).manifest
        programs.append([(p.file, p.sha256) for p in manifest.programs])
        with np.load(out / "golden.npz") as golden:
            programs[-1].append(("golden", golden["log_probs_int8"].tobytes().hex()))
        programs[-1].append(("source", manifest.provenance.checkpoint_sha256))
    assert programs[0] == programs[1]


@pytest.mark.slow
def test_a_package_is_as_old_as_its_programs(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def created(checkpoint: str, *options: str) -> str:
        assert export(DATA / checkpoint, out, *options, backends="onnx") == 0
        return open_package(out).manifest.provenance.created

    today = created("wenet-dense")
    fields = json.loads((out / "manifest.json").read_text())
    fields["provenance"]["created"] = "2020-01-01"
    (out / "manifest.json").write_bytes(sealed(fields))
    assert created("wenet-dense", "--replace") == "2020-01-01"
    assert created("wenet-moe", "--replace") >= today
