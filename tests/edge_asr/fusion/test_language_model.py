"""Shallow fusion: the score of a hypothesis is that of its text, however units spell it."""

from __future__ import annotations

import copy
import math
import unicodedata
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import InputMissingError, UsageError
from edge_asr.fusion import Automaton
from edge_asr.fusion.arpa import Ngrams, ngram_lines, read_ngrams
from edge_asr.fusion.language_model import LanguageModel, Level
from edge_asr.fusion.ngram_estimate import estimate
from edge_asr.package.units import Units

# Pieces, letters behind "▁", whole words: most words can be spelled in more than one way.
UNITS = Units(
    ("<blank>", "<unk>", "▁", "A", "B", "E", "R", "T", "BE", "TA", "▁A", "▁BE", "▁TREE", "▁R")
)
TEXT = ["a tree", "be a tree", "be a bear", "a bear bear", "be be", "beta be a", "a bat"]
SENTENCES = [line.upper().split() for line in TEXT]
Form = Literal["NFC", "NFD"]
IDS = st.lists(st.integers(0, len(UNITS) - 1), max_size=12)


def write(folder: Path, ngrams: Ngrams, name: str = "lm.arpa") -> Path:
    path = folder / name
    path.write_text("\n".join(ngram_lines(ngrams)) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("words"), estimate(SENTENCES, 3))


@pytest.fixture(scope="module")
def units_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = [["▁A", "▁TREE"], ["▁", "B", "E", "A"], ["▁BE", "TA", "▁A"], ["▁R", "E", "A"]]
    return write(tmp_path_factory.mktemp("units"), estimate(lines, 3))


@cache
def read(path: Path, level: Level = "word") -> LanguageModel:
    return LanguageModel.read(path, UNITS, weight=0.7, word_bonus=0.4, level=level)


def score(model: Automaton, ids: list[int]) -> tuple[float, float]:
    """Of a segment: before it ends, and in the end."""
    total, state = 0.0, np.array([model.start])
    for unit in ids:
        scores, state = model.advance(state, np.array([unit]))
        total += float(scores[0])
    return total, total + float(model.finish(state)[0])


def log_prob(ngrams: Ngrams, words: list[str], ended: bool = True) -> float:
    """The natural log-probability of <s> words </s>, by the definition of backing off; without
    </s> if they go on."""
    table = {}
    for order in ngrams.orders:
        for row, *values in zip(
            order.words.tolist(), order.log_probs.tolist(), order.backoffs.tolist(), strict=True
        ):
            table[tuple(ngrams.words[word] for word in row)] = values

    def of(history: tuple[str, ...], word: str) -> float:
        if (*history, word) in table:
            return table[*history, word][0]
        return table.get(history, (0, 0))[1] + of(history[1:], word)

    text = ["<s>", *(word if (word,) in table else "<unk>" for word in words), *["</s>"] * ended]
    return sum(of(tuple(text[max(0, i - 2) : i]), text[i]) for i in range(1, len(text)))


@given(IDS)
@settings(max_examples=150, deadline=None)
def test_any_units_score_as_the_text_they_write(path: Path, ids: list[int]) -> None:
    words = UNITS.text(ids).split()
    expected = 0.7 * log_prob(read_ngrams(path), words) + 0.4 * len(words)
    assert score(read(path), ids)[1] == pytest.approx(expected, abs=1e-4)


@given(IDS)
@settings(max_examples=150, deadline=None)
def test_an_open_word_counts_as_the_best_that_it_may_become(path: Path, ids: list[int]) -> None:
    ngrams, words = read_ngrams(path), UNITS.text(ids).split()
    open_word = ""  # what is written since the last unit that begins a word
    for unit in ids:
        written = UNITS.text([unit])
        open_word = written if UNITS.starts_word[unit] else open_word + written
    complete = words[:-1] if open_word else words
    first = ngrams.orders[0]
    alone = {
        ngrams.words[row[0]]: value for row, value in zip(first.words, first.log_probs, strict=True)
    }
    # The end of the sentence is not said yet.
    expected = 0.7 * log_prob(ngrams, complete, ended=False) + 0.4 * len(words)
    if open_word:
        fitting = [value for word, value in alone.items() if word.startswith(open_word)]
        expected += 0.7 * max(fitting, default=alone["<unk>"])
    assert score(read(path), ids)[0] == pytest.approx(expected, abs=1e-4)


