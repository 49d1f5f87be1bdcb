"""What is missing, and what to run."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge_asr.backends.table import BACKENDS
from edge_asr.commands import doctor
from edge_asr.commands.doctor import Devices, Finding, examine, verdict
from edge_asr.errors import DeviceError
from edge_asr.native import library as native
from edge_asr.package.files import Package
from edge_asr.programs import loading
from tests.tiny import DECODER, sealed

ROOT = Path(__file__).resolve().parents[3]
MICROPHONE: Devices = [
    {"index": 0, "name": "mic", "channels": 1, "rate": 16000, "is_default": True}
]


@pytest.fixture
def packages(tiny_package: Package, tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    shutil.copytree(tiny_package.root, folder / "tiny")
    return folder


def named(findings: list[Finding], subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def test_all_is_well(packages: Path) -> None:
    findings = list(examine(packages, lambda: MICROPHONE))
    assert verdict(findings) == 0
    assert "mic (default)" in named(findings, "microphone").found
    assert "onnx" in named(findings, "tiny").found
    assert named(findings, "tiny").advice == "edge-asr verify tiny"


def test_a_package_runs_where_its_encoder_does(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packages / "tiny/manifest.json"
    fields = json.loads(path.read_text())
    (encoder,) = fields["programs"]
    decoder = {"role": "decoder", "backend": "torchscript", "file": "decoder.fp32.pt"}
    fields["programs"].append(encoder | decoder)
    fields["decoder"] = msgspec.to_builtins(DECODER)
    path.write_bytes(sealed(fields))
    shutil.copy(packages / "tiny/encoder.fp32.onnx", packages / "tiny/decoder.fp32.pt")
    monkeypatch.setattr(loading, "preferred_dispatch", lambda *_, **__: ("native", "they run"))
    found = named(list(examine(packages, lambda: MICROPHONE)), "tiny").found
    assert found == "opens; runs on onnx; takes the portable program (it has no native one)"


def test_no_microphone(packages: Path) -> None:
    findings = list(examine(packages, list))
    assert verdict(findings) == 69
    assert "--list-devices" in named(findings, "microphone").advice


def test_no_portaudio(packages: Path) -> None:
    def fail() -> Devices:
        raise DeviceError("PortAudio is not installed; run: apt-get install libportaudio2")

    findings = list(examine(packages, fail))
    assert verdict(findings) == 69
    assert "apt-get" in named(findings, "microphone").found


def test_a_damaged_package_is_a_problem_unless_another_one_works(packages: Path) -> None:
    shutil.copytree(packages / "tiny", packages / "damaged")
    card = packages / "damaged" / "README.md"
    card.write_text(card.read_text().swapcase())  # of the right size
    findings = list(examine(packages, lambda: MICROPHONE))
    assert "README.md" in named(findings, "damaged").found
    assert verdict(findings) == 0
    shutil.rmtree(packages / "tiny")
    assert verdict(list(examine(packages, list))) == 78, "before the microphone, which is gone too"


def test_no_package_at_all(tmp_path: Path) -> None:
    findings = list(examine(tmp_path / "none", lambda: MICROPHONE))
    assert verdict(findings) == 78
    assert "make export-int8" in named(findings, "packages").advice


def test_no_backend(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, backend in BACKENDS.items():
        missing = dataclasses.replace(backend, libraries=("no_such_library",))
        monkeypatch.setitem(BACKENDS, name, missing)
    findings = list(examine(packages, lambda: MICROPHONE))
    assert verdict(findings) == 78
    assert named(findings, "backends").advice == "pip install onnxruntime"
    assert "needs onnx" in named(findings, "tiny").found


@pytest.mark.parametrize("alone", [False, True])
def test_a_version_that_ends_the_process(
    packages: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    monkeypatch.setattr(doctor, "installed", lambda library: "1.27.0")
    for name in ("executorch", "torchscript"):
        libraries = ("no_such_library",) if alone else ("numpy",)
        other = dataclasses.replace(BACKENDS[name], libraries=libraries, binding=None)
        monkeypatch.setitem(BACKENDS, name, dataclasses.replace(other, without_binding=()))
    findings = list(examine(packages, lambda: MICROPHONE))
    onnx = named(findings, "onnx")
    assert "onnxruntime 1.27.0 ends the process" in onnx.found
    assert onnx.advice == "pip install 'onnxruntime>=1.30'"
    assert "needs onnx" in named(findings, "tiny").found
    assert [finding.subject for finding in findings].count("backends") == alone
    assert verdict(findings) == 78


@pytest.mark.parametrize(
    ("others", "needs", "advice"),
    [
        ([], "openvino (not known to this edge_asr)", "install a newer edge_asr"),
        (
            ["onnx"],
            "onnx or openvino (not known to this edge_asr)",
            "install one of these backends",
        ),
    ],
)
def test_a_backend_not_known_here_is_said(
    packages: Path,
    monkeypatch: pytest.MonkeyPatch,
    others: list[str],
    needs: str,
    advice: str,
) -> None:
    folder = packages / "tiny"
    fields = json.loads((folder / "manifest.json").read_text())
    (encoder,) = fields["programs"]
    fields["programs"] = []
    data = (folder / encoder["file"]).read_bytes()
    (folder / encoder["file"]).unlink()
    for backend in [*others, "openvino"]:
        fields["programs"].append(encoder | {"backend": backend, "file": f"encoder.{backend}"})
        (folder / f"encoder.{backend}").write_bytes(data)
    (folder / "manifest.json").write_bytes(sealed(fields))
    missing = dataclasses.replace(BACKENDS["onnx"], libraries=("no_such_library",))
    monkeypatch.setitem(BACKENDS, "onnx", missing)
    findings = list(examine(packages, lambda: MICROPHONE))
    found = named(findings, "tiny")
    assert (found.found, found.advice) == (f"opens, but needs {needs}", advice)
    assert verdict(findings) == 78


@pytest.mark.parametrize("built", [True, False])
def test_executorch_needs_torch_only_without_our_binding(
    packages: Path, monkeypatch: pytest.MonkeyPatch, built: bool
) -> None:
    binding = "json" if built else "edge_asr.native._not_built"
    executorch = dataclasses.replace(BACKENDS["executorch"], libraries=("numpy",), binding=binding)
    monkeypatch.setitem(BACKENDS, "executorch", executorch)
    monkeypatch.setitem(sys.modules, "torch", None)
    findings = list(examine(packages, lambda: MICROPHONE))
    said = named(findings, "binding")
    assert said.found == f"ExecuTorch without torch is {'built' if built else 'not built'}"
    assert ("make native" in said.advice) == (not built)
    assert ("torch not installed" in named(findings, "executorch").found) == (not built)
    assert verdict(findings) == 0


def test_kernels_that_are_not_built_are_no_problem(
    packages: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    native.library.cache_clear()
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    findings = list(examine(packages, lambda: MICROPHONE))
    assert "not built; build them with: make native" in named(findings, "kernels").found
    assert verdict(findings) == 0


@pytest.mark.skipif(not native.built(), reason="not built; run: make native")
def test_kernels_say_what_they_run_with(packages: Path) -> None:
    found = named(list(examine(packages, lambda: MICROPHONE)), "kernels").found
    runs, built = found.removeprefix("run with ").split("; built: ")
    assert runs in built.split(", ")
    assert built.endswith("portable")


def test_a_missing_library_ends_the_look(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", ("numpy", "no-such-library"))
    findings = list(examine(packages, lambda: pytest.fail("asked for microphones")))
    assert verdict(findings) == 78
    assert findings[-1].advice == "pip install no-such-library"


PROGRAM = """
import sys
from edge_asr.__main__ import main
code = main(["doctor"])
assert code in (0, 69, 78), code
heavy = {"onnxruntime", "torch", "executorch", "sounddevice"} & set(sys.modules)
assert not heavy, f"doctor loads {sorted(heavy)}"
"""


@pytest.mark.slow
def test_it_loads_nothing_heavy() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "microphone" in result.stdout
    assert result.stderr == ""
