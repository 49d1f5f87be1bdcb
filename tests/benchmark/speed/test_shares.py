"""benchmark.speed.shares: seconds of a clock that the test moves, and the whole command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.speed.shares import PROGRAMS, REST, Account, main
from edge_asr.search.prefix import PrefixSearch


def test_a_part_is_without_what_it_calls() -> None:
    now = 0.0
    account = Account(lambda: now)

    def pass_s(seconds: float) -> None:
        nonlocal now
        now += seconds

    inner = account.timed("inner", lambda: pass_s(5))

    def work() -> None:
        pass_s(1)
        inner()
        pass_s(2)

    account.timed("outer", work)()
    pass_s(100)  # in no part
    inner()
    assert account.spent_s == {"outer": 3, "inner": 10}


def test_time_is_accounted_for_where_a_part_raises() -> None:
    now = 0.0
    account = Account(lambda: now)

    def fail() -> None:
        nonlocal now
        now += 4
        raise ValueError

    with pytest.raises(ValueError):
        account.timed("failing", fail)()
    account.timed("other", lambda: None)()
    assert account.spent_s == {"failing": 4, "other": 0}


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, out = PrefixSearch.push, tmp_path / "shares.md"
    arguments = ["commands-en", "--dispatch", "portable", "--rounds", "2", "--audio-s", "1"]
    assert main([*arguments, "-o", str(out)]) == 0
    assert PrefixSearch.push is before, "what was put around it stays"
    found = json.loads(out.with_suffix(".json").read_text())
    assert [row["part"] for row in found["rows"]][:2] == list(PROGRAMS)
    assert {"features", "prefix search", REST} <= {row["part"] for row in found["rows"]}
    for number in range(2):
        assert sum(row["percent"][number] for row in found["rows"]) == pytest.approx(100, abs=0.1)
    programs = [sum(row["percent"][number] for row in found["rows"][:2]) for number in range(2)]
    assert found["python_percent"] == pytest.approx(100 - sum(programs) / 2, abs=0.1)
    assert "| prefix search |" in out.read_text()
    assert main(["commands-en", "--rounds", "0"]) == 64
