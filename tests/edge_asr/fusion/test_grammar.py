"""Grammars against regular expressions over what units write, for all short sequences of units."""

from __future__ import annotations

import copy
import functools
import itertools
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import InputMissingError, UsageError
from edge_asr.fusion import Automaton
from edge_asr.fusion.grammar import Grammar
from edge_asr.package.units import Units

HEADER = "#JSGF V1.0;\n"
# Two letters, a sign without spaces, a whole word, a piece, one across words, and two of no use.
SMALL = Units(("<blank>", "▁", "A", "B", "▁A", "AB", "A▁B", "你", "▁▁", "<A>"))
LETTERS = Units(("<blank>", "▁", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"))


def scored(grammar: Grammar, units: Iterable[int]) -> float:
    """What a search would add for ``units`` and the end after them."""
    state, score = np.array([grammar.start]), 0.0
    for unit in units:
        added, state = grammar.advance(state, np.array([unit]))
        score += float(added[0])
    return score + float(grammar.finish(state)[0])


def allowed(grammar: Grammar, vocabulary: int, longest: int) -> set[tuple[int, ...]]:
    """All sequences of at most ``longest`` units that ``grammar`` allows, each tried."""
    sequences = np.zeros((1, 0), np.int64)
    states, scores = np.array([grammar.start]), np.zeros(1)
    found: set[tuple[int, ...]] = set()
    for _ in range(longest + 1):
        ends = scores + grammar.finish(states) == 0
        found |= set(map(tuple, sequences[ends].tolist()))
        units = np.tile(np.arange(vocabulary), len(states))
        sequences = np.column_stack([np.repeat(sequences, vocabulary, axis=0), units])
        added, states = grammar.advance(np.repeat(states, vocabulary), units)
        scores = np.repeat(scores, vocabulary) + added
    return found


@functools.cache
def written(longest: int) -> list[tuple[tuple[int, ...], str]]:
    """All sequences of units that write something, and what, with a "▁" before the first word."""
    useful = [unit for unit, symbol in enumerate(SMALL.symbols) if symbol[0] != "<"]
    return [
        (units, text if text.startswith("▁") or not text else "▁" + text)
        for length in range(longest + 1)
        for units in itertools.product(useful, repeat=length)
        for text in ["".join(SMALL.symbols[unit] for unit in units)]
    ]


class Made(NamedTuple):
    """A grammar in JSGF, the same as a regular expression, and whether it allows nothing at all."""

    jsgf: str
    pattern: str
    is_void: bool = False


def joined(items: list[Made], between: list[str]) -> Made:
    text = "".join(item.jsgf + space for item, space in zip(items, between, strict=False))
    return Made(text, "".join(i.pattern for i in items), any(i.is_void for i in items))


def either(items: list[Made]) -> Made:
    pattern = "|".join(item.pattern for item in items)
    return Made(
        f"({'|'.join(i.jsgf for i in items)})", f"(?:{pattern})", all(i.is_void for i in items)
    )


def repeated(item: Made, how: str) -> Made:
    text = f"[{item.jsgf}]" if how == "?" else f"({item.jsgf}){how}"
    return Made(text, f"(?:{item.pattern}){how}", item.is_void and how == "+")


words = st.sampled_from(
    [
        Made("a", "▁A"),
        Made("B", "▁B"),
        Made("ab", "▁AB"),
        Made("aba", "▁ABA"),
        Made('"a b"', "▁A▁B"),
        Made("你", "▁?你"),
        Made("你a", "▁?你A"),
        Made("b你", "▁B▁?你"),
        Made("<NULL>", ""),
        Made("<VOID>", "(?!)", is_void=True),
    ]
)
spaces = st.sampled_from([" ", "\n", "/* ; */", "// |\n", " {tag \\} | ;} "])
grammars = st.recursive(
    words,
    lambda made: st.one_of(
        st.builds(joined, st.lists(made, min_size=2, max_size=3), st.lists(spaces, min_size=3)),
        st.builds(either, st.lists(made, min_size=1, max_size=3)),
        st.builds(repeated, made, st.sampled_from("?*+")),
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(parts=st.lists(grammars, min_size=1, max_size=3), whole=grammars)
def test_exactly_what_the_regular_expression_allows(parts: list[Made], whole: Made) -> None:
    # The parts are rules, and used twice: what a rule allows must not depend on who refers to it.
    text = HEADER + "grammar g;\n"
    pattern, is_void = whole.pattern, whole.is_void
    for number, part in enumerate(parts):
        text += f"<r{number}> = {part.jsgf};\n"
        whole = Made(f"(<r{number}>|{whole.jsgf} <r{number}>)", "")
        pattern = f"(?:{part.pattern}|{pattern}{part.pattern})"
        is_void = part.is_void
    text += f"public <all> = {whole.jsgf};\n"
    if is_void:
        with pytest.raises(UsageError, match="no phrase is allowed"):
            Grammar.jsgf(text, SMALL)
        return
    compiled = re.compile(pattern)
    expected = {units for units, line in written(4) if compiled.fullmatch(line)}
    assert allowed(Grammar.jsgf(text, SMALL), len(SMALL), 4) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "ab", "你"]), max_size=3), max_size=4))
