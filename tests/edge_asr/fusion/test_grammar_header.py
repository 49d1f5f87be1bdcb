"""Grammars after something else, and without what they begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asr.errors import UsageError
from edge_asr.fusion.grammar import Grammar
from edge_asr.fusion.grammar_header import header_end, is_jsgf
from edge_asr.package.units import Units

LETTERS = Units(("<blank>", "▁", *"fnortu"))


@pytest.mark.parametrize(
    "before",
    [
        "// commands of the lamp\n",
        "\n  \n",
        "\ufeff\r\n// commands\r\n",
        "/* of\nthe lamp */ ",
        "# commands\n\t",
    ],
)
@pytest.mark.parametrize("header", ["#JSGF V1.0;", "#jsgf v1.0;", "#JSGF V1.0 ISO8859-1 en"])
def test_a_grammar_may_begin_with_something_else(tmp_path: Path, before: str, header: str) -> None:
    path = tmp_path / "home.gram"
    text = f"{before}{header}\npublic <r> = turn\n(on | off);\n"
    path.write_text(text, encoding="utf-8", newline="")
    grammar = Grammar.read(path, LETTERS)
    assert grammar.allows("turn off") and not grammar.allows("turn")
    path.write_text(text.replace("(on", "(o7"), encoding="utf-8", newline="")
    with pytest.raises(UsageError, match=f"home.gram line {text.count(chr(10))}: .*'o7'"):
        Grammar.read(path, LETTERS)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("public <r> = turn on;", 1),
        ("grammar g;\n\n<r> = turn on;", 1),
        ("// lamp\n#JSGF V2.0;\npublic <r> = turn on;", 2),
        ("\n#JSGF\npublic <r> = turn on;", 2),
    ],
)
def test_rules_without_the_header_are_no_list(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "home.gram"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"home.gram line {line}: .*'#JSGF V1.0;'"):
        Grammar.read(path, LETTERS)


def test_a_list_may_have_remarks(tmp_path: Path) -> None:
    path = tmp_path / "home.txt"
    path.write_text("# as #JSGF V1.0; but simpler: <r> = on\n\nturn on\n")
    assert Grammar.read(path, LETTERS).allows("turn on")


def test_a_long_text_is_told_at_once() -> None:
    assert not is_jsgf(" \n" * 500_000)
    assert not is_jsgf("public " * 140_000)
    assert header_end("\n" * 999_000 + "#JSGF V1.0;", "g") == 999_011
