"""The parser of every command, and the options of those that run a model."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from edge_asr import errors
from edge_asr.commands.model_options import Parser, add_model_arguments, load_options
from edge_asr.exits import exit_code
from edge_asr.native.library import Levers
from edge_asr.streams.recognizer import load


def test_the_options_of_a_model_are_arguments_of_load() -> None:
    parser = Parser()
    add_model_arguments(parser)
    found = load_options(parser.parse_args([]))
    accepted = inspect.signature(load).parameters
    assert found == {name: accepted[name].default for name in found}, "the defaults are the same"
    words = (
        "--package p --backend b --precision fp32 --dispatch native --levers top_k=1 --threads 2"
    )
    assert load_options(parser.parse_args(words.split())) == {
        "package": "p",
        "backend": "b",
        "precision": "fp32",
        "dispatch": "native",
        "levers": Levers(top_k=1),
        "threads": 2,
    }


@pytest.mark.parametrize("command", ["transcribe", "bench", "inspect", "verify"])
def test_help_waits_for_no_numpy(command: str) -> None:
    program = (
        "import sys; from edge_asr.__main__ import main\n"
        f"assert main(['{command}', '--help']) == 0\n"
        "assert 'numpy' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_wrong_options_are_one_line_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="edge-asr test")
    parser.add_argument("--number", type=int)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--number", "9\n" * 5000])
    assert end.value.code == errors.UsageError.exit_code == 64
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert len(message) < 400
    assert message.endswith("run: edge-asr test --help\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("top_k=1", Levers(top_k=1)),
        ("min_weight=.25", Levers(min_weight=0.25)),
        ("max_experts=64", Levers(max_experts=64)),
        ("max_experts=4,top_k=2,min_weight=0.3", Levers(2, 0.3, 4)),
    ],
)
def test_levers(text: str, expected: Levers) -> None:
    parser = Parser()
    add_model_arguments(parser)
    assert parser.parse_args(["--levers", text]).levers == expected
    assert parser.parse_args([]).levers is None


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "top_k", "top_k=", "top_k=0", "top_k=65", "top_k=-1", "top_k=1.0", "top_k=\u0663",
        "top_k=1,", "top_k=1,top_k=1", "topk=1", "top_k = 1", "max_experts=1e1",
        "top_k=" + "1" * 5000,
        "min_weight=0", "min_weight=0.0", "min_weight=1", "min_weight=1.5", "min_weight=-0.3",
        "min_weight=nan", "min_weight=inf", "min_weight=3e-1", "min_weight=0.3=4",
    ],
)  # fmt: skip
def test_other_levers_are_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="edge-asr")
    add_model_arguments(parser)
    assert exit_code(lambda: len(vars(parser.parse_args(["--levers", text])))) == 64
    message = capsys.readouterr().err
    assert message.startswith("edge-asr: argument --levers: ") and message.count("\n") == 1
