"""Training only the decoders: they learn, and nothing else moves."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from edge_asr.errors import ConfigError
from edge_asr.package.manifest import FeatureSpec
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.config import network_config
from model.data import load_data
from model.network import Network
from model.recipe import read_recipe, train_config
from model.train_decoder import DecoderTrainer, encode_pass, encoded_passes, main, prepare, run
from tests.model.recipes import TRAIN, recipe, recipe_tree
from tests.paths import DATA, ROOT

RECIPES = ROOT / "model" / "recipes" / "decoders"
CHANGES: dict[str, Any] = {"passes": 2, "steps": 6, "unit_noise": 0.2, "eval_every": 3}
CHOICE: dict[str, Any] = {"choice_steps": 4, "choice_weight": 2.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A random network with the units of the clips, read from its directory."""
    folder = tmp_path_factory.mktemp("checkpoint")
    symbols = load_data(recipe(), DATA, FeatureSpec(), quiet=True).tokenizer.symbols
    tree = recipe_tree() | {"vocab_size": len(symbols)}
    del tree["train"]
    torch.manual_seed(3)
    network = Network(network_config(tree, "test"))
    network.encoder.global_cmvn.mean.fill_(10.0)
    network.encoder.global_cmvn.istd.fill_(0.3)
    save_checkpoint(network, symbols, tree, folder, torch.float16)
    return load_checkpoint(folder)


def trainer(checkpoint: Checkpoint, folder: Path, **changes: Any) -> DecoderTrainer:
    return prepare(checkpoint, recipe(**(CHANGES | changes)), DATA, folder, quiet=True)


