"""The house rules that a machine can check: arrows between rooms, sizes, names, light imports.

``LONG_FUNCTIONS`` only shrinks: a name that is no longer needed fails the test too.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("edge_asr", "model", "quant", "export", "apps", "benchmark")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
MAX_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_PLACES = 20  # directly in edge_asr/
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
SOURCES = {".py", ".c", ".cc", ".cpp", ".h", ".hpp", ".js"}

LONG_FUNCTIONS = frozenset(
    """
    tests/tiny.py:tiny_onnx
    """.split()
)


def sources(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in SOURCES and "__pycache__" not in path.parts:
                yield path


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of pyproject.toml on the packages below ``folder``."""
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-logo", "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_arrows_between_rooms() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_room_is_under_the_contracts() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {room for room in ROOMS if any((ROOT / room).glob("*.py"))}
    assert set(settings["tool"]["importlinter"]["root_packages"]) == rooms


SMALL_HOUSE = {
    "apps/__init__.py": "",
    "apps/board.py": "import edge_asr.streams.stream",
    "benchmark/__init__.py": "",
    "benchmark/page.py": "import export.onnx_program\nimport edge_asr.streams.stream",
    "benchmark/words/__init__.py": "",
    "benchmark/words/errors.py": "import benchmark.page",
    "edge_asr/__init__.py": "",
    "edge_asr/errors.py": "",
    "edge_asr/audio/__init__.py": "",
    "edge_asr/streams/__init__.py": "",
    "edge_asr/audio/features.py": "import edge_asr.errors",
    "edge_asr/streams/stream.py": "import edge_asr.audio.features",
    "edge_asr/backends/__init__.py": "",
    "edge_asr/backends/onnx_runtime.py": "import onnxruntime",
    "edge_asr/backends/torchscript_runtime.py": "import torch",
    "model/__init__.py": "",
    "model/network.py": "import torch\nfrom edge_asr.audio.features import spec",
    "quant/__init__.py": "",
    "quant/plan.py": "import model.network",
    "export/__init__.py": "",
    "export/onnx_program.py": "import quant.plan\nimport model.network\nimport edge_asr.streams",
}


def build_house(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_contracts_allow_the_flow(tmp_path: Path) -> None:
    build_house(tmp_path, SMALL_HOUSE)
    result = lint_imports(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("edge_asr/errors.py", "import model.network"),
        ("edge_asr/audio/features.py", "import edge_asr.streams.stream"),
        ("edge_asr/streams/stream.py", "import torch"),
        ("edge_asr/streams/stream.py", "def late() -> None:\n    import onnxruntime"),
        ("edge_asr/backends/onnx_runtime.py", "import torch"),
        ("model/network.py", "import edge_asr.streams.stream"),
        ("model/network.py", "from edge_asr import stream"),
        ("model/network.py", "import quant.plan"),
        ("quant/plan.py", "import edge_asr.streams.stream"),
        ("apps/board.py", "import model.network"),
        ("edge_asr/streams/stream.py", "import apps.board"),
        ("export/onnx_program.py", "import benchmark.page"),
        ("apps/board.py", "import benchmark.page"),
        ("benchmark/page.py", "import benchmark.words.errors"),
        ("quant/plan.py", "import export.onnx_program"),
    ],
)
def test_contracts_forbid(tmp_path: Path, file: str, line: str) -> None:
    build_house(tmp_path, SMALL_HOUSE | {file: f"{SMALL_HOUSE[file]}\n{line}"})
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert "BROKEN" in result.stdout, result.stdout + result.stderr


def test_no_process_of_python_imports_from_its_working_folder() -> None:
    for path in sources(*ROOMS):
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.List | ast.Tuple) and len(node.elts) > 1:
                words = [item.value for item in node.elts if isinstance(item, ast.Constant)]
                assert "-m" not in words or "-P" in words, (
                    f"{path}:{node.lineno}: use python_command"
                )


def arrows_between_places() -> dict[str, set[str]]:
    """The modules and packages directly in edge_asr, each with those that it imports; imports for
    types count."""
    graph = grimp.build_graph("edge_asr", cache_dir=None)
    arrows = {}
    for place in graph.find_children("edge_asr") - {"edge_asr.__main__"}:
        inside = {place, *graph.find_descendants(place)}
        imported = set().union(*map(graph.find_modules_directly_imported_by, inside)) - inside
        arrows[place] = {".".join(name.split(".")[:2]) for name in imported} - {"edge_asr"}
    return arrows


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """One circle, or nothing."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_runtime_is_few_places_in_no_circle() -> None:
    arrows = arrows_between_places()
    assert "edge_asr.audio" in arrows["edge_asr.streams"]
    assert len(arrows) <= MAX_PLACES, "find the package that a new place belongs to"
    assert not circle(arrows)
    assert circle({**arrows, "edge_asr.errors": {"edge_asr.streams"}})


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources(*ROOMS, "tests")}
    long = {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_LINES}
    assert lengths
    assert not long, f"over {MAX_LINES} lines, find the wall to move: {long}"


def long_functions(path: Path) -> Iterator[str]:
    """FILE:NAME of the functions that are too long, methods as Class.name."""

    def walk(node: ast.AST, outer: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from walk(child, outer)
                continue
            lines = (child.end_lineno or child.lineno) - child.lineno + 1
            if lines > MAX_FUNCTION_LINES and not isinstance(child, ast.ClassDef):
                yield f"{path.relative_to(ROOT)}:{outer}{child.name}"
            yield from walk(child, f"{outer}{child.name}.")

    return walk(ast.parse(path.read_text()), "")


def test_no_function_is_too_long() -> None:
    python = [path for path in sources(*ROOMS, "tests") if path.suffix == ".py"]
    long = {name for path in python for name in long_functions(path)}
    assert long - LONG_FUNCTIONS == set(), f"over {MAX_FUNCTION_LINES} lines, split these"
    assert LONG_FUNCTIONS - long == set(), "short enough or gone; take these off the list"


def commands_named(path: Path) -> Iterator[str]:
    """The modules that the texts of a Python file say to run as commands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"python -m ([a-z_.]*[a-z_])", node.value)


