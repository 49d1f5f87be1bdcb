"""Scripts of requirements/ that train: which trainings they start, and with what."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {"first": "", "second": "train:\n  init: first\n", "third": "train:\n  init: second\n"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the scripts, three recipes, and programs that only note their arguments."""
    (tmp_path / "requirements").symlink_to(ROOT / "requirements")
    for name, text in RECIPES.items():
        path = tmp_path / "model/recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("torchrun", "python"):
        program = tmp_path / "venv/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text('#!/bin/sh\necho "$(basename "$0") $*" >>started\n')
        program.chmod(0o755)
    return tmp_path


def run(checkout: Path, script: str, *arguments: str, **variables: str) -> list[str]:
    """The programs that a script started, with their arguments."""
    subprocess.run(
        [f"requirements/{script}", *arguments],
        cwd=checkout,
        env=os.environ | variables,
        check=True,
    )
    started = checkout / "started"
    return started.read_text().splitlines() if started.exists() else []


def trained(started: list[str]) -> list[str]:
    return [line.split(" -m model.train ")[1].split()[0] for line in started]


def test_a_recipe_is_trained_after_those_that_it_starts_from(checkout: Path) -> None:
    started = run(checkout, "train-recipe", "venv", "third", "the data", "--steps", "3")
    assert trained(started) == [f"model/recipes/{name}.yaml" for name in RECIPES]
    expected = "--data the data --data exp -o exp/third --features exp/features --steps 3 --threads"
    assert expected in started[-1]


def test_a_start_that_is_no_recipe_and_not_there(checkout: Path) -> None:
    (checkout / "model/recipes/third.yaml").write_text("train:\n  init: whisper\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(checkout, "train-recipe", "venv", "third", "data")
    assert caught.value.returncode == 66
    assert not (checkout / "started").exists()


@pytest.mark.parametrize(("files", "count"), [(["final.pt"], 1), (["final.pt", "state.pt"], 3)])
def test_a_checkpoint_without_its_state_is_used_as_it_is(
    checkout: Path, files: list[str], count: int
) -> None:
    for name in files:
        path = checkout / "exp/second" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert len(run(checkout, "train-recipe", "venv", "third", "data")) == count


def test_every_recipe_is_trained_with_every_seed(checkout: Path) -> None:
    started = run(checkout, "train-claim", "venv", "the data", RECIPES="a b", SEEDS="1 2")
    folders = {line.split(" -o ")[1].split()[0] for line in started}
    assert folders == {f"exp/claim/{name}-{seed}" for name in "ab" for seed in "12"}
    assert len(started) == 4
    for line in started:
        assert "--nproc-per-node 1 " in line
        assert "--data the data --data exp --features exp/features --seed " in line


def test_the_language_model_is_made_of_training_texts(checkout: Path) -> None:
    text, arpa = run(checkout, "training-data", "venv", "data", "exp/lm/english.arpa")
    assert "--exclude data/librispeech/dev.tsv data/speechocean762/dev.tsv" in text
    assert text.count("data/speechocean762/train.tsv") == 2
    assert "lm exp/lm/english.txt" in arpa
    with pytest.raises(subprocess.CalledProcessError):
        run(checkout, "training-data", "venv", "data", "exp/other")