def test_phrases_and_their_texts(phrases: list[list[str]]) -> None:
    lines = [" ".join(phrase) for phrase in phrases]
    if not any(lines):
        with pytest.raises(UsageError, match="no phrase"):
            Grammar.phrases(lines, SMALL)
        return
    grammar = Grammar.phrases(lines, SMALL)
    # A sign needs no space before it, and may have one.
    patterns = ["".join("▁?你" if w == "你" else "▁" + w.upper() for w in p) for p in phrases if p]
    compiled = re.compile("|".join(patterns))
    expected = {units for units, line in written(4) if compiled.fullmatch(line)}
    assert allowed(grammar, len(SMALL), 4) == expected
    assert all(grammar.allows(SMALL.text(units)) for units in expected)
    assert all(grammar.allows(line) for line in lines if line)
    for text in ("", "a a a a", "b a", "c", "▁a", "b 你"):
        assert grammar.allows(text) == bool(
            compiled.fullmatch("".join("▁" + w.upper() for w in text.split())) and "▁" not in text
        )


def test_a_word_in_all_its_spellings_and_no_other() -> None:
    symbols = ("<blank>", "▁", *"three", "▁three", "▁th", "ree", "th", "hr", "▁t", "ee", "re", "x")
    units = Units(tuple(dict.fromkeys(symbols)))
    grammar = Grammar.phrases(["Three"], units)
    spellings = {
        sequence
        for length in range(4)
        for sequence in itertools.product(range(len(units)), repeat=length)
        if "".join(units.symbols[unit] for unit in sequence) in ("▁three", "three")
    }
    assert len(spellings) > 5  # with the letters alone, below, there would be too many to try
    assert allowed(grammar, len(units), 3) == spellings
    ids = units.symbols.index
    assert scored(grammar, map(ids, "▁three")) == 0
    assert scored(grammar, map(ids, "▁▁three")) == -math.inf


def test_nothing_that_cannot_be_completed() -> None:
    # "▁T" spells the begin of TEN, but nothing spells its rest: a search must not be led there.
    units = Units(("▁T", "▁TE", "N", "▁TEN"))
    grammar = Grammar.phrases(["ten"], units)
    assert allowed(grammar, 4, 3) == {(1, 2), (3,)}
    scores, _ = grammar.advance(np.zeros(4, np.int64), np.arange(4))
    assert scores.tolist() == [-math.inf, 0, -math.inf, 0]


@settings(max_examples=30, deadline=None)
@given(whole=grammars)
def test_from_every_state_an_end_is_reached(whole: Made) -> None:
    if whole.is_void:
        return
    grammar = Grammar.jsgf(f"{HEADER}public <r> = {whole.jsgf};", SMALL)
    ends = grammar.finish(np.arange(len(grammar.endings) - 1)) == 0
    sources, targets = grammar.keys[:-1] // len(SMALL), grammar.targets[:-1]
    for _ in ends:
        ends[sources[ends[targets]]] = True
    assert ends.all()
    assert set(targets.tolist()) | {grammar.start} == set(range(len(ends)))


