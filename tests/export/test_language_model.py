"""A language model that belongs to a package: used, or left out, and nothing else moves."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_asr
from edge_asr.__main__ import main as edge_asr_main
from edge_asr.commands.decoding_arguments import add_decoding_arguments
from edge_asr.commands.inspection import inspect_package
from edge_asr.commands.model_options import Parser, add_model_arguments
from edge_asr.commands.stream_options import StreamOptions, stream_options
from edge_asr.errors import PackageError, UsageError
from edge_asr.events import Final
from edge_asr.fusion.arpa import read_ngrams
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.package.files import Package, open_package
from edge_asr.package.writer import write_package
from edge_asr.search.decoding import Decoding
from edge_asr.search.prefix import BEAM, PrefixSearch
from edge_asr.streams.recognizer import Recognizer
from export.addition import join_files, join_programs
from export.language_model import FILE, main
from tests.tiny import RATE, sealed, tones

# What is said is less probable, in this language, than what sounds a little alike.
TEXT = ["two twos", "two two", "twos two"]


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    text, path = tmp_path / "text.txt", tmp_path / "my.arpa"
    text.write_text("\n".join(TEXT) + "\n")
    assert edge_asr_main(["lm", str(text), "-o", str(path), "--order", "2"]) == 0
    return path


@pytest.fixture
def package(tiny_package: Package, arpa: Path) -> Package:
    assert main([str(tiny_package.root), str(arpa), "--weight", "0.7", "--word-bonus", "1"]) == 0
    return open_package(tiny_package.root)


def options(recognizer: Recognizer, *words: str) -> StreamOptions:
    parser = Parser()
    add_model_arguments(parser)
    add_decoding_arguments(parser, "inline")
    return stream_options(parser.parse_args(words), recognizer, "inline")


def text_and_score(recognizer: Recognizer, decoding: Decoding | None) -> tuple[str, float]:
    decoding = dataclasses.replace(decoding or Decoding(), nbest=2)
    with recognizer.stream(decoding=decoding) as stream:
        events = stream.push(tones("▁one s 400 ▁two"), RATE) + stream.flush()
    (final,) = (event for event in events if isinstance(event, Final))
    return final.text, final.alternatives[0].score


def test_it_is_what_a_stream_uses(package: Package, arpa: Path) -> None:
    recognizer = edge_asr.load(package.root)
    own = LanguageModel.read(arpa, package.units, weight=0.7, word_bonus=1.0)
    expected = text_and_score(recognizer, Decoding(language_model=own))
    text, score = text_and_score(recognizer, None)
    assert text == expected[0] and score == pytest.approx(expected[1], rel=1e-3)  # four digits
    without = text_and_score(recognizer, Decoding(language_model="off"))
    assert abs(without[1] - expected[1]) > 1
    greedy = recognizer.stream(decoding=Decoding(search="greedy"))
    assert greedy.flush() == []  # takes none, and says nothing about it


def test_a_package_says_how_the_search_is_with_it(
    tiny_package: Package, arpa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[int, float]] = []

    def spy(*arguments: Any) -> PrefixSearch:
        search = PrefixSearch(*arguments)
        found.append((search.beam, search.blank_penalty))
        return search

    monkeypatch.setattr("edge_asr.search.decoding.PrefixSearch", spy)
    command = [str(tiny_package.root), str(arpa), "--weight", "0.5", "--blank-penalty"]
    assert main([*command, "1", "--beam", "65"]) == 64
    assert main([*command, "101"]) == 64
    assert open_package(tiny_package.root).manifest.language_model is None
    assert main([*command, "1", "--beam", "30"]) == 0
    package = open_package(tiny_package.root)
    shown = inspect_package(package)["language_model"]
    assert (shown["beam"], shown["blank_penalty"]) == (30, 1.0)
    recognizer = edge_asr.load(package.root)
    for decoding, expected in (
        (None, (30, 1.0)),
        (Decoding(beam=3), (3, 1.0)),
        (Decoding(blank_penalty=0.0), (30, 0.0)),
        (Decoding(language_model="off"), (BEAM, 0.0)),
        (options(recognizer, "--lm-weight", "0.2").decoding, (30, 1.0)),
        (options(recognizer, "--lm-weight", "0.2", "--beam", "4").decoding, (4, 1.0)),
        (options(recognizer, "--lm", str(arpa)).decoding, (BEAM, 0.0)),
    ):
        recognizer.stream(decoding=decoding).close()
        assert set(found) == {expected}, decoding
        found.clear()
    edge_asr.load(package.root, language_model=False).stream().close()
    assert set(found) == {(BEAM, 0.0)}


def test_the_rest_stays(tiny_package: Package, arpa: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in tiny_package.root.iterdir()}
    for weight in ("0.3", "0.4"):  # once more, in the place of the first
        assert main([str(tiny_package.root), str(arpa), "--weight", weight]) == 0
    package = open_package(tiny_package.root)
    after = {path.name: path.read_bytes() for path in package.root.iterdir()}
    model = gzip.decompress(after.pop(FILE))
    rounded = tmp_path / "rounded.arpa"
    rounded.write_bytes(model)
    ours, theirs = read_ngrams(rounded), read_ngrams(arpa)
    assert ours.words == theirs.words
    for one, other in zip(ours.orders, theirs.orders, strict=True):
        np.testing.assert_array_equal(one.words, other.words)
        np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=1e-3)
    assert {name for name in after if after[name] != before[name]} == {"manifest.json"}
    found = inspect_package(package)["language_model"]
    assert found["file"] == FILE and (found["weight"], found["word_bonus"]) == (0.4, 0.0)
    assert package.manifest.language_model is not None
    assert {**before, "manifest.json": b""} == {**after, "manifest.json": b""}


def test_options(package: Package, arpa: Path) -> None:
    recognizer = edge_asr.load(package.root, language_model=False)
    grammar = package.root.parent / "grammar.txt"
    grammar.write_text("two\n")
    model = options(recognizer).decoding.language_model
    assert isinstance(model, LanguageModel)
    assert (model.weight, model.word_bonus) == (0.7, 1.0)
    assert options(recognizer, "--no-lm").decoding.language_model == "off"
    for words in (["--search", "greedy"], ["--grammar", str(grammar)]):
        assert options(recognizer, *words).decoding.language_model is None
    model = options(recognizer, "--lm-weight", "0.2").decoding.language_model
    assert isinstance(model, LanguageModel)
    assert (model.weight, model.word_bonus) == (0.2, 1.0)
    model = options(recognizer, "--lm", str(arpa)).decoding.language_model
    assert isinstance(model, LanguageModel)
    assert (model.weight, model.word_bonus) == (0.5, 0.0), "not the package's"
    for wrong in ("--no-lm --lm-weight 1", f"--no-lm --lm {arpa}", "--lm-level word",
                  "--search greedy --lm-weight 1"):  # fmt: skip
        with pytest.raises(UsageError):
            options(recognizer, *wrong.split())


def test_a_model_that_does_not_fit(
    tiny_package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.arpa"
    other.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <s>\n-1 </s>\n-1 你\n\n\\end\\\n")
    before = sorted(tiny_package.root.iterdir())
    for words, part in (
        ([str(tiny_package.root), str(other), "--weight", "1"], "can write none of its 1 words"),
        ([str(tiny_package.root), str(tmp_path / "none"), "--weight", "1"], "none"),
        ([str(tmp_path / "none"), str(other), "--weight", "1"], "no such package"),
    ):
        assert main(words) != 0
        error = capsys.readouterr().err
        assert part in error and error.count("\n") == 1
    assert sorted(tiny_package.root.iterdir()) == before


def test_a_file_that_is_not_listed(package: Package) -> None:
    path = package.root / "manifest.json"
    fields = json.loads(path.read_bytes())
    fields["language_model"]["file"] = "other.arpa"
    path.write_bytes(sealed(fields))
    with pytest.raises(PackageError, match="does not list"):
        open_package(package.root)


def test_a_damaged_one_is_said_when_it_is_wanted(package: Package) -> None:
    files = {**join_files(package, {}), FILE: b"\\data\\\nnothing"}
    write_package(package.root, package.manifest, join_programs(package, []), files, replace=True)
    assert edge_asr.load(package.root, language_model=False).stream().flush() == []
    with pytest.raises(PackageError, match=r"arpa.gz.*copy the package again"):
        edge_asr.load(package.root)
