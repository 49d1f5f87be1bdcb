"""A language model of what the tiny package can say."""

from __future__ import annotations

from pathlib import Path

import pytest

LM = "one two\nones\ntwo\none one\ntwoty\n"


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    from edge_asr.__main__ import main

    (tmp_path / "text").write_text(LM)
    path = tmp_path / "lm.arpa"
    assert main(["lm", str(tmp_path / "text"), "--case", "keep", "-o", str(path)]) == 0
    return path
