"""Random networks: of many sizes, and always the same."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark.proof.networks import in_words, random_tree, write_random
from model.checkpoint import load_checkpoint
from model.config import network_config


def test_all_are_networks_and_they_differ() -> None:
    trees = [random_tree(seed) for seed in range(60)]
    for tree in trees:
        network_config(tree, "random")
    assert len({in_words(tree) for tree in trees}) > 50
    assert random_tree(3) == trees[3]


def test_a_checkpoint_is_written_that_is_the_same_again(tmp_path: Path) -> None:
    first = load_checkpoint(write_random(1, tmp_path / "a")).network.state_dict()
    again = load_checkpoint(write_random(1, tmp_path / "b")).network.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