def final(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(folder / "final.pt", weights_only=True)
    return weights


@pytest.mark.slow
def test_only_decoders_move(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    changes = {"steps": 30, "eval_every": 10, "dropout": 0.0, "unit_noise": 0.0, "passes": 1}
    path.write_text(yaml.safe_dump({"train": TRAIN | changes}))
    arguments = [str(checkpoint.path), str(path), "--data", str(DATA), "-o", str(out)]
    assert main(arguments) == 0
    before, after = final(checkpoint.path), final(out)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        moved = not torch.equal(tensor, before[name]) or tensor.dtype != before[name].dtype
        assert moved == name.startswith("decoder."), name
    for name in ("train.yaml", "units.txt"):
        assert (out / name).read_bytes() == (checkpoint.path / name).read_bytes()
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[2]["loss"] < rows[1]["loss"] < rows[0]["loss"]
    assert not any(row["skipped"] for row in rows)
    both = rows[2]["units"]["clips.tsv"]
    assert len(both) == 2 and all(0 < part <= 100 for part in both)
    # All is done: another run changes nothing.
    state = (out / "state.pt").read_bytes()
    assert main(arguments) == 0
    assert (out / "state.pt").read_bytes() == state
    capsys.readouterr()


@pytest.mark.slow
def test_resuming_is_the_same_as_not_stopping(checkpoint: Checkpoint, tmp_path: Path) -> None:
    straight = trainer(checkpoint, tmp_path / "straight", **CHOICE)
    run(straight, quiet=True)
    stopped = trainer(checkpoint, tmp_path / "stopped", **CHOICE)
    for _ in range(4):
        stopped.train_step()
    stopped.save()
    passes = {path: path.stat().st_mtime_ns for path in stopped.folder.glob("pass-*.pt")}
    assert len(passes) == 2
    torch.manual_seed(99)  # another process would draw otherwise
    resumed = trainer(checkpoint, tmp_path / "stopped", **CHOICE)
    resumed.resume()
    assert resumed.step == 4
    assert passes == {path: path.stat().st_mtime_ns for path in passes}  # read, not made again
    run(resumed, quiet=True)
    ours, theirs = final(tmp_path / "straight"), final(tmp_path / "stopped")
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.slow
def test_choosing_is_learned_in_the_last_steps(checkpoint: Checkpoint, tmp_path: Path) -> None:
    # 3 of 6 steps, each with the same dropout as without choosing.
    changes = {"passes": 1, "unit_noise": 0.0, "choice_steps": 3}
    trainers = [trainer(checkpoint, tmp_path, **changes, choice_weight=w) for w in (0.0, 5.0, 10.0)]
    plain, some, twice = ([ours.train_step() for _ in range(6)] for ours in trainers)
    # Where the texts of a batch do not differ in errors, there is nothing to choose.
    first = next(step for step in range(6) if plain[step] != some[step])
    assert first >= 3 and some[first] > plain[first]
    assert twice[first] - plain[first] == pytest.approx(2 * (some[first] - plain[first]), rel=1e-2)


def test_passes_hold_all_data_and_differ(checkpoint: Checkpoint, tmp_path: Path) -> None:
    conf = recipe(**CHANGES)
    data = load_data(conf, DATA, FeatureSpec(), quiet=True)
    checkpoint.network.train()  # encoding must not depend on how the network was left
    both = [encode_pass(checkpoint.network, data, conf, number) for number in (0, 1)]
    again = encode_pass(checkpoint.network, data, conf, 1)
    expected = Counter(unit for example in data.train for unit in example.label)
    for batches in both:
        labels = [label for batch in batches for label in batch.labels]
        assert Counter(unit for label in labels for unit in label) == expected
    outputs = [[row for batch in batches for row in batch.encoder_out] for batches in both]
    assert all(row.dtype == torch.float16 and not row.requires_grad for row in outputs[0])
    for row, same in zip(
        outputs[1], [row for batch in again for row in batch.encoder_out], strict=True
    ):
        assert torch.equal(row, same)
    assert [row.shape for row in outputs[0]] != [row.shape for row in outputs[1]]
    kept = encoded_passes(checkpoint, data, conf, tmp_path, quiet=True)
    assert [batch.labels for batch in kept] == [b.labels for batches in both for b in batches]
    other = dataclasses.replace(conf, seed=conf.seed + 1)
    with pytest.raises(ConfigError, match=r"pass-0.pt.*another checkpoint or seed"):
        encoded_passes(checkpoint, data, other, tmp_path, quiet=True)


def test_a_batch_that_is_not_finite_changes_no_weight(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    ours = trainer(checkpoint, tmp_path, passes=1)
    before = {name: tensor.clone() for name, tensor in ours.network.state_dict().items()}
    for batch in ours.batches:
        batch.encoder_out[0].fill_(torch.nan)
    ours.train_step()
    after = ours.network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert ours.step == 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"passes": 0}, "passes"), ({"min_word_count": 2}, "units"), ({"passes": -1}, "passes")],
)
def test_recipes_that_do_not_fit(
    checkpoint: Checkpoint, tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        trainer(checkpoint, tmp_path / "out", **changes)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pass-0.pt", "state.pt"])
def test_damaged_files_are_one_line(
    checkpoint: Checkpoint, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump({"train": TRAIN | CHANGES | {"passes": 1}}))
    out.mkdir()
    for content in (b"cut off", b""):
        (out / name).write_bytes(content)
        capsys.readouterr()
        code = main([str(checkpoint.path), str(path), "--data", str(DATA), "-o", str(out)])
        lines = capsys.readouterr().err.strip().splitlines()
        assert code == 78 and name in lines[-1] and lines[-1].startswith("model.train_decoder: ")
    torch.save({"step": 1}, out / name)
    assert main([str(checkpoint.path), str(path), "--data", str(DATA), "-o", str(out)]) == 78
    assert name in capsys.readouterr().err.strip().splitlines()[-1]


def test_recipes_of_the_project() -> None:
    paths = sorted(RECIPES.glob("*.yaml"))
    assert paths
    for path in paths:
        assert train_config(read_recipe(path), path.name).passes > 0