@given(IDS)
@settings(max_examples=100, deadline=None)
def test_at_unit_level_every_unit_counts(units_path: Path, ids: list[int]) -> None:
    symbols = [UNITS.symbols[unit] for unit in ids if UNITS.symbols[unit][0] != "<"]
    begun = sum(symbol.startswith("▁") for symbol in symbols)
    expected = 0.7 * log_prob(read_ngrams(units_path), symbols) + 0.4 * begun
    assert score(read(units_path, "unit"), ids)[1] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("level", ["word", "unit"])
def test_pairs_are_independent(path: Path, units_path: Path, level: Level) -> None:
    model = LanguageModel.read(path if level == "word" else units_path, UNITS, level=level)
    rng = np.random.default_rng(0)
    states = np.full(40, model.start)
    for _ in range(15):
        units = rng.integers(0, len(UNITS), 40)
        before = states.copy(), units.copy()
        scores, after = model.advance(states, units)
        ends = model.finish(states)
        assert scores.dtype == np.float64 and after.dtype == np.int64
        assert np.isfinite(scores).all() and np.isfinite(ends).all()
        assert np.array_equal(states, before[0]) and np.array_equal(units, before[1])
        for n in (0, 17, 39):
            alone = model.advance(states[n : n + 1], units[n : n + 1])
            assert (alone[0][0], alone[1][0]) == (scores[n], after[n])
            assert model.finish(states[n : n + 1])[0] == ends[n]
        states = after


@pytest.mark.parametrize("level", ["word", "unit"])
def test_no_pairs_are_no_error(path: Path, units_path: Path, level: Level) -> None:
    model = LanguageModel.read(path if level == "word" else units_path, UNITS, level=level)
    none = np.zeros(0, np.int64)
    scores, states = model.advance(none, none)
    assert len(scores) == len(states) == len(model.finish(none)) == 0


def test_a_snapshot_shares_it(path: Path) -> None:
    model = LanguageModel.read(path, UNITS)
    assert copy.deepcopy({"lm": model})["lm"] is model
    with pytest.raises(AttributeError):
        model.weight = 2.0  # type: ignore[misc]


def test_words_come_in_the_case_of_the_units(path: Path, tmp_path: Path) -> None:
    ids = [UNITS.symbols.index(symbol) for symbol in ("▁BE", "▁A", "▁TREE")]
    expected = score(LanguageModel.read(path, UNITS), ids)
    lower = write(tmp_path, estimate([[w.lower() for w in s] for s in SENTENCES], 3))
    assert score(LanguageModel.read(lower, UNITS), ids) == pytest.approx(expected)
    small = Units(tuple(symbol.lower() for symbol in UNITS.symbols))
    assert score(LanguageModel.read(path, small), ids) == pytest.approx(expected)
    # With both cases among the units nothing is taken for something else.
    both = Units((*UNITS.symbols, "▁be"))
    assert score(LanguageModel.read(path, both), [len(UNITS), *ids[1:]])[1] < expected[1] - 0.5


