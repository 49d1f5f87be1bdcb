"""benchmark.captions.commits: what a listener saw, counted by hand, and the whole command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmark.captions import commits
from benchmark.captions.commits import LATEST_MS, Steadiness
from edge_asr.events import Event, Final, Partial, Word
from edge_asr.search.commit import CommitRule
from edge_asr.streams.recognizer import Recognizer
from tests.benchmark.speech import CLIPS, write_set


def words(*spoken: tuple[str, int]) -> tuple[Word, ...]:
    return tuple(Word(text, end_ms - 100, end_ms, 1.0) for text, end_ms in spoken)


def final(segment: int, *spoken: tuple[str, int]) -> Final:
    return Final(segment, " ".join(text for text, _ in spoken), words(*spoken), 0, 0)


def test_what_was_seen() -> None:
    events: list[tuple[int, Event]] = [
        (1000, Partial(0, "", "ONE", 900)),
        (1600, Partial(0, "", "ONE TOO", 1500)),
        (2200, Partial(0, "ONE", " TWO", 2100)),  # "OO" taken back
        (2800, Partial(1, "", "SIX", 2700)),  # the next segment comes before the Final
        (3000, final(0, ("ONE", 800), ("TWO", 1400), ("ME", 1900))),  # nothing taken back
        (3500, final(1, ("NINE", 2600))),  # SIX taken back
    ]
    steady = Steadiness()
    finals = steady.watch(events)
    assert [one.segment for one in finals] == [0, 1]
    assert steady.changed_chars == 2 + 3
    assert (steady.tail_changes, steady.final_changes) == (1, 1)
    assert (steady.words, steady.partials) == (4, 4)
    assert steady.late_ms == [2200 - 800, 3000 - 1400, 3000 - 1900, 3500 - 2600]


def test_a_text_that_only_grows_is_steady() -> None:
    steady = Steadiness()
    steady.watch([(1, Partial(0, "", "A", 0)), (2, Partial(0, "A", " B", 0)), (3, final(0))])
    assert steady.changed_chars == 3, "an empty Final takes all back"
    assert (steady.tail_changes, steady.final_changes) == (0, 1)
    steady = Steadiness()
    steady.watch([(1, Partial(0, "", "A", 0)), (2, final(0, ("A", 0), ("B", 0)))])
    assert steady.changed_chars == steady.final_changes == 0


def test_the_whole_command(recognizer: Recognizer, tmp_path: Path) -> None:
    spoken = [("▁one ▁two", "one two", "a"), ("▁two ty", "twoty", "b"), ("▁one s", "ones", "c")]
    recordings, out = write_set(tmp_path / "set", spoken, "dev"), tmp_path / "page.md"
    arguments = [str(recognizer.package.root), str(recordings), "-o", str(out)]
    usual = CommitRule()
    assert commits.main([*arguments, "--margins", f"{usual.margin:g},inf"]) == 0
    text = out.read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| greedy", "| pre", "| **"))]
    assert len(rows) == 1 + 2 * len(LATEST_MS)
    default = f"| **{usual.margin:g}** | **{usual.latest_ms:g}** |"
    assert sum(default in row for row in rows) == 1
    assert "with the fewest word errors, 0.00 %" in text
    figures = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert all(row["wer"] == 0 and row["steady"]["words"] == 4 for row in figures)
    assert figures[-1]["margin"] == "inf" and math.isinf(float(figures[-1]["latest_ms"]))
    assert all(late >= -40 for row in figures for late in row["steady"]["late_ms"])


@pytest.mark.parametrize("margins", ["x", "-1", "nan", ""])
def test_wrong_margins(margins: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        commits.main(["nowhere", str(CLIPS), f"--margins={margins}"])
    assert "no list of numbers" in capsys.readouterr().err


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commits.main(["nowhere", str(CLIPS), "--utterances", "0"]) == 64
    assert commits.main([str(tmp_path / "nowhere"), str(CLIPS)]) == 78
    assert capsys.readouterr().err.count("\n") == 2
