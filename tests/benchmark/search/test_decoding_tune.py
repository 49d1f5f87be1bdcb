"""benchmark.search.decoding_tune: the weights with the fewest errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.search import decoding_tune
from edge_asr.streams.recognizer import Recognizer
from tests.benchmark.search.test_decoding import SPOKEN
from tests.benchmark.speech import write_set


def rows(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The cells of the table that was printed, without its titles."""
    lines = capsys.readouterr().out.strip().splitlines()
    return [line.strip("| ").split(" | ") for line in lines[2:]]


@pytest.mark.slow
def test_tuning_takes_the_fewest_errors(
    recognizer: Recognizer,
    language_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recordings = write_set(tmp_path, SPOKEN, "dev")
    arguments = [str(recognizer.package.root), str(recordings), "--lm", str(language_model)]
    assert decoding_tune.main(arguments) == 0
    lines = rows(capsys)
    tried = [line for line in lines if "chosen" not in line[0]]
    chosen = [line for line in lines if "chosen" in line[0]]
    assert len(tried) == len(decoding_tune.LM_WEIGHTS) * len(decoding_tune.WORD_BONUSES)
    rates = [float(line[-1]) for line in tried]
    assert [float(line[-1]) for line in chosen] == [min(rates)]
    assert decoding_tune.main([*arguments, "--utterances", "1"]) == 0
    found = {line[-1] for line in rows(capsys)}
    assert found <= {"0.00", "50.00", "100.00"}, "one of two words, or of one"
    assert decoding_tune.main([*arguments, "--utterances", "0"]) == 64
    assert decoding_tune.main([*arguments, "--blank-penalty", "100"]) == 0
    taxed = [line for line in rows(capsys) if "chosen" not in line[0]]
    assert len(taxed) == len(tried) and taxed != tried, "blanks that are not sure are lost"
    assert decoding_tune.main([*arguments, "--blank-penalty", "-1"]) == 64
