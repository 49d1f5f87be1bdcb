"""Texts that say which phrases are allowed, read and unfolded: a plain list, or a subset of JSGF.

Of JSGF: the header, ``grammar name;``, ``public <rule> = ...;``, alternatives ``|``, groups
``( )``, options ``[ ]``, ``*`` and ``+``, references to rules of the same text, ``<NULL>`` and
``<VOID>``, quoted tokens, comments, and tags, which are ignored. Weights and imports are refused.
A rule may refer to itself at its end only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from edge_asr.errors import UsageError
from edge_asr.fusion.grammar_header import header_end

MAX_TEXT_CHARS = 1_000_000
ALLOW_LESS = "allow fewer phrases, or split it, one grammar for each use"
_MAX_NESTING = 50  # brackets in brackets; people write five, and each level is a Python call
_MAX_NODES = 300_000  # of the network of letters, with each reference written out
_MAX_DEPTH = 200  # two Python calls each, of which 1000 are allowed
_LEXEME = re.compile(
    r"""
    (?P<nothing> \s+ | //[^\n]* | /\*.*?\*/ | \{ (?:[^\\}]|\\.)* \} )
    | (?P<quoted> " (?:[^"\\]|\\.)* " )
    | (?P<rule> < \s* [^\s<>]+ \s* > )
    | (?P<mark> [;=|*+()\[\]] )
    | (?P<word> [^\s;=|*+()\[\]<>{}/"]+ )
    """,
    re.DOTALL | re.VERBOSE,
)
_NOT_CLOSED = {"{": "a tag without its }", '"': 'a quote without its second "'}


@dataclass(frozen=True)
class Word:
    """One word, as it is written in ``line``."""

    text: str
    line: int


@dataclass(frozen=True)
class Reference:
    """What the rule ``name`` allows."""

    name: str
    line: int


@dataclass(frozen=True)
class Sequence:
    """One after the other; none of them is the empty phrase."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Choice:
    """Any one of them; none of them is nothing at all."""

    options: tuple[Expression, ...]


@dataclass(frozen=True)
class Repeat:
    """``[item]``, ``item*`` or ``item+``."""

    item: Expression
    skippable: bool
    repeatable: bool


Expression = Word | Reference | Sequence | Choice | Repeat
Letter = tuple[str, bool]  # and whether it may be left out
Spell = Callable[[str, str], list[Letter]]  # of a word, and the place to name in its UsageError


@dataclass(frozen=True)
class Rules:
    """A phrase is allowed if ``start`` allows it; references are to rules in ``named``."""

    where: str
    start: Expression
    named: Mapping[str, Expression]


def parse_phrases(lines: Iterable[str], where: str) -> Rules:
    """One phrase a line; an empty line, or one that begins with "#", is none.

    Raises:
        UsageError: no phrase, or too many.
    """
    phrases: list[Expression] = []
    chars = 0
    for line, text in enumerate(lines, start=1):
        chars += len(text)
        if chars > MAX_TEXT_CHARS:
            raise too_large(where, f"{MAX_TEXT_CHARS} characters")
        words = text.split()
        if words and not words[0].startswith("#"):
            phrases.append(Sequence(tuple(Word(word, line) for word in words)))
    if not phrases:
        raise UsageError(f"{where}: no phrase; write one phrase a line")
    return Rules(where, Choice(tuple(phrases)), {})


def parse_jsgf(text: str, where: str) -> Rules:
    """A grammar in JSGF, with its header; nothing but comments may be before that.

    Raises:
        UsageError: what the subset of JSGF does not have, with the line; no public rule; a rule
            defined twice or not at all; too long or too deep.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise too_large(where, f"{MAX_TEXT_CHARS} characters")
    return _Parser(text, header_end(text, where), where).rules()


def too_large(where: str, limit: str) -> UsageError:
    """More phrases than fit."""
    return UsageError(f"{where}: more than {limit}; {ALLOW_LESS}")


class _Lexeme(NamedTuple):
    kind: str  # "quoted", "rule", "mark", "word", or "end"
    text: str
    line: int


class _Parser:
    """Recursive descent; looks one lexeme ahead."""

    def __init__(self, text: str, begin: int, where: str) -> None:
        self._where = where
        self._lexemes = self._split(text, begin)
        self._at = 0
        self._references: list[Reference] = []

    def rules(self) -> Rules:
        named: dict[str, Expression] = {"NULL": Sequence(()), "VOID": Choice(())}
        lines = {"NULL": 0, "VOID": 0}
        public: list[Expression] = []
        if self._next.kind == "word" and self._next.text == "grammar":
            self._take()
            if self._take().kind != "word":
                self._refuse("the name of the grammar", self._lexemes[self._at - 1])
            self._expect(";")
        while self._next.kind != "end":
            is_public = self._next.kind == "word" and self._next.text == "public"
            if is_public:
                self._take()
            head = self._take()
            if head.kind == "word" and head.text == "import":
                self._fail(head.line, "import is not supported; copy the rules into this grammar")
            if head.kind != "rule":
                self._refuse("'<rule> = ...;' or 'public <rule> = ...;'", head)
            if head.text in named:
                line = lines[head.text]
                first = f"in line {line}" if line else "by JSGF itself"
                self._fail(
                    head.line,
                    f"<{head.text[:80]}> is defined {first} already; join both with |, or rename",
                )
            self._expect("=")
            lines[head.text] = head.line
            named[head.text] = self._choice(0)
            self._expect(";")
            if is_public:
                public.append(Reference(head.text, head.line))
        for reference in self._references:
            if reference.name not in named:
                self._fail(
                    reference.line,
                    f"no rule <{reference.name[:80]}>; define it here, or correct the name",
                )
        if not public:
            raise UsageError(
                f"{self._where}: no public rule; write 'public' before the rule to start with"
            )
        return Rules(self._where, Choice(tuple(public)), named)

    def _choice(self, depth: int) -> Expression:
        options = [self._sequence(depth)]
        while self._next.text == "|" and self._next.kind == "mark":
            self._take()
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self, depth: int) -> Expression:
        items: list[Expression] = []
        while not (self._next.kind == "end" or self._is_mark(";=|)]*+")):
            items.append(self._item(depth))
        if not items:
            self._refuse("a word, <rule>, ( or [; <NULL> stands for nothing", self._next)
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _item(self, depth: int) -> Expression:
        lexeme = self._take()
        item: Expression
        if lexeme.kind == "word":
            item = Word(lexeme.text, lexeme.line)
        elif lexeme.kind == "quoted":
            words = re.sub(r"\\(.)", r"\1", lexeme.text[1:-1], flags=re.DOTALL).split()
            item = Sequence(tuple(Word(word, lexeme.line) for word in words))
            if not words:
                self._refuse("a word between the quotes; <NULL> stands for nothing", lexeme)
        elif lexeme.kind == "rule":
            item = Reference(lexeme.text, lexeme.line)
            self._references.append(item)
        else:  # ( or [: _sequence lets no other mark pass
            if depth == _MAX_NESTING:
                self._fail(
                    lexeme.line,
                    f"more than {_MAX_NESTING} brackets in brackets; use rules for parts",
                )
            item = self._choice(depth + 1)
            self._expect(")" if lexeme.text == "(" else "]")
            if lexeme.text == "[":
                item = Repeat(item, skippable=True, repeatable=False)
        if self._is_mark("*+"):
            item = Repeat(item, skippable=self._take().text == "*", repeatable=True)
        return item

    @property
    def _next(self) -> _Lexeme:
        return self._lexemes[self._at]

    def _take(self) -> _Lexeme:
        lexeme = self._next
        if lexeme.kind != "end":
            self._at += 1
        return lexeme

    def _is_mark(self, marks: str) -> bool:
        return self._next.kind == "mark" and self._next.text in marks

    def _expect(self, mark: str) -> None:
        if not self._is_mark(mark):
            self._refuse(f"'{mark}'", self._next)
        self._take()

    def _split(self, text: str, at: int) -> list[_Lexeme]:
        lexemes: list[_Lexeme] = []
        line = 1 + text.count("\n", 0, at)
        while at < len(text):
            match = _LEXEME.match(text, at)
            if match is None:
                self._fail(line, _no_lexeme(text[at : at + 2]))
            kind, found = str(match.lastgroup), match.group()
            if kind != "nothing":
                name = found[1:-1].strip() if kind == "rule" else found
                lexemes.append(_Lexeme(kind, name, line))
            line += found.count("\n")
            at = match.end()
        return [*lexemes, _Lexeme("end", "", line)]

    def _refuse(self, expected: str, found: _Lexeme) -> NoReturn:
        what = "the end" if found.kind == "end" else repr(found.text[:80])
        self._fail(found.line, f"found {what}, expected {expected}")

    def _fail(self, line: int, problem: str) -> NoReturn:
        raise UsageError(f"{self._where} line {line}: {problem}")


def _no_lexeme(text: str) -> str:
    if text == "/*":
        return "a comment without its */; close it"
    if text[0] == "/":
        return 'weights such as /3.0/ are not supported; remove them (a "/" in a word needs quotes)'
    if text[0] in _NOT_CLOSED:
        return f"{_NOT_CLOSED[text[0]]}; close it"
    if text[0] == "<":
        return "'<' does not begin the name of a rule; write <name>, without spaces inside"
    return f"found {text[0]!r} without its beginning; remove it"


class Network:
    """Rules as nodes with arcs that write a letter or, "", nothing; references are written out.

    What is built between two nodes adds no arc into the first and none out of the second, so both
    may be shared.
    """

    def __init__(self, rules: Rules, spell: Spell) -> None:
        self.arcs: list[list[tuple[str, int]]] = []
        self._rules = rules
        self._spell = spell
        self._chars: dict[str, list[Letter]] = {}
        self._open: dict[str, tuple[int, int]] = {}  # rules that are being written out
        self.start, self.end = self._node(), self._node()
        self._build(rules.start, self.start, self.end, 0)

    def _node(self) -> int:
        if len(self.arcs) == _MAX_NODES:
            raise too_large(self._rules.where, f"{_MAX_NODES} letters with all rules written out")
        self.arcs.append([])
        return len(self.arcs) - 1

    def _build(self, what: Expression, start: int, end: int, depth: int) -> None:
        if depth == _MAX_DEPTH:
            raise UsageError(
                f"{self._rules.where}: more than {_MAX_DEPTH} levels of rules within rules; write "
                "the small ones where they are used"
            )
        if isinstance(what, Word):
            self._word(what, start, end)
        elif isinstance(what, Reference):
            self._reference(what, start, end, depth)
        elif isinstance(what, Choice):
            for option in what.options:
                self._build(option, start, end, depth + 1)
        elif isinstance(what, Sequence):
            for item in what.items[:-1]:
                middle = self._node()
                self._build(item, start, middle, depth + 1)
                start = middle
            if what.items:
                self._build(what.items[-1], start, end, depth + 1)
            else:
                self.arcs[start].append(("", end))
        else:
            self._repeat(what, start, end, depth)

    def _repeat(self, what: Repeat, start: int, end: int, depth: int) -> None:
        if what.skippable:
            self.arcs[start].append(("", end))
        if what.repeatable:
            first, last = self._node(), self._node()
            self.arcs[start].append(("", first))
            self.arcs[last] += [("", first), ("", end)]
            start, end = first, last
        self._build(what.item, start, end, depth + 1)

    def _word(self, word: Word, start: int, end: int) -> None:
        if word.text not in self._chars:
            place = f"{self._rules.where} line {word.line}"
            self._chars[word.text] = self._spell(word.text, place)
        chars = self._chars[word.text]
        for index, (char, may_miss) in enumerate(chars, start=1):
            after = end if index == len(chars) else self._node()
            self.arcs[start].append((char, after))
            if may_miss:
                self.arcs[start].append(("", after))
            start = after

    def _reference(self, to: Reference, start: int, end: int, depth: int) -> None:
        if to.name not in self._open:
            first = self._node()
            self._open[to.name] = (first, end)
            self.arcs[start].append(("", first))
            self._build(self._rules.named[to.name], first, end, depth + 1)
            del self._open[to.name]
            return
        first, last = self._open[to.name]
        if end != last:  # else the rule ends here, so that beginning it again is going round
            raise UsageError(
                f"{self._rules.where} line {to.line}: <{to.name[:80]}> refers to itself before its "
                "end; write the repetition with * or +"
            )
        self.arcs[start].append(("", first))
