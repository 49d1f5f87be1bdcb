"""What the documents say is real: commands, options, code, paths and links."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile

import edge_asr
from edge_asr.__main__ import main
from tests.test_architecture import ROOMS, ROOT

README = ROOT / "README.md"
RECORDERS = {"arecord", "ffmpeg", "ssh"}  # of others, into a pipe
PUBLIC = {"edge_asr": set(edge_asr.__all__), "edge_asr.testing": {"scripted"}}
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


class Block(NamedTuple):
    """A fenced block of a document."""

    document: Path
    language: str
    text: str


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [ROOT / name for name in listed.stdout.splitlines()]
    assert README in found
    return found


def blocks(language: str) -> list[Block]:
    found = []
    for document in documents():
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", document.read_text(), re.M | re.S):
            if match[1] == language:
                found.append(Block(document, match[1], match[2]))
    return found


def commands() -> Iterator[list[str]]:
    """The commands of all fenced blocks, and those between backticks that name what to run."""
    for block in blocks("bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            yield from pipeline(shlex.split(line, comments=True))
    for document in documents():
        prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.M | re.S)
        for line in re.findall(r"`((?:make|edge-asr|python -m) [^`]+)`", prose):
            yield shlex.split(line)


def pipeline(words: list[str]) -> Iterator[list[str]]:
    """The commands between the bars of a line of shell."""
    for is_bar, command in groupby(words, lambda word: word == "|"):
        if not is_bar:
            yield list(command)


@cache
def help_text(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *arguments, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"python -m {' '.join(arguments)} --help: {result.stderr}"
    return result.stdout


def as_python_module(words: list[str]) -> list[str]:
    """The words after ``python -m`` of a command that runs Python, else nothing."""
    if words[0] == "edge-asr":
        return ["edge_asr", *words[1:]]
    if Path(words[0]).name.startswith("python") and words[1] == "-m":
        return words[2:]
    return []


def test_make_targets_exist() -> None:
    used = {words[1] for words in commands() if words[0] == "make"}
    assert {"captions", "test"} <= used
    # train-% is a rule for every recipe, of which documents speak as NAME too.
    recipes = {f"train-{path.stem}" for path in (ROOT / "model" / "recipes").glob("*.yaml")}
    assert used <= TARGETS | recipes | {"train-NAME"}


def test_extras_of_pip_install_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    installed = [words[2] for words in commands() if words[:2] == ["pip", "install"]]
    named = {extra for target in installed for extra in re.findall(r"^\.\[([a-z]+)\]$", target)}
    assert "." in installed
    assert {re.sub(r"\[.*", "", target) for target in installed} == {"."}
    assert named <= set(extras) and named


def test_blocks_are_in_languages_that_are_checked() -> None:
    languages = {
        language
        for document in documents()
        for language in re.findall(r"^```(\w+)$", document.read_text(), re.M)
    }
    assert languages == {"bash", "python", "text", "hotwords", "jsgf", "sentences"}


def test_every_command_is_of_a_known_kind() -> None:
    strange = [
        words
        for words in commands()
        if words[0] not in {"make", *RECORDERS}
        and words[:2] != ["pip", "install"]
        and not as_python_module(words)
    ]
    assert not strange, "teach tests/test_docs.py to check these"


@pytest.mark.slow
def test_commands_and_their_options_exist() -> None:
    checked = [as_python_module(words) for words in commands() if as_python_module(words)]
    assert checked
    for module, *arguments in checked:
        subcommand = arguments[:1] if module == "edge_asr" else []
        text = help_text(module, *subcommand)
        for option in (a.partition("=")[0] for a in arguments if a.startswith("--")):
            assert option in text, f"python -m {module} has no {option}"


@pytest.mark.slow
def test_every_subcommand_is_in_the_readme() -> None:
    (listed,) = re.findall(r"\{([a-z,]+)\}", help_text("edge_asr").splitlines()[0])[:1]
    table = re.findall(r"^\| `edge-asr ([a-z]+)", README.read_text(), re.M)
    assert set(listed.split(",")) == set(table)


@pytest.mark.slow
def test_the_output_that_the_readme_shows_is_real(capfd: pytest.CaptureFixture[str]) -> None:
    (shown,) = [block.text for block in blocks("text") if block.document == README]
    (file,) = re.findall(r"^make captions INPUT=(\S+)$", README.read_text(), re.M)
    assert main(["mic", "--input", str(ROOT / file)]) == 0
    out, err = capfd.readouterr()
    assert (err + out).replace(f"{ROOT}/", "") == shown


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.document.name)
def test_python_names_are_public(block: Block) -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "edge_asr"
    }
    assert used <= set(edge_asr.__all__)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.document.name)
def test_python_imports_from_the_face_alone(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edge_asr"):
            assert node.module in PUBLIC, "import it from edge_asr, where it is public"
            assert {alias.name for alias in node.names} <= PUBLIC[node.module]
        elif isinstance(node, ast.Import):
            inside = [alias.name for alias in node.names if alias.name.startswith("edge_asr.")]
            assert not inside, "import edge_asr, and use its names"


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    samples, rate = soundfile.read(ROOT / "tests/data/an4/an418-fjlp-b.flac")
    soundfile.write(tmp_path / "speech.wav", samples, rate)
    (program,) = [block.text for block in blocks("python") if block.document == README]
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Final(" in result.stdout


DECODING = ROOT / "docs/decoding.md"


@pytest.fixture
def decoding_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that docs/decoding.md speaks of, in the working directory."""
    for language, name in {
        "hotwords": "names.txt", "sentences": "sentences.txt", "jsgf": "lamp.jsgf"
    }.items():  # fmt: skip
        (text,) = [block.text for block in blocks(language) if block.document == DECODING]
        (tmp_path / name).write_text(text)
    (tmp_path / "phrases.txt").write_text("enter eight nine seven\nerase\n")
    samples, rate = soundfile.read(ROOT / "tests/data/an4/an418-fjlp-b.flac")
    soundfile.write(tmp_path / "speech.wav", samples, rate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("decoding_folder")
def test_commands_of_the_decoding_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    ran = []
    for block in blocks("bash"):
        for line in block.text.splitlines() if block.document == DECODING else ():
            _, command, *arguments = shlex.split(line)
            if command == "mic":
                arguments += ["--input", "speech.wav"]
            assert main([command, *arguments]) == 0, capsys.readouterr().err
            out, err = capsys.readouterr()
            assert out != ""
            assert "left out" not in err
            ran.append(command)
    assert set(ran) == {"mic", "transcribe", "lm"}


@pytest.mark.slow
def test_python_of_the_decoding_page_runs(
    decoding_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lm", "sentences.txt", "-o", "my.arpa"]) == 0
    capsys.readouterr()
    programs = [block.text for block in blocks("python") if block.document == DECODING]
    assert len(programs) == 4
    for program in programs:
        exec(compile(program, "decoding.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.count("ENTER EIGHT NINETY SEVEN") >= 2
    assert "'señor' is left out" in out
    assert "endpoint.silence_ms: 5; 80 to 30000 ms" in out
    assert out.count("\nFinal(") == 2
    assert "Final(" in out.splitlines()[-1]


def test_every_module_says_what_it_owns() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()
    ]
    assert not silent, "give these a first line that says what they own"


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if not (document.parent / link).exists()]
    assert not missing