def test_commands_that_texts_name_are_there() -> None:
    python = [path for path in sources(*ROOMS) if path.suffix == ".py"]
    named = {(path, command) for path in python for command in commands_named(path)}
    assert (ROOT / "model/train.py", "model.train") in named
    missing = [
        f"{path.relative_to(ROOT)}: {command}"
        for path, command in named
        if command.partition(".")[0] in ROOMS
        and not {ROOT.joinpath(*command.split("."), "__main__.py"),
                 ROOT.joinpath(*command.split(".")).with_suffix(".py")} & {*python}
    ]  # fmt: skip
    assert not missing


def test_commands_call_themselves_what_they_are() -> None:
    named = []
    for path in (path for path in sources(*ROOMS) if path.suffix == ".py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__main__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                if node.func.id in ("errors_as_lines", "page_parser"):
                    named.append((module, ast.literal_eval(node.args[0])))
    assert ("benchmark.words.accuracy",) * 2 in named
    assert [pair for pair in named if pair[0] != pair[1]] == []


def test_names_say_what_is_inside() -> None:
    vague = [
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS, "tests")
        if VAGUE_NAMES & {part.removesuffix(path.suffix) for part in path.relative_to(ROOT).parts}
    ]
    assert not vague, f"name these after what they own: {vague}"


def imported_libraries() -> set[str]:
    """Top-level names that any file of ours imports, our own rooms excepted."""
    names: set[str] = set()
    for path in sources(*ROOMS, "tests"):
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - {*ROOMS, "tests", "__future__"}


def test_no_file_is_named_like_a_library() -> None:
    # Started as a script, such a file imports itself in the place of the library.
    libraries = imported_libraries()
    assert "numpy" in libraries
    clashes = [
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS, "tests")
        if path.suffix == ".py" and path.stem in libraries
    ]
    assert not clashes


def test_every_test_folder_is_a_package() -> None:
    # Without the chain of __init__.py, tests/export would be imported as the room export.
    folders = {path.parent for path in sources("tests") if path.suffix == ".py"}
    missing = [str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").is_file()]
    assert not missing


# Files of other projects that comments may send the reader to.
FOREIGN_FILES = {"sysexits.h", "wenet/bin/export_jit.py", "ROOM/x/y.py", "tests/ROOM/x/test_y.py"}


def prose(path: Path) -> Iterator[str]:
    """Comments and docstrings."""
    text = path.read_text()
    if path.suffix != ".py":
        yield from re.findall(r"//.*|/\*[\s\S]*?\*/", text)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.slow
def test_files_that_comments_name_exist() -> None:
    files = list(sources(*ROOMS, "tests"))
    named = {
        (path, name)
        for path in files
        for part in prose(path)
        for name in re.findall(r"[\w./*-]*\w\.(?:cpp|h|py)\b", part)
    }
    assert "weights.h" in {name for _, name in named}
    missing = [
        f"{path.relative_to(ROOT)} names {name}"
        for path, name in sorted(named)
        if name not in FOREIGN_FILES and not any(file.match(name) for file in files)
    ]
    assert not missing


IMPORT_EVERYTHING = """
import importlib, pkgutil, sys, threading
import edge_asr
light = {"torch", "onnxruntime", "executorch", "sounddevice"} & set(sys.modules)
assert not light, f"import edge_asr loads {sorted(light)}"
for module in pkgutil.walk_packages(edge_asr.__path__, "edge_asr."):
    if ".libedge_asr_" in module.name:
        continue  # a shared library is no module, but has the ending of one
    if not module.name.endswith(("_runtime", "._executorch", "__main__")):
        importlib.import_module(module.name)
heavy = {"torch", "onnxruntime", "executorch"} & set(sys.modules)
assert not heavy, f"a module of edge_asr other than its backend loads {sorted(heavy)}"
assert threading.active_count() == 1, "importing starts a thread"
"""


def test_importing_the_runtime_is_light() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EVERYTHING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "", "importing prints"
    assert result.stderr == "", "importing prints"
