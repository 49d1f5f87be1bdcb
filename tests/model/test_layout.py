"""Checkpoint directories as WeNet leaves them: what is missing, and what is there instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asr.errors import InputMissingError
from model.layout import check_layout, unused_average

COMPLETE = ("train.yaml", "final.pt", "units.txt")


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).write_bytes(b"")
    return path


def refusal(path: Path, weights: str = "final.pt") -> str:
    with pytest.raises(InputMissingError) as caught:
        check_layout(path, weights)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_complete(tmp_path: Path) -> None:
    check_layout(folder(tmp_path, *COMPLETE))


def test_a_training_folder_with_an_average(tmp_path: Path) -> None:
    names = ("0.pt", "9.pt", "10.pt", "avg_5.pt", "avg_30.pt", "decoder.pt", "words.txt")
    message = refusal(folder(tmp_path, "train.yaml", *names))
    assert "final.pt and units.txt are missing" in message
    assert "there are avg_30.pt, avg_5.pt, 10.pt, 9.pt, words.txt" in message
    assert "copy for example avg_30.pt to final.pt and words.txt to units.txt" in message


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train.yaml", "units.txt", "epoch_3.pt"), ["final.pt is missing", "epoch_3.pt to final"]),
        (("train.yaml", "final.pt", "lang_char.txt"), ["units.txt is", "lang_char.txt to units"]),
        (("final.pt", "units.txt", "11.yaml"), ["train.yaml is missing", "11.yaml to train.yaml"]),
        (("train.yaml", "final.pt"), ["units.txt is missing; a checkpoint is"]),
        ((), ["train.yaml and final.pt and units.txt are missing; a checkpoint is"]),
    ],
)
def test_what_is_there(tmp_path: Path, names: tuple[str, ...], parts: list[str]) -> None:
    message = refusal(folder(tmp_path, *names))
    for part in parts:
        assert part in message


def test_a_file_in_the_place_of_its_directory(tmp_path: Path) -> None:
    assert "is a file" in refusal(folder(tmp_path, *COMPLETE) / "final.pt")


def test_other_weights_are_named(tmp_path: Path) -> None:
    assert "quantized.pt is missing" in refusal(folder(tmp_path, *COMPLETE), "quantized.pt")


def test_an_average_that_is_not_taken(tmp_path: Path) -> None:
    assert unused_average(folder(tmp_path, *COMPLETE, "3.pt")) == ""
    folder(tmp_path, "avg_5.pt")
    assert "there is also avg_5.pt" in unused_average(tmp_path)
    (tmp_path / "final.pt").unlink()
    assert unused_average(tmp_path) == ""
