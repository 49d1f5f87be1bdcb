"""Folders for what was found: one for each state of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.proof import work
from benchmark.proof.work import ROOMS, work_folder


def test_other_code_has_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "ROOT", tmp_path)
    for room in ROOMS:
        (tmp_path / room).mkdir()
    source = tmp_path / "export" / "verify.py"
    source.write_text("BOUND = 1")
    first = work_folder(tmp_path / "work")
    assert first.is_dir() and work_folder(tmp_path / "work") == first
    (tmp_path / "export" / "notes.txt").write_text("no code")
    assert work_folder(tmp_path / "work") == first
    source.write_text("BOUND = 2")
    assert work_folder(tmp_path / "work") != first
