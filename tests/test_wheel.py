"""The wheel, built and installed as on a board: edge_asr alone, its dependencies, no torch.

No network is used. The dependencies are linked from the environment of the tests, and only those
that the wheel itself declares: what it forgot to declare is missing there.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import jiwer
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ROOT / "tests" / "data"
BUILD_INPUTS = ("edge_asr", "model", "quant", "export", "apps", "tests")
BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed."""
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy of all rooms: an old build/ folder would bring back deleted files.
    source = tmp_path_factory.mktemp("source")
    for name in BUILD_INPUTS:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
    for name in BUILD_FILES:
        shutil.copyfile(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source)
    (path,) = out.glob("*.whl")
    return path


def declared_requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])


def distribution_closure(requirements: list[str]) -> dict[str, importlib.metadata.Distribution]:
    """Every installed distribution that the requirements lead to, extras left out."""
    found: dict[str, importlib.metadata.Distribution] = {}
    queue = [Requirement(text) for text in requirements]
    while queue:
        requirement = queue.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = importlib.metadata.distribution(name)
        queue += [Requirement(text) for text in found[name].requires or []]
    return found


@pytest.fixture(scope="module")
def board(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and nothing but what it declares."""
    folder = tmp_path_factory.mktemp("board")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    here = Path(sysconfig.get_path("purelib"))
    for distribution in distribution_closure(declared_requirements(wheel)).values():
        for entry in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (packages / entry).exists():
                os.symlink(here / entry, packages / entry)
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel)
    run(*pip, "check")
    return python


def test_wheel_is_edge_asr_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    assert top == {"edge_asr", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    assert "edge_asr/py.typed" in names


def test_wheel_holds_every_module_and_package_file(wheel: Path) -> None:
    tracked = run("git", "ls-files", "edge_asr", cwd=ROOT).splitlines()
    with zipfile.ZipFile(wheel) as archive:
        missing = set(tracked) - set(archive.namelist())
    assert tracked
    assert not missing


def test_wheel_does_not_need_torch(wheel: Path) -> None:
    names = set(distribution_closure(declared_requirements(wheel)))
    assert "onnxruntime" in names
    assert not names & {"torch", "executorch", "torchao", "onnx"}


def test_installed_wheel_imports_without_torch(board: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.util, edge_asr, sys;"
        "print(edge_asr.__file__, importlib.util.find_spec('torch'), 'torch' in sys.modules)"
    )
    origin, spec, loaded = run(board, "-I", "-c", program, cwd=tmp_path).split()
    assert Path(origin).is_relative_to(board.parents[1])
    assert (spec, loaded) == ("None", "False")


TRANSCRIBE = """
import json, sys
import edge_asr
recognizer = edge_asr.load()
texts = [" ".join(s.text for s in recognizer.transcribe(path).segments) for path in sys.argv[1:]]
print(json.dumps([texts, "torch" in sys.modules]))
"""


def test_installed_wheel_transcribes(board: Path, tmp_path: Path) -> None:
    with (CLIPS / "clips.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    paths = [str(CLIPS / row["path"]) for row in rows]
    texts, torch_loaded = json.loads(run(board, "-I", "-c", TRANSCRIBE, *paths, cwd=tmp_path))
    assert not torch_loaded
    # Not an accuracy test (the model card is): most of these easy words must simply come out right.
    said = [row["text"] for row in rows]
    assert jiwer.wer(said, texts) < 0.5, list(zip(said, texts, strict=True))


def test_command_is_installed(board: Path, tmp_path: Path) -> None:
    command = board.with_name("edge-asr")
    assert "transcribe" in run(command, "--help", cwd=tmp_path)
