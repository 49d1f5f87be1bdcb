"""The train section of a recipe is read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_asr.errors import ConfigError
from model.config import feature_spec, network_config, read_yaml
from model.recipe import train_config
from tests.model.recipes import TRAIN, recipe

RECIPES = sorted((Path(__file__).parents[2] / "model" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_of_the_project(path: Path) -> None:
    tree = read_yaml(path)
    assert train_config(tree, path.name).steps > 0
    assert network_config({**tree, "vocab_size": 100}, path.name).feed_forward.n_expert > 0
    assert feature_spec(tree, path.name).num_mel_bins == tree["input_dim"]


def test_there_are_recipes() -> None:
    assert RECIPES


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
