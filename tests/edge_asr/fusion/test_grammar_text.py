"""What a grammar's text may hold, and what is said about one that holds something else."""

from __future__ import annotations

import pytest

from edge_asr.errors import UsageError
from edge_asr.fusion.grammar_text import (
    MAX_TEXT_CHARS,
    Choice,
    Reference,
    Repeat,
    Sequence,
    Word,
    parse_jsgf,
    parse_phrases,
)

HEADER = "#JSGF V1.0;\n"


def test_what_is_written_binds_as_jsgf_says() -> None:
    rules = parse_jsgf(HEADER + "grammar g;\npublic <r> = a b+ | [<s> c]* ;\n<s> = (d | e) f;", "g")
    assert rules.start == Choice((Reference("r", 3),))
    assert rules.named["r"] == Choice(
        (
            Sequence((Word("a", 3), Repeat(Word("b", 3), skippable=False, repeatable=True))),
            Repeat(
                Repeat(
                    Sequence((Reference("s", 3), Word("c", 3))), skippable=True, repeatable=False
                ),
                skippable=True,
                repeatable=True,
            ),
        )
    )
    assert rules.named["s"] == Sequence((Choice((Word("d", 4), Word("e", 4))), Word("f", 4)))


def test_comments_tags_and_quotes() -> None:
    text = """#JSGF V1.0 UTF-8 en;
/** ; public <x> = y; **/ grammar com.example.g; // public <z> = z;
public < r > = a {tag \\} "} /* b */ {} c
  "d; \\"e\\"
  f" // g
;"""
    expected = (Word("a", 3), Word("c", 3))
    quoted = Sequence((Word("d;", 4), Word('"e"', 4), Word("f", 4)))
    assert parse_jsgf(text, "g").named["r"] == Sequence((*expected, quoted))


def test_keywords_are_words_inside_a_rule() -> None:
    rule = parse_jsgf(HEADER + "public <r> = public grammar import;", "g").named["r"]
    assert rule == Sequence((Word("public", 2), Word("grammar", 2), Word("import", 2)))


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("", "line 1", "#JSGF V1.0;"),
        ("public <r> = a;", "line 1", "#JSGF V1.0;"),
        ("#JSGF V2.0;\npublic <r> = a;", "line 1", "#JSGF V1.0;"),
        ("#JSGF V1.0 public <r> = a;", "line 1", "#JSGF V1.0;"),
        (HEADER, "", "no public rule"),
        (HEADER + "<r> = a;", "", "no public rule"),
        (HEADER + "grammar;", "line 2", "name of the grammar"),
        (HEADER + "grammar g\npublic <r> = a;", "line 3", "expected ';'"),
        (HEADER + "\nimport <other.*>;", "line 3", "import is not supported"),
        (HEADER + "public import <o>;", "line 2", "import is not supported"),
        (HEADER + "a = b;", "line 2", "'a', expected '<rule> = ...;'"),
        (HEADER + "public", "line 2", "the end, expected '<rule> = ...;'"),
        (HEADER + "public <r> a;", "line 2", "expected '='"),
        (HEADER + "public <r> = a\n", "line 3", "the end, expected ';'"),
        (HEADER + "public <r> = a\n\npublic <s> = b;", "line 4", "'=', expected ';'"),
        (HEADER + "public <r> = ;", "line 2", "<NULL>"),
        (HEADER + "public <r> = a |\n;", "line 3", "<NULL>"),
        (HEADER + "public <r> = ();", "line 2", "<NULL>"),
        (HEADER + 'public <r> = " ";', "line 2", "<NULL>"),
        (HEADER + "public <r> = *;", "line 2", "'*'"),
        (HEADER + "public <r> = a+*;", "line 2", "'*', expected ';'"),
        (HEADER + "public <r> = (a\n];", "line 3", "']', expected ')'"),
        (HEADER + "public <r> = [a\n);", "line 3", "')', expected ']'"),
        (HEADER + "public <r> = a);", "line 2", "')', expected ';'"),
        (HEADER + "public <r> =\n/3.0/ a | /1/ b;", "line 3", "weights such as /3.0/"),
        (HEADER + "public <r> = a\n/* b;", "line 3", "comment without its */"),
        (HEADER + "public <r> = a\n{ b \\};", "line 3", "tag without its }"),
        (HEADER + 'public <r> = a\n"b;', "line 3", "quote without its second"),
        (HEADER + "public <r> = a }", "line 2", "'}' without its beginning"),
        (HEADER + "public <r> = a >", "line 2", "'>' without its beginning"),
        (HEADER + "public <r> = <a b>;", "line 2", "name of a rule"),
        (HEADER + "public <r> = a;\n<s> = b;\n<r> = c;", "line 4", "<r> is defined in line 2"),
        (HEADER + "public <NULL> = a;", "line 2", "<NULL> is defined by JSGF itself"),
        (HEADER + "public <r> = a;\n<s> = b |\n<t>;", "line 4", "no rule <t>"),
        (HEADER + "public <r> = " + "(" * 51 + "a" + ")" * 51 + ";", "line 2", "50 brackets"),
        (HEADER + "public <r> = " + "[" * 100_000, "line 2", "50 brackets"),
        (" " * 999_000 + "x", "line 1", "#JSGF V1.0;"),
        (HEADER + " " * MAX_TEXT_CHARS, "", f"more than {MAX_TEXT_CHARS} characters"),
        (HEADER + "public <r> = \x1b\x07*;\x1b[31m;", "line 2", r"'\x1b'"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, where: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_jsgf(text, "home.gram")
    message = str(caught.value)
    assert message.startswith(f"home.gram {where}:" if where else "home.gram:")
    assert problem in message
    assert message.isprintable() and len(message) < 300


def test_as_many_brackets_as_allowed() -> None:
    # Beside the limit: what 51 are refused for must not be what 50 suffer from.
    rules = parse_jsgf(HEADER + "public <r> = " + "(" * 50 + "a" + ")" * 50 + ";", "g")
    assert rules.named["r"] == Word("a", 2)


def test_phrases_are_lines_with_words() -> None:
    rules = parse_phrases(["# lights", "turn  on\r", "\t", "off", " #"], "list")
    on = Sequence((Word("turn", 2), Word("on", 2)))
    assert rules.start == Choice((on, Sequence((Word("off", 4),))))


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "list: no phrase"),
        (["", " ", "# on"], "list: no phrase"),
        (["a" * MAX_TEXT_CHARS, "b"], f"list: more than {MAX_TEXT_CHARS} characters"),
    ],
)
def test_a_list_without_phrases_or_too_long(lines: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_phrases(lines, "list")
