"""What ``make train-smoke`` runs: training lowers the loss, and its checkpoint becomes a package
that writes text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import edge_asr
from edge_asr.audio.recordings import read_recordings
from tests.model.recipes import recipe_tree
from tests.paths import DATA, ROOT

CLIPS = 4  # few enough to be learned by heart in a minute


def python(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_minute_of_training_becomes_a_package_that_writes_what_was_said(tmp_path: Path) -> None:
    rows = read_recordings(DATA / "clips.tsv")
    rows = sorted(rows, key=lambda row: row.path.stat().st_size)[:CLIPS]
    lines = [f"{row.path}\t1\t{row.speaker}\t{row.text}" for row in rows]
    (tmp_path / "few.tsv").write_text("\n".join(["path\tseconds\tspeaker\ttext", *lines]) + "\n")
    encoder = {"output_size": 64, "linear_units": 64}
    changes = {
        "train": ["few.tsv"], "dev": ["few.tsv"], "steps": 160, "eval_every": 40, "ema": 0.9,
        "peak_lr": 0.003, "warmup_steps": 20, "dropout": 0.0, "easy_epochs": 1000,
        "max_joined": 1, "frames_per_batch": 2000,
    }  # fmt: skip
    recipe, out, package = tmp_path / "recipe.yaml", tmp_path / "trained", tmp_path / "package"
    recipe.write_text(yaml.safe_dump(recipe_tree(encoder, **changes)))
    python("-m", "model.train", str(recipe), "--data", str(tmp_path), "-o", str(out))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.3 * log[0]["loss"]
    assert log[-1]["wer"]["few.tsv"] <= 20
    python("-m", "export", str(out), "--out", str(package), "--backends", "onnx")
    recognizer = edge_asr.load(package)
    said = [recognizer.transcribe(row.path, "whole").text for row in rows]
    right = sum(text == row.text for text, row in zip(said, rows, strict=True))
    assert right >= CLIPS - 1, said
