"""``python -m model.whisper``: a checkpoint that loads, with units and weights of a Whisper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from edge_asr.errors import InputMissingError
from model.checkpoint import load_checkpoint
from model.recipe import read_recipe
from model.whisper.__main__ import main
from tests.model.whisper.small_whisper import DIM, HEADS, LAYERS, random_weights, write
from tests.paths import DATA, ROOT

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    weights = random_weights()
    write(folder / "model.bin", {name: tensor.numpy() for name, tensor in weights.items()})
    vocabulary = {name: index for index, name in enumerate(["Ġ", *LETTERS.lower(), "in", "ing"])}
    added = [{"content": "<|endoftext|>", "id": 38}, {"content": "<|notimestamps|>", "id": 39}]
    merges = ["i n", "in g"]
    tree = {"model": {"vocab": vocabulary, "merges": merges}, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The recipe english at the size of a small Whisper."""
    tree = read_recipe(ROOT / "model" / "recipes" / "english.yaml")
    size = {"attention_heads": HEADS, "linear_units": 4 * DIM, "num_blocks": LAYERS}
    tree["encoder_conf"] |= size | {"output_size": DIM}
    tree["decoder_conf"] |= size
    tree["train"] |= {"train": ["clips.tsv"], "dev": ["clips.tsv"], "noise": [], "pieces": 32}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_checkpoint_that_begins_as_whisper(model: Path, small: Path, tmp_path: Path) -> None:
    arguments = [str(model), str(small), "--data", str(DATA), "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    checkpoint = load_checkpoint(tmp_path / "out")
    assert len(checkpoint.symbols) == 32 and {"IN", "▁", "A"} <= set(checkpoint.symbols)
    weights = random_weights()
    rows = checkpoint.network.state_dict()["decoder.embed.0.weight"]
    place = checkpoint.symbols.index("B")
    expected = weights["decoder/embeddings/weight"][1 + LETTERS.index("B")]
    torch.testing.assert_close(rows[place], expected, atol=1e-3, rtol=1e-3)
    assert checkpoint.network.encoder.global_cmvn.mean.abs().min() > 0.1


def test_no_model(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path), str(small), "--data", str(DATA), "-o", str(tmp_path / "out")]
    assert main(arguments) == InputMissingError.exit_code
    assert "give model.bin of a model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