def test_an_automaton_element_by_element() -> None:
    grammar: Automaton = Grammar.phrases(["a b", "ab"], SMALL)
    states, units = np.meshgrid(np.arange(3), np.arange(len(SMALL)))
    scores, after = grammar.advance(states.ravel(), units.ravel())
    assert scores.dtype == np.float64 and after.dtype == np.int64
    for state, unit, score, target in zip(
        states.ravel(), units.ravel(), scores, after, strict=True
    ):
        alone = grammar.advance(np.array([state]), np.array([unit]))
        assert (alone[0][0], alone[1][0]) == (score, target)
    # What is forbidden once stays so, whatever comes.
    lost = after[np.isneginf(scores)]
    again, still = grammar.advance(lost, np.arange(len(lost)) % len(SMALL))
    assert np.isneginf(again).all() and (still == lost).all()
    assert np.isneginf(grammar.finish(lost)).all()
    none, nowhere = grammar.advance(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert none.shape == nowhere.shape == grammar.finish(nowhere).shape == (0,)


def test_shared_and_unchangeable() -> None:
    grammar = Grammar.phrases(["a"], SMALL)
    assert copy.deepcopy([grammar])[0] is grammar
    with pytest.raises(ValueError, match="read-only"):
        grammar.endings[0] = 0


def test_a_segment_without_text() -> None:
    assert np.isneginf(Grammar.phrases(["a", ""], SMALL).finish(np.array([0]))[0])
    polite = Grammar.jsgf(HEADER + "public <r> = [a];", SMALL)
    assert polite.finish(np.array([polite.start]))[0] == 0 and polite.allows("")


@pytest.mark.parametrize(
    ("rules", "pattern"),
    [
        ("public <r> = a <r> | b;", "(▁A)*▁B"),
        ("public <r> = a [<r>];", "(▁A)+"),
        ("public <r> = a (b | <r>);", "(▁A)+▁B"),
        ("public <r> = <s> <s>; <s> = a <s> | b;", "((▁A)*▁B){2}"),
        ("public <r> = a <s> | b; <s> = b <r> | <s> | <r>;", "(▁A(▁B)?)*▁B"),
        ("<s> = a [<s>]; public <r> = (<s> b)+;", "((▁A)+▁B)+"),
        ("public <r> = a; public <s> = b;", "▁A|▁B"),
    ],
)
def test_a_rule_may_begin_again_at_its_end(rules: str, pattern: str) -> None:
    expected = {units for units, line in written(4) if re.fullmatch(pattern, line)}
    assert allowed(Grammar.jsgf(HEADER + rules, SMALL), len(SMALL), 4) == expected


@pytest.mark.parametrize(
    "rules",
    [
        "public <r> =\n<r> a | b;",
        "public <r> = a\n<r> b | b;",
        "public <r> = a\n<r>* | b;",
        "public <r> = <s> a;\n<s> = b | <r>;",
    ],
)
def test_other_recursion_is_refused_with_its_line(rules: str) -> None:
    with pytest.raises(
        UsageError, match=r"line 3: <r> refers to itself before its end; .*\* or \+"
    ):
        Grammar.jsgf(HEADER + rules, SMALL)


def test_case_follows_the_units() -> None:
    upper, lower = Units(("<blank>", "▁", "A", "É")), Units(("<BLANK>", "▁", "a", "é"))
    both = Units(("▁", "a", "A", "é"))
    for units in (upper, lower):
        for phrase in ("aé", "AÉ", "AE\u0301"):  # composed or not, too
            assert scored(Grammar.phrases([phrase], units), [1, 2, 3]) == 0
    assert scored(Grammar.phrases(["aé"], both), [0, 1, 3]) == 0
    assert scored(Grammar.phrases(["aé"], both), [0, 2, 3]) == -math.inf
    with pytest.raises(UsageError, match="'É' is in none"):
        Grammar.phrases(["AÉ"], both)
    apart = Units(("▁", "e", "\u0301"))
    assert scored(Grammar.phrases(["é"], apart), [0, 1, 2]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("niño", "'niño' ('Ñ' is in none of them)"),
        ("a▁b", "'a▁b'"),
        ("7", "'7' ('7' is in none of them)"),
        ("\x1b[31m", r"'\x1b[31m' ('\x1b' is in none of them)"),
        ("x" * 100_000 + "é", "x' ('É' is in none of them)"),
    ],
)
def test_a_word_that_units_cannot_spell(word: str, why: str) -> None:
    for make in (
        lambda: Grammar.phrases(["on", "", f"turn {word}"], LETTERS, "home.txt"),
        lambda: Grammar.jsgf(HEADER + f'public <r> = on |\n"{word}";', LETTERS, "home.txt"),
    ):
        with pytest.raises(UsageError) as caught:
            make()
        message = str(caught.value)
        assert message.startswith("home.txt line 3: ") and why in message
        assert message.isprintable() and len(message) < 300


