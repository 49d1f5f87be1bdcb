"""Text for language models."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.lm_text import main


def test_sentences_that_are_tested_with_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "path\tseconds\tspeaker\ttext\n"
    (tmp_path / "train.tsv").write_text(header + "a.wav\t1\tme\tYES IT IS\n")
    (tmp_path / "dev.tsv").write_text(
        header + "b.wav\t1\tme\tTHE WELL-KNOWN TEST\nc.wav\t1\tme\tIS THE VERY END\n"
    )
    (tmp_path / "text.txt").write_text(
        '"Don\'t go," he said.\nThe well-known test!\nIn 1984 they met.\n\nCaf\u00e9 au lait.\n'
        "So this is the very, very end of it.\nIt is the very end. The well-known test, again.\n"
    )
    arguments = ["--text", "text.txt", "--recordings", "train.tsv", "--exclude", "dev.tsv"]
    paths = [word if word.startswith("--") else str(tmp_path / word) for word in arguments]
    assert main(paths) == 0
    assert capsys.readouterr().out.splitlines() == [
        "DON'T GO HE SAID",
        "SO THIS IS THE VERY VERY END OF IT",
        "YES IT IS",
    ]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--text", str(tmp_path / "gone.txt")]) == 66
    assert "gone.txt" in capsys.readouterr().err
