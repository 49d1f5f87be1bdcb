"""Training: it learns, it resumes, and processes share the work without changing it."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from edge_asr.errors import ConfigError
from edge_asr.package.manifest import FeatureSpec
from model.checkpoint import load_checkpoint
from model.data import load_data
from model.recipe import train_config
from model.train import Trainer, learning_rate, main, run
from tests.model.recipes import recipe, recipe_tree
from tests.paths import DATA, ROOT


def trainer(folder: Path, encoder: dict[str, Any] | None = None, **changes: Any) -> Trainer:
    tree = recipe_tree(encoder, **changes)
    conf = train_config(tree, "test")
    return Trainer(tree, conf, load_data(conf, DATA, FeatureSpec(), quiet=True), folder)


def weights(folder: Path) -> dict[str, Tensor]:
    state = torch.load(folder / "state.pt", weights_only=True)
    return {f"{part}.{k}": v for part in ("network", "average") for k, v in state[part].items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], bound: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor, theirs[name], atol=bound, rtol=0, msg=lambda m, n=name: n + m
        )


@pytest.mark.slow
def test_command_line_learns(tmp_path: Path) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    changes = {"steps": 120, "eval_every": 40, "chunk_choices": [0, 16], "dropout": 0.0}
    path.write_text(yaml.safe_dump(recipe_tree(**changes)))
    assert main([str(path), "--data", str(DATA), "-o", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [40, 80, 120]
    losses = [row["loss"] for row in rows]
    assert losses[2] < losses[1] < losses[0] and losses[2] < 0.75 * losses[0]
    assert all(0 <= row["wer"]["clips.tsv"] <= 200 and row["skipped"] == 0 for row in rows)
    checkpoint = load_checkpoint(out)
    assert (
        "train" not in checkpoint.described.tree
        and len(checkpoint.symbols) == checkpoint.conf.vocab_size
    )
    averages = torch.load(out / "state.pt", weights_only=True)["average"]
    name = "ctc.ctc_lo.weight"
    torch.testing.assert_close(
        checkpoint.network.state_dict()[name], averages[name].half().float(), atol=0, rtol=0
    )
    # All is done: another run changes nothing.
    before = (out / "state.pt").read_bytes()
    assert main([str(path), "--data", str(DATA), "-o", str(out)]) == 0
    assert (out / "state.pt").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm"])
def test_resuming_is_the_same_as_not_stopping(norm: str, tmp_path: Path) -> None:
    encoder = {"cnn_module_norm": norm}
    straight = trainer(tmp_path / "straight", encoder)
    run(straight)
    batches = trainer(tmp_path / "stopped", encoder)
    source = batches.batches()
    for _ in range(4):
        batches.train_step(next(source))
    batches.save()
    torch.manual_seed(99)  # another process would draw otherwise
    resumed = trainer(tmp_path / "stopped", encoder)
    resumed.resume()
    assert resumed.step == 4
    run(resumed)
    assert resumed.step == straight.step == 8 and resumed.epoch == straight.epoch >= 1
    assert_same(weights(tmp_path / "straight"), weights(tmp_path / "stopped"), 0.0)
    if norm == "batch_norm":  # what is saved for use knows the statistics
        mean = load_checkpoint(tmp_path / "stopped").network.encoder.encoders[0].conv_module.norm
        assert mean.running_mean.abs().max() > 0


@pytest.mark.slow
def test_state_of_another_network_is_refused(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.save()
    for change in ({"linear_units": 16}, {"num_blocks": 1}):
        with pytest.raises(ConfigError, match=r"state\.pt") as caught:
            trainer(tmp_path, change).resume()
        assert "\n" not in str(caught.value)
    other = trainer(tmp_path)
    other.data.tokenizer.symbols[-2:] = reversed(other.data.tokenizer.symbols[-2:])
    with pytest.raises(ConfigError, match="its units are others"):
        other.resume()
    (tmp_path / "state.pt").write_bytes(b"cut off")
    with pytest.raises(ConfigError, match=r"state\.pt"):
        trainer(tmp_path).resume()


def test_a_batch_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    ours = trainer(tmp_path)
    batch = next(ours.batches())
    before = {name: tensor.clone() for name, tensor in ours.network.state_dict().items()}
    frames, label = batch.drawn[0]
    batch.drawn[0] = (frames * math.nan, label)
    assert math.isnan(ours.train_step(batch))
    assert_same(ours.network.state_dict(), before, 0.0)
    assert ours.step == ours.skipped == 1
    assert math.isfinite(ours.train_step(next(ours.batches())))
    assert ours.skipped == 1


def test_learning_rate() -> None:
    conf = recipe(peak_lr=1.0, warmup_steps=10)
    rates = [learning_rate(step, step / 100, conf) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=0.01) and max(rates) == max(rates[8:12])
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0.02) == learning_rate(500, 3.0, conf)


@pytest.mark.slow
def test_hours_end_the_training(tmp_path: Path) -> None:
    tree = recipe_tree(steps=1_000_000, dev=[])
    conf = train_config(tree, "test")
    data = load_data(conf, DATA, FeatureSpec(), quiet=True)
    short = Trainer(tree, conf, data, tmp_path, hours=1 / 3600)
    run(short)
    assert 1 <= short.trained_s < 60 and short.step < 1_000_000
    assert (tmp_path / "final.pt").is_file()


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        ({"stepz": 1}, 78, "stepz"),
        ({"train": ["nothing.tsv"]}, 66, "nothing.tsv"),
        ({"noise": ["nothing"]}, 66, "nothing"),
    ],
)
def test_errors_are_one_line(
    change: dict[str, Any], code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_tree(**change)))
    assert main([str(path), "--data", str(DATA), "-o", str(tmp_path / "out")]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("model.train: ") and word in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rises", "expected"), [(True, [0.0, 0.2]), (False, [0.4, 0.4])])
def test_dropout_rises_if_asked(tmp_path: Path, rises: bool, expected: list[float]) -> None:
    ours = trainer(tmp_path / "out", dropout=0.4, dropout_rises=rises, steps=2)
    source = ours.batches()
    found = []
    for _ in expected:
        ours.train_step(next(source))
        modules = [m for m in ours.network.modules() if isinstance(m, torch.nn.Dropout)]
        found.append({module.p for module in modules})
    assert found == [{value} for value in expected]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    # Without dropout, which every process draws for itself. One item is less than two shares.
    changes = {"dropout": 0.0, "steps": 10, "eval_every": 5, "frames_per_batch": 500}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_tree(**changes)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    one, two = tmp_path / "one", tmp_path / "two"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for out, before in ((one, []), (two, launch)):
        command = [sys.executable, *before, "-m", "model.train", str(path)]
        done = subprocess.run(
            [*command, "--data", str(DATA), "-o", str(out), "--hours", "1"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    logs = [
        [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        for out in (one, two)
    ]
    for ours, theirs in zip(*logs, strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["wer"].keys() == theirs["wer"].keys() == {"clips.tsv"}
        # A rounding may change a word, a share that is left out would change most of them.
        assert ours["wer"]["clips.tsv"] == pytest.approx(theirs["wer"]["clips.tsv"], abs=6)
    moved = trainer(tmp_path / "fresh", **changes)
    start = {f"network.{name}": tensor for name, tensor in moved.network.state_dict().items()}
    end = weights(one)
    assert any((end[name] - tensor).abs().max() > 0.01 for name, tensor in start.items())
    assert_same(weights(one), weights(two), 2e-3)


@pytest.mark.slow
def test_batch_norm_in_two_processes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_tree({"cnn_module_norm": "batch_norm"}, steps=1)))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         "-m", "model.train", str(path), "--data", str(DATA), "-o", str(tmp_path / "out")],
        cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode != 0
    assert "batch_norm" in done.stderr and not (tmp_path / "out").exists()