def test_letters_alone_do_not_begin_a_word() -> None:
    with pytest.raises(UsageError, match=r"line 1: .*'on'"):
        Grammar.phrases(["on"], Units(("<blank>", "O", "N")))
    with pytest.raises(UsageError, match="'b'"):  # nor does a unit that only goes on
        Grammar.phrases(["b"], Units(("▁A", "B")))


def test_signs_of_a_model_that_writes_no_spaces() -> None:
    units = Units(("<blank>", "打", "开", "灯", "打开"))
    for phrase in ("打开灯", "打 开 灯", "打开 灯"):
        grammar = Grammar.phrases([phrase], units)
        assert allowed(grammar, len(units), 4) == {(1, 2, 3), (4, 3)}
        assert grammar.allows("打开灯") and grammar.allows("打开 灯")


def test_units_in_angle_brackets_never_spell() -> None:
    units = Units(("<unk>", "▁", "<", "u", "n", "k", ">"))
    grammar = Grammar.phrases(["<unk>"], units)
    assert allowed(grammar, len(units), 6) == {(1, 2, 3, 4, 5, 6), (2, 3, 4, 5, 6)}


@pytest.mark.parametrize(
    ("rules", "limit"),
    [
        ("".join(f"<r{n}> = <r{n + 1}> <r{n + 1}>;" for n in range(40)) + "<r40> = a;", "letters"),
        ("".join(f"<r{n}> = <r{n + 1}> a;" for n in range(300)) + "<r300> = a;", "levels"),
        ("<r0> = <a>* a " + "<a> " * 14 + "; <a> = a | b;", "(states|steps)"),
        ("<r0> = a " + "[a] " * 500 + ";", "steps"),
        ("<r0> = " + "a " * 500 + ";", "states"),
    ],
)
def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch, rules: str, limit: str) -> None:
    monkeypatch.setattr("edge_asr.fusion.grammar_text._MAX_NODES", 20_000)
    monkeypatch.setattr("edge_asr.fusion.grammar._MAX_STEPS", 50_000)
    monkeypatch.setattr("edge_asr.fusion.grammar.MAX_STATES", 500)
    with pytest.raises(UsageError, match=f"home.gram: more than [0-9]+ {limit}.*; "):
        Grammar.jsgf(f"{HEADER}{rules} public <r> = <r0>;", SMALL, "home.gram")


def test_as_deep_as_allowed() -> None:
    rules = "".join(f"<r{n}> = <r{n + 1}>;" for n in range(190)) + "<r190> = a;"
    assert Grammar.jsgf(f"{HEADER}{rules} public <r> = <r0>;", SMALL).allows("a")


def test_files_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "home.txt"
    path.write_bytes("\ufeff#JSGF V1.0;\r\npublic <r> = turn (on | off);\r\n".encode())
    assert Grammar.read(path, LETTERS).allows("turn off")
    path.write_bytes(b"turn on\r\nturn off\r\n")
    grammar = Grammar.read(path, LETTERS)
    assert grammar.allows("TURN ON") and not grammar.allows("turn on turn off")
    path.write_bytes(b"turn\n\xff")
    with pytest.raises(UsageError, match=r"home.txt: byte 5 is not UTF-8"):
        Grammar.read(path, LETTERS)
    path.write_bytes(b"turn\no7")
    with pytest.raises(UsageError, match=r"home.txt line 2: .*'o7'"):
        Grammar.read(path, LETTERS)
    for missing in (tmp_path / "none", tmp_path, tmp_path / ("x" * 5000)):
        with pytest.raises(
            InputMissingError, match=r"no such file|no regular file|File name too long"
        ):
            Grammar.read(missing, LETTERS)


def test_a_file_too_long_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # no bytes on the disk
    with pytest.raises(UsageError, match="more than 1000000 characters"):
        Grammar.read(path, LETTERS)


_PIECES = (
    """public <r> <s> = ; | ( ) [ ] * + on { } " / */ // \\ < > <NULL> grammar import é \0 ▁"""
)
pieces = st.sampled_from([*_PIECES.split(" "), "\n", " "])
likely = st.lists(pieces, max_size=12).map(lambda found: HEADER + "public <r> =" + "".join(found))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(content=st.one_of(st.binary(max_size=60), likely.map(str.encode)))
def test_any_bytes_give_a_grammar_or_the_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        grammar = Grammar.read(path, LETTERS)
    except UsageError as error:
        message = str(error)
        assert message.startswith(str(path)) and message.isprintable() and len(message) < 600
    else:
        assert len(grammar.keys) > 1 or grammar.allows("")
