"""Options of the search into values, and what is wrong about them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import soundfile

from edge_asr.__main__ import main
from edge_asr.commands import mic
from edge_asr.commands.decoding_arguments import add_decoding_arguments
from edge_asr.commands.model_options import Parser, add_model_arguments
from edge_asr.commands.stream_options import StreamOptions, stream_options
from edge_asr.events import Final
from edge_asr.fusion.grammar import Grammar
from edge_asr.fusion.hotword_file import warning_lines
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.package.files import Package
from edge_asr.search.commit import CommitRule
from edge_asr.search.decoding import Decoding
from edge_asr.search.decoding_options import decoding_from
from edge_asr.search.endpoint import EndpointRule
from edge_asr.streams.recognizer import Recognizer
from tests.tiny import DECODER, RATE, FakeDecoder, tones

ARPA = """\\data\\
ngram 1=5

\\1-grams:
-1 <s>
-1 </s>
-0.5 one
-0.5 two
-0.5 twos

\\end\\
"""


def options(recognizer: Recognizer, *words: str) -> StreamOptions:
    parser = Parser()
    add_model_arguments(parser)
    add_decoding_arguments(parser, "inline")
    return stream_options(parser.parse_args(words), recognizer, "inline")


def with_decoder(recognizer: Recognizer) -> Recognizer:
    manifest = msgspec.structs.replace(recognizer.package.manifest, decoder=DECODER)
    package = dataclasses.replace(recognizer.package, manifest=manifest)
    return dataclasses.replace(recognizer, package=package, decoder=FakeDecoder())


@pytest.fixture
def arpa(tmp_path: Path) -> str:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA)
    return str(path)


@pytest.fixture
def grammar(tmp_path: Path) -> str:
    path = tmp_path / "grammar.txt"
    path.write_text("one twos\none\n")
    return str(path)


def test_without_options_all_is_as_for_everybody(recognizer: Recognizer) -> None:
    found = options(recognizer)
    assert found.decoding == Decoding(second_pass="off"), "the package has no decoder"
    assert (found.chunk_ms, found.left_context_ms, found.hotwords.phrases) == (None, None, ())


def test_every_option_is_a_field(recognizer: Recognizer, arpa: str, grammar: str) -> None:
    found = options(
        recognizer,
        *"--beam 5 --blank-penalty 0.5 --second-pass off --nbest 3".split(),
        *"--left-context-ms 0 --chunk-ms 320".split(),
        *"--hotword one --hotword".split(), "two s", *"--hotword-bonus 3 --lm".split(), arpa,
        *"--lm-weight 0.25 --lm-word-bonus 1.5 --lm-level word --grammar".split(), grammar,
        *"--silence-ms 700 --commit-margin 4 --commit-latest-ms inf".split(),
    )  # fmt: skip
    assert (found.chunk_ms, found.left_context_ms) == (320, 0)
    assert found.hotwords.phrases == ("one", "two s")
    model = found.decoding.language_model
    assert isinstance(model, LanguageModel)
    assert (model.weight, model.word_bonus) == (0.25, 1.5)
    assert isinstance(found.decoding.grammar, Grammar)
    assert found.decoding.grammar.allows("one twos")
    plain = dataclasses.replace(found.decoding, language_model=None, grammar=None)
    assert plain == Decoding(
        beam=5,
        blank_penalty=0.5,
        second_pass="off",
        nbest=3,
        hotword_bonus=3.0,
        endpoint=EndpointRule(silence_ms=700),
        commit=CommitRule(margin=4.0, latest_ms=math.inf),
    )
    assert options(recognizer, "--search", "greedy").decoding.search == "greedy"


def test_the_context_after_silence(recognizer: Recognizer) -> None:
    assert options(recognizer).decoding.fresh_context is None, "the package decides"
    assert options(recognizer, "--keep-context").decoding.fresh_context is False
    assert options(recognizer, "--no-keep-context").decoding.fresh_context is True


def test_the_second_pass_of_a_command(recognizer: Recognizer) -> None:
    able = with_decoder(recognizer)
    assert options(able).decoding.second_pass == "inline"
    assert options(able, "--second-pass", "background").decoding.second_pass == "background"
    assert options(able, "--second-pass", "off").decoding.second_pass == "off"


def test_a_shorter_segment_moves_what_depends_on_it(recognizer: Recognizer) -> None:
    rule = options(recognizer, "--max-segment-ms", "3000", "--silence-ms", "500").decoding.endpoint
    expected = {"max_segment_ms": 3000, "silence_ms": 500}
    assert rule == decoding_from({"endpoint": expected}).endpoint
    assert rule.relax_from_ms < rule.max_segment_ms


def test_the_default_weight_of_a_model_is_that_of_the_help(
    recognizer: Recognizer, arpa: str
) -> None:
    model = options(recognizer, "--lm", arpa).decoding.language_model
    assert isinstance(model, LanguageModel)
    assert (model.weight, model.word_bonus) == (0.5, 0.0)


WRONG = [
    ("--search best", 64, "--search"),
    ("--beam 0", 64, "--beam is 0; allowed are 1 to 64"),
    ("--beam 65", 64, "--beam is 65"),
    ("--beam x", 64, "--beam"),
    ("--beam 999999999999999999999999", 64, "--beam"),
    ("--blank-penalty nan", 64, "--blank-penalty is nan; allowed are 0 to 100"),
    ("--nbest 0", 64, "--nbest is 0"),
    ("--second-pass maybe", 64, "--second-pass"),
    ("--second-pass inline", 64, "no decoder is loaded"),
    ("--threads 65", 64, "--threads is 65; allowed are 1 to 64"),
    ("--backend tpu", 64, "--backend 'tpu' is unknown; choose one of"),
    ("--chunk-ms -1", 64, "--chunk-ms is -1; allowed are multiples of 40"),
    ("--left-context-ms 30", 64, "--left-context-ms is 30; allowed are multiples of 40"),
    ("--left-context-ms -40", 64, "allowed are"),
    ("--hotword=", 64, "the phrase is empty"),
    ("--hotword one --hotword-bonus 0", 64, "--hotword-bonus is 0.0; allowed are"),
    ("--hotword-bonus nan", 64, "--hotword-bonus is nan; allowed are numbers above 0, up to 20"),
    ("--hotwords none.txt", 66, "none.txt"),
    ("--hotwords {folder}", 66, "is no regular file"),
    ("--hotwords {binary}", 64, "binary"),
    ("--lm none.arpa", 66, "none.arpa"),
    ("--lm {binary}", 64, "binary"),
    ("--lm {arpa} --lm-weight -1", 64, "--lm-weight is -1.0; allowed are 0 to 100"),
    ("--lm {arpa} --lm-word-bonus nan", 64, "--lm-word-bonus is nan"),
    ("--lm {arpa} --lm-level letter", 64, "--lm-level"),
    ("--lm {arpa} --lm-level unit", 64, "none of its words is a unit"),
    ("--lm-weight 0.5", 64, "give --lm FILE"),
    ("--grammar none.txt", 66, "none.txt"),
    ("--grammar {binary}", 64, "binary"),
    ("--search greedy --beam 5", 64, "--beam is 5; allowed are none for greedy search"),
    ("--search greedy --hotword one", 64, "leave --search out"),
    ("--search greedy --lm none.arpa", 64, "leave --search out"),
    ("--search greedy --grammar {grammar}", 64, "leave --search out"),
    ("--silence-ms -1", 64, "--silence-ms is -1; allowed are 80 to 30000 ms"),
    ("--silence-ms 0.5", 64, "--silence-ms"),
    ("--max-segment-ms 999", 64, "--max-segment-ms is 999; allowed are 1000 to 30000"),
    ("--max-segment-ms 30001", 64, "--max-segment-ms"),
    ("--commit-margin -1", 64, "--commit-margin is -1.0; allowed are numbers from 0"),
    ("--commit-latest-ms nan", 64, "--commit-latest-ms is nan"),
]


def run_mic(package: Package, speech: str, words: list[str]) -> int:
    return mic.main(["--package", str(package.root), "--input", speech, *words])


def run_transcribe(package: Package, speech: str, words: list[str]) -> int:
    return main(["transcribe", speech, "--package", str(package.root), *words])


@pytest.mark.parametrize("run", [run_mic, run_transcribe])
@pytest.mark.parametrize(("line", "code", "part"), WRONG)
def test_what_is_wrong_is_one_line(
    run: Callable[[Package, str, list[str]], int],
    line: str,
    code: int,
    part: str,
    tiny_package: Package,
    tmp_path: Path,
    arpa: str,
    grammar: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "binary").write_bytes(b"\x00\xff\n" * 9)
    places = {"folder": tmp_path, "binary": tmp_path / "binary", "arpa": arpa, "grammar": grammar}
    words = [word.format(**places) for word in line.split()]
    assert run(tiny_package, str(tmp_path / "never read.wav"), words) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("edge-asr: ") and part in err


@pytest.mark.parametrize("run", [run_mic, run_transcribe])
def test_hotwords_that_cannot_be_spelled_are_lines_on_stderr(
    run: Callable[[Package, str, list[str]], int],
    tiny_package: Package,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    speech = tmp_path / "speech.wav"
    soundfile.write(speech, tones("▁one ▁two s"), RATE)
    words = "--hotword one --hotword zebra --hotword three".split()
    assert run(tiny_package, str(speech), words) == 0
    out, err = capsys.readouterr()
    assert out == "one twos\n"
    warned = [line for line in err.splitlines() if " is left out: " in line]
    assert [line.split("'")[1] for line in warned] == ["zebra", "three"]


def test_thousands_of_warnings_are_a_few_lines() -> None:
    assert warning_lines(["a", "b"]) == ["a", "b"]
    lines = warning_lines([str(number) for number in range(1000)])
    assert lines[:2] == ["0", "1"]
    assert lines[-1] == f"{1000 - len(lines) + 1} more hotwords are left out"
    assert len(lines) < 30


def texts_with(recognizer: Recognizer, *words: str) -> list[str]:
    samples = tones("▁one 300 ▁two s")
    with options(recognizer, *words).open() as stream:
        events = [*stream.push(samples, RATE), *stream.flush()]
    return [event.text for event in events if isinstance(event, Final)]


def test_options_reach_the_search(recognizer: Recognizer, grammar: str, tmp_path: Path) -> None:
    assert texts_with(recognizer) == ["one twos"]
    assert texts_with(recognizer, "--silence-ms", "200") == ["one", "twos"]
    assert texts_with(recognizer, "--grammar", grammar) == ["one twos"]
    other = tmp_path / "other.txt"
    other.write_text("one two\n")
    assert texts_with(recognizer, "--grammar", str(other)) == ["one two"]
