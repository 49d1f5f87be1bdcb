"""The train section of a recipe is read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_asr.errors import ConfigError
from model.config import feature_spec, network_config
from model.recipe import read_recipe, train_config
from tests.model.recipes import TRAIN, recipe

MADE_OTHERWISE = ("whisper",)  # by python -m model.whisper
FOLDER = Path(__file__).parents[2] / "model" / "recipes"
RECIPES = sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("claim/*.yaml")])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_of_the_project(path: Path) -> None:
    tree = read_recipe(path)
    conf = train_config(tree, path.name)
    assert conf.steps > 0
    assert conf.init in ("", *MADE_OTHERWISE) or (path.parent / f"{conf.init}.yaml").is_file()
    network = network_config({**tree, "vocab_size": 100}, path.name)
    assert bool(network.feed_forward.n_expert) != (
        path.stem == "english" or path.stem.startswith("dense")
    )
    assert feature_spec(tree, path.name).num_mel_bins == tree["input_dim"]


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} >= {"commands-en", "english-small", "moe-s", "dense-l"}


def test_a_recipe_like_another_changes_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one: 1\nsection: {x: 1, y: 2}\n")
    (tmp_path / "b.yaml").write_text("like: a.yaml\nsection: {y: [3]}\ntwo: 2\n")
    (tmp_path / "c.yaml").write_text("like: b.yaml\nsection: {z: 4}\none: 5\n")
    assert read_recipe(tmp_path / "b.yaml") == {"one": 1, "two": 2, "section": {"x": 1, "y": [3]}}
    expected = {"one": 5, "two": 2, "section": {"x": 1, "y": [3], "z": 4}}
    assert read_recipe(tmp_path / "c.yaml") == expected
    (tmp_path / "a.yaml").write_text("like: c.yaml\n")
    with pytest.raises(ConfigError, match="like itself"):
        read_recipe(tmp_path / "c.yaml")
    (tmp_path / "a.yaml").unlink()
    with pytest.raises(ConfigError, match=r"a\.yaml"):
        read_recipe(tmp_path / "c.yaml")


def test_whole_numbers_pass_as_numbers() -> None:
    assert recipe(peak_lr=1, dropout=0).peak_lr == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"stepz": 3},
        {"steps": "many"},
        {"steps": 0},
        {"steps": 2.5},
        {"warmup_steps": 0},
        {"train": []},
        {"train": "clips.tsv"},
        {"chunk_choices": []},
        {"speeds": [0.0]},
        {"dropout": 1.5},
        {"seed": -1},
        {"bf16": "no"},
    ],
)
def test_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))) as caught:
        recipe(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["train", "steps", "ema"])
def test_missing(name: str) -> None:
    section = {key: value for key, value in TRAIN.items() if key != name}
    with pytest.raises(ConfigError, match=rf"train\.{name} is missing"):
        train_config({"train": section}, "test")


@pytest.mark.parametrize("tree", [{}, {"train": None}, {"train": [1]}])
def test_no_section(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'train'"):
        train_config(tree, "test")
