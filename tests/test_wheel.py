"""The wheel, built and installed as on a board: edge_asr alone, its dependencies, no torch.

No network is used. The dependencies are linked from the environment of the tests, and only those
that the wheel itself declares: what it forgot to declare is missing there. The wheel is built
twice, with a compiler and without.
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
BUILD_INPUTS = ("edge_asr", "model", "quant", "export", "apps", "benchmark", "packages", "tests")
BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE")

NATIVE = {
    "_executorch" + sysconfig.get_config_var("EXT_SUFFIX"),
    *(f"libedge_asr_{name}.so" for name in ("kernels", "onnx", "executorch", "torch")),
}
NO_COMPILER = {"CXX": "no-such-compiler"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # compiling takes a minute or two


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all rooms with libraries that must not get into a wheel."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILD_INPUTS:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
    for name in BUILD_FILES:
        shutil.copyfile(ROOT / name, source / name)
    for name in ("_executorch.cpython-310-x86_64-linux-gnu.so", "libedge_asr_old.so", *NATIVE):
        (source / "edge_asr" / "native" / name).write_bytes(b"of yesterday")
    return source


@pytest.fixture(scope="module", params=[True, False], ids=["compiled", "no-compiler"])
def wheel(
    request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if request.param and shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("no C++ compiler; run: apt-get install g++")
    out = tmp_path_factory.mktemp("dist")
    env = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count())} if request.param else NO_COMPILER
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source)
    run(*build, env=env)
    (path,) = out.glob("*.whl")
    return path


def compiled(wheel: Path) -> bool:
    return not wheel.name.endswith("-py3-none-any.whl")


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


def environment(folder: Path, requirements: list[str]) -> Path:
    """The interpreter of a new environment with links to what the requirements lead to."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    here = Path(sysconfig.get_path("purelib"))
    for distribution in distribution_closure(requirements).values():
        for entry in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (packages / entry).exists():
                os.symlink(here / entry, packages / entry)
    return python


@pytest.fixture(scope="module")
def board(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and nothing but what it declares."""
    python = environment(tmp_path_factory.mktemp("board"), declared_requirements(wheel))
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
    assert not [name for name in names if name.endswith((".cpp", ".h", ".cmake", "Lists.txt"))]


def test_wheel_holds_what_was_compiled(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
        contents = [archive.read(name)[:4] for name in libraries]
    assert set(contents) <= {b"\x7fELF"}
    expected = {f"edge_asr/native/{name}" for name in NATIVE} if compiled(wheel) else set()
    assert set(libraries) == expected
    assert wheel.name.split("-")[2:4] == ["py3", "none"]


def test_wheel_holds_every_module_and_package_file(wheel: Path) -> None:
    tracked = run("git", "ls-files", "edge_asr", cwd=ROOT).splitlines()
    with zipfile.ZipFile(wheel) as archive:
        sources = [name for name in tracked if name.endswith((".cpp", ".h", ".cmake", "Lists.txt"))]
    missing = set(tracked) - set(sources) - set(archive.namelist())
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


KERNELS = """
from edge_asr.errors import BackendError
from edge_asr.native import library
try:
    print(*library.kernels())
except BackendError as error:
    print(error)
"""


def test_installed_wheel_has_the_kernels_or_says_so(
    wheel: Path, board: Path, tmp_path: Path
) -> None:
    printed = run(board, "-I", "-c", KERNELS, cwd=tmp_path, env={"PATH": str(tmp_path)})
    if compiled(wheel):
        assert printed.split()[-1] == "portable"
    else:
        assert "the native kernels are not built" in printed


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


def test_an_editable_install_is_the_tree_and_compiles_nothing(source: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", ["scikit-build-core", "numpy"])
    pip = (sys.executable, "-m", "pip", "--python", python)
    offline = ("install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, *offline, "--editable", source)
    program = "import edge_asr, edge_asr.native; print(edge_asr.native.__file__)"
    printed = run(python, "-I", "-c", program, cwd=tmp_path).strip()
    assert Path(printed) == source / "edge_asr" / "native" / "__init__.py"
    (new := source / "edge_asr" / "native" / "_new.py").write_text("")
    run(python, "-I", "-c", "import edge_asr.native._new", cwd=tmp_path)
    new.unlink()
    assert not (source / "build").exists()
    assert (source / "edge_asr/native/libedge_asr_kernels.so").read_bytes() == b"of yesterday"
