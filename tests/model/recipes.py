"""A recipe that trains a tiny network on the clips in seconds."""

from __future__ import annotations

from typing import Any

from model.recipe import TrainConfig, train_config
from tests.model.networks import tree

TRAIN: dict[str, Any] = {
    "train": ["clips.tsv"], "dev": ["clips.tsv"], "noise": [], "speeds": [1.0],
    "min_word_count": 1, "steps": 8, "warmup_steps": 3, "peak_lr": 0.01,
    "frames_per_batch": 800, "chunk_choices": [0, 4, 16], "left_context_choices": [-1, 16],
    "easy_epochs": 1, "max_joined": 2, "max_joined_frames": 600, "noise_only": 0.0,
    "dropout": 0.1, "ema": 0.9, "seed": 1, "eval_every": 1000, "save_every_s": 1e9,
    "bf16": False,
}  # fmt: skip


def recipe(**changes: Any) -> TrainConfig:
    """The train section, changed."""
    return train_config({"train": TRAIN | changes}, "test")


def recipe_tree(encoder: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A whole recipe; ``changes`` are to its train section."""
    whole = tree({"output_size": 16} | (encoder or {}))
    del whole["vocab_size"]
    special = {"<blank>": 0, "<unk>": 1, "<sos>": 2, "<eos>": 2}
    return whole | {"tokenizer_conf": {"special_tokens": special}, "train": TRAIN | changes}
