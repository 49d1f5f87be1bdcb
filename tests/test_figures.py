"""Figures that documents quote are those of the JSON files in docs/benchmarks.

A mark follows the figure that it checks:

    3.0 %<!-- figure: accuracy.json rows[task=an4 test].value -->

``figure: 100 - FILE PATH`` is for a share of which the file has the rest. In a path ``.key`` and
``[key]`` enter an object, and ``[key=value]`` keeps the records of a list that have this value; one
must remain. A figure is compared in as many decimals as are written.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edge_asr.package.files import open_package
from tests.test_docs import ROOT, documents

BENCHMARKS = ROOT / "docs" / "benchmarks"
MARK = re.compile(r"<!-- figure: (?P<rest>100 - )?(?P<file>[\w.]+\.json) (?P<path>.*?) -->")
NUMBER = re.compile(r"(-?\d[\d,]*(?:\.\d+)?)(?: ?%| [a-zA-Z]+)?$")
PART = re.compile(r"\.?([^.\[\]]+)|\[([^\]=]+)\]|\[([^\]=]+)=([^\]]+)\]")


class Figure(NamedTuple):
    """A number as a document writes it, and where its value is."""

    written: str
    file: str
    path: str
    is_rest: bool = False  # the document says 100 minus the value


def figures(text: str) -> list[Figure]:
    """The marked figures of a document; ValueError for a mark that follows no number."""
    found = []
    for mark in MARK.finditer(text):
        number = NUMBER.search(text[max(0, mark.start() - 40) : mark.start()])
        if number is None:
            raise ValueError(f"no number before {mark[0]}")
        found.append(Figure(number[1], mark["file"], mark["path"], bool(mark["rest"])))
    return found


def value(record: Any, path: str) -> float:
    """The number at ``path``; LookupError where there is none, or more than one."""
    parts = list(PART.finditer(path))
    if "".join(part[0] for part in parts) != path:
        raise LookupError(f"not a path: {path}")
    for part in parts:
        name, key, field, wanted = part.groups()
        if field:
            record = [item for item in record if str(item[field]) == wanted]
        else:
            record = only(record, path)[name or key]
    number = only(record, path)
    if not isinstance(number, int | float):
        raise LookupError(f"{path} is no number: {number!r}")
    return number


def only(record: Any, path: str) -> Any:
    if isinstance(record, list):
        if len(record) != 1:
            raise LookupError(f"{path}: {len(record)} records; one must remain")
        return record[0]
    return record


@cache
def contents(file: str) -> Any:
    return json.loads((BENCHMARKS / file).read_text())


def wrong(figure: Figure) -> str:
    """What the document should have written; empty if it has."""
    measured = value(contents(figure.file), figure.path)
    decimals = len(figure.written.partition(".")[2])
    right = f"{100 - measured if figure.is_rest else measured:.{decimals}f}"
    if figure.written.replace(",", "") == right:
        return ""
    return f"{figure.written} should be {right}: {figure.file} {figure.path}"


MEASURED = re.compile(r"measured on (\d{4}-\d\d-\d\d)", re.IGNORECASE)
OUT_OF_DATE = "> **Out of date.** "


def test_pages_of_an_earlier_package_say_so() -> None:
    created = open_package("commands-en").manifest.provenance.created
    pages = {page.name: page.read_text() for page in BENCHMARKS.glob("*.md")}
    stale = {
        name
        for name, text in pages.items()
        if "`commands-en`" in text and min(MEASURED.findall(text), default=created) < created
    }
    marked = {name for name, text in pages.items() if text.splitlines()[2].startswith(OUT_OF_DATE)}
    assert "hotwords.md" in stale
    assert marked == stale


MARKED = [document for document in documents() if "<!-- figure:" in document.read_text()]


def test_the_documents_that_quote_figures_are_marked() -> None:
    assert {ROOT / "README.md", ROOT / "docs/decoding.md", BENCHMARKS / "models.md"} <= set(MARKED)


@pytest.mark.parametrize("document", MARKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_figures_are_those_that_were_measured(document: Path) -> None:
    text = document.read_text()
    quoted = figures(text)
    assert len(quoted) == text.count("<!-- figure:"), "a mark that cannot be read"
    assert not [complaint for figure in quoted if (complaint := wrong(figure))]


AN4 = "rows[task=an4 test].value"


@pytest.mark.parametrize(
    "figure",
    [
        Figure("3.1", "accuracy.json", AN4),
        Figure("2.97", "accuracy.json", AN4),
        Figure("97.0", "accuracy.json", AN4),
        Figure("3.0", "accuracy.json", AN4, is_rest=True),
    ],
)
def test_a_wrong_figure_is_found(figure: Figure) -> None:
    assert "should be" in wrong(figure)


def test_a_right_figure_passes_in_the_decimals_that_are_written() -> None:
    text = f"3 %<!-- figure: accuracy.json {AN4} -->, 2.98 %<!-- figure: accuracy.json {AN4} -->"
    assert [(figure.written, wrong(figure)) for figure in figures(text)] == [
        ("3", ""),
        ("2.98", ""),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "rows[model=commands].value",  # several
        "rows[task=an5 test].value",  # none
        "rows[task=an4 test].name",
        "rows[task=an4 test].unit",
        "rows[task=an4 test]",
        "rows[task=an4 test.value",
    ],
)
def test_a_path_must_lead_to_one_number(path: str) -> None:
    with pytest.raises(LookupError):
        value(contents("accuracy.json"), path)


def test_a_mark_needs_a_number() -> None:
    with pytest.raises(ValueError, match="no number"):
        figures(f"three<!-- figure: accuracy.json {AN4} -->")


# Cards cannot be marked: packages have them with their checksums. The beginning of each row of a
# card, and where its figures are.
SEARCHED = "decoding.json rows[name={}][chunk=16].rates[{}].wer"
CARDS = {
    "commands-en": {
        "| an4 test,": (f"accuracy.json {AN4}", SEARCHED.format("greedy", "an4 test")),
        "| Speech Commands test,": (
            SEARCHED.format("prefix + second pass", "speech_commands test"),
            SEARCHED.format("greedy", "speech_commands test"),
        ),
        "| its ten keywords": (
            "accuracy.json rows[task=speech_commands test, keywords and digits].value",
        ),
        "| spoken letters": ("accuracy.json rows[task=spoken letters and digits].value",),
        "| the same, half": ("accuracy.json rows[task=the same, with quiet around].value",),
        "| the same, with a grammar": (
            "accuracy.json rows[task=the same, with quiet and a grammar of them].value",
        ),
        "| noise": ("accuracy.json rows[task=noise and silence][model=commands].value",),
    },
    "english-small": {
        "| speechocean762 test,": ("accuracy.json rows[task=speechocean762 test, adults].value",),
        "| LibriSpeech dev,": ("accuracy.json rows[task=librispeech dev].value",),
        "| noise": ("accuracy.json rows[task=noise and silence][model=english].value",),
    },
}


@pytest.mark.parametrize("name", CARDS)
def test_figures_of_the_cards_are_those_that_were_measured(name: str) -> None:
    card = (open_package(name).root / "README.md").read_text()
    for beginning, places in CARDS[name].items():
        (row,) = [line for line in card.splitlines() if line.startswith(beginning)]
        written = re.findall(r"\d+\.\d+", row.split("|")[3])
        assert len(written) == len(places), row
        for number, place in zip(written, places, strict=True):
            assert wrong(Figure(number, *place.split(" ", 1))) == ""
