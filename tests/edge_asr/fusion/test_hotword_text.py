"""Lists of hotwords, good and bad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_asr.errors import UsageError
from edge_asr.fusion.hotword_text import (
    MAX_PHRASES,
    Phrase,
    bonuses_of,
    listed_phrases,
    parse_hotwords,
)
from edge_asr.fusion.hotwords import Hotwords
from edge_asr.package.units import Units


def test_a_file_is_read() -> None:
    text = "# places\r\nNew York\r\n\n  \t\n\u00dcberlingen\t3.5\r\n # none\nC#\t1e1\n你好"
    expected = ["New York", ("\u00dcberlingen", 3.5), ("C#", 10.0), "你好"]
    assert parse_hotwords(text, "list.txt") == expected
    assert parse_hotwords("", "list.txt") == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ONE\n\nTWO\tthree\n", "line 3: the bonus is 'three', no number"),
        ("ONE\t", "line 1: the bonus is '', no number"),
        ("ONE\t1\t2", "line 1: the bonus is '1\\\\t2', no number"),
        ("ONE\t0", "line 1: a bonus per unit of 0; allowed is more than 0, up to 20"),
        ("ONE\tnan", "line 1: a bonus per unit of nan"),
        ("ONE\t1e999", "line 1: a bonus per unit of inf"),
        ("#\n\t2", "line 2: the phrase is empty"),
        ("ONE\n" + "A" * 101, "line 2: 'A{40}'... has 101 characters; allowed are 100"),
        ("A\n" * 10_001, "line 10001: more than 10000 hotwords"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=f"^list.txt:? {what}") as caught:
        parse_hotwords(text, "list.txt")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_comments_do_not_count() -> None:
    assert len(parse_hotwords("# A\nA\n" * 10_000, "list.txt")) == 10_000


@pytest.mark.parametrize(
    ("phrases", "bonus", "field"),
    [
        (["a"], 0.0, "hotword_bonus"),
        (["a"], "much", "hotword_bonus"),
        (["a"], True, "hotword_bonus"),
        ([("a", 21.0)], 1.0, "hotwords"),
    ],
)
def test_a_bad_bonus_names_its_setting(phrases: list[Phrase], bonus: Any, field: str) -> None:
    with pytest.raises(UsageError, match="a bonus per unit of") as caught:
        bonuses_of(phrases, bonus)
    assert (caught.value.field, caught.value.allowed) == (field, "more than 0, up to 20")
    with pytest.raises(UsageError) as caught:
        parse_hotwords("a\t21", "list.txt")
    assert caught.value.field == "", "a line of a file is no setting"


lines = st.text(st.sampled_from("a#\t\r\n 1.▁你\u0301\u2028\x00ß"), max_size=40)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | lines)
@example("\ud800")
@example("▁\t1")
def test_any_text_is_phrases_or_an_error(text: str) -> None:
    try:
        phrases = parse_hotwords(text, "list.txt")
    except UsageError as error:
        assert str(error).startswith("list.txt") and str(error).isprintable()
        return
    # What the file allows, the build allows, and says of each phrase that it leaves out.
    _, left_out = Hotwords.build(phrases, Units(("<blank>", "▁", "a", "1", "你")))
    for phrase, reason in left_out:
        assert phrase in [entry if isinstance(entry, str) else entry[0] for entry in phrases]
        assert reason.isprintable()


@pytest.mark.parametrize(
    "phrases",
    [
        {"ONE": 9.0, "TWO": 2},
        {"ONE": 9.0, "TWO": 2}.items(),
        [("ONE", 9.0), ["TWO", 2]],
        ({"ONE": np.float32(9), "TWO": np.int64(2)}),
        iter([("TWO", 1.0), ("ONE", 9.0), ("TWO", 2.0)]),
    ],
)
def test_bonuses_of_phrases_count(phrases: Any) -> None:
    assert bonuses_of(phrases, 1.5) == {"ONE": 9.0, "TWO": 2.0}


@pytest.mark.parametrize("phrases", [None, {}, [], (), np.array([], str)])
def test_no_phrases(phrases: Any) -> None:
    assert listed_phrases(phrases) == []


def test_phrases_of_an_array() -> None:
    assert bonuses_of(np.array(["ONE", "TWO"]), 1.5) == {"ONE": 1.5, "TWO": 1.5}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "entry",
    [("A", "2"), ("A",), ("A", 1.0, 2.0), ("A", True), ("A", None), (1, 1.0), 1, b"A", None],
)
def test_what_is_no_hotword(entry: Any) -> None:
    with pytest.raises(UsageError, match=r"^hotword 2 is .*; allowed are phrases, and pairs of"):
        bonuses_of(["ONE", entry], 1.5)


@pytest.mark.parametrize("phrases", ["ONE", "", b"ONE", 1, True, 1.5, np.array(1), object])
def test_what_is_no_list_of_hotwords(phrases: Any) -> None:
    with pytest.raises(UsageError, match="give a list of phrases"):
        listed_phrases(phrases)


def test_phrases_without_end() -> None:
    def endless() -> Any:
        while True:
            yield "ONE"

    with pytest.raises(UsageError, match=f"more than {MAX_PHRASES} phrases"):
        listed_phrases(endless())