def test_the_more_probable_of_two_spellings_stays(tmp_path: Path) -> None:
    for often, seldom in (("tree", "TREE"), ("TREE", "tree")):
        path = write(tmp_path, estimate([[often], ["a", often], ["be", often], [seldom]], 1))
        tree = UNITS.symbols.index("▁TREE")
        expected = log_prob(read_ngrams(path), [often])
        assert expected > log_prob(read_ngrams(path), [seldom])
        found = score(LanguageModel.read(path, UNITS, weight=1.0), [tree])[1]
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["<UNK>", None])
def test_unknown_words(path: Path, tmp_path: Path, name: str | None) -> None:
    text = path.read_text()
    (line,) = (line for line in text.split("\n") if "<unk>" in line)
    unknown = float(line.split()[0]) * math.log(10)
    if name:
        text = text.replace("<unk>", name)
    else:
        unknown = -12.5
        count = len(read_ngrams(path).words)
        text = text.replace(line + "\n", "").replace(f"1={count}", f"1={count - 1}")
    other = tmp_path / "lm.arpa"
    other.write_text(text)
    model = LanguageModel.read(other, UNITS, weight=1.0, unknown_log_prob=-12.5)
    ids = [UNITS.symbols.index(symbol) for symbol in ("▁R", "R", "▁R")]
    # The first one backs off from <s>; the second one, still open, from nothing.
    backoff = float(next(line for line in text.split("\n") if "\t<s>\t" in line).split()[2])
    expected = backoff * math.log(10) + 2 * unknown
    assert score(model, ids)[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"weight": -0.1}, "weight is -0.1; allowed are 0 to 100"),
        ({"weight": math.nan}, "weight is nan; allowed"),
        ({"weight": "0.5"}, "weight is '0.5'; allowed are numbers, 0 to 100"),
        ({"word_bonus": None}, "word_bonus is None; allowed are numbers, -100 to 100"),
        ({"word_bonus": math.inf}, "word_bonus is inf; allowed are -100 to 100"),
        ({"unknown_log_prob": 1.0}, "unknown_log_prob is 1.0; allowed are -1000 to 0"),
        ({"level": "letter"}, "level is 'letter'; allowed are word and unit"),
        ({"level": "unit"}, "none of its words is a unit"),
    ],
)
def test_wrong_arguments(path: Path, options: dict[str, object], reason: str) -> None:
    lower = Units(tuple(symbol.lower() for symbol in UNITS.symbols))
    with pytest.raises(UsageError) as caught:
        LanguageModel.read(path, lower, **options)  # type: ignore[arg-type]
    assert reason in str(caught.value)


def test_models_that_do_not_fit(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        LanguageModel.read(tmp_path / "nothing", UNITS)
    with pytest.raises(UsageError, match="the units can write none of its 6 words, as 'BE'"):
        LanguageModel.read(path, Units(("<blank>", "▁", "你", "好")))
    pinyin = write(tmp_path, estimate([["yī", "èr"]], 2))
    with pytest.raises(UsageError, match="the units can write none of its 2 words"):
        LanguageModel.read(pinyin, UNITS)
    for mark in ("<s>", "</s>"):
        other = tmp_path / "marks.arpa"
        other.write_text(path.read_text().replace(mark, "mark"))
        with pytest.raises(UsageError, match=f"has no {mark}; estimate the model from sentences"):
            LanguageModel.read(other, UNITS)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_give_a_model_or_one_line(
    path: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b"A", b"-9", b"\n", b"<s>", b" "]))
        )
    damaged = tmp_path_factory.getbasetemp() / "damaged.arpa"
    damaged.write_bytes(text)
    try:
        model = LanguageModel.read(damaged, UNITS)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert all(map(math.isfinite, score(model, [10, 2, 4, 3, 11, 9, 12])))


@pytest.mark.parametrize("letters", ["NFC", "NFD"])
@pytest.mark.parametrize("level", ["word", "unit"])
def test_a_letter_with_its_mark_is_one_character_or_two(
    letters: Form, level: Level, tmp_path: Path
) -> None:
    lines = ["éa ab", "ab éa", "éa éa"] if level == "word" else ["▁ é a", "▁ a b", "▁ é"]
    accented = unicodedata.normalize(letters, "é")
    pieces = tuple(accented) if level == "word" else (accented,)
    units = Units(("<blank>", "<unk>", "▁", *pieces, "a", "b"))
    heard = [2, *(units.symbols.index(piece) for piece in (*pieces, "a"))]
    scores = []
    for form in get_args(Form):
        sentences = [unicodedata.normalize(form, line).split() for line in lines]
        path = write(tmp_path, estimate(sentences, 2), form)
        scores.append(score(LanguageModel.read(path, units, level=level), heard))
    assert scores[0] == scores[1]
    assert scores[0][1] > math.log(0.1), "it is no unknown word"
