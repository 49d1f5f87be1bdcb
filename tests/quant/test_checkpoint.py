"""Quantized checkpoints: one set of integers, from a checkpoint or from disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edge_asr.errors import ConfigError, EdgeAsrError, InputMissingError
from model.checkpoint import Checkpoint, load_checkpoint
from model.convolution import PointwiseConv
from quant.__main__ import main
from quant.checkpoint import INTEGERS, load_at, load_integers, quantize, quantized_layers
from quant.linear import QuantLinear, quantize_weight

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module", params=["wenet-dense", "wenet-moe"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return load_checkpoint(DATA / request.param)


def linear_layers(root: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in root.named_modules()
        if isinstance(module, nn.Linear | PointwiseConv)
    }


def test_every_linear_layer_but_the_routers(checkpoint: Checkpoint) -> None:
    quantized = quantize(checkpoint, "int8")
    before = linear_layers(checkpoint.network)
    gates = ("feed_forward.gate", "feed_forward_macaron.gate")
    routers = {name for name in before if name.endswith(gates)}
    assert bool(routers) == (checkpoint.conf.feed_forward.n_expert > 0)
    assert set(linear_layers(quantized.network)) == routers
    assert dict(quantized_layers(quantized.network)).keys() == before.keys() - routers
    for name in routers:
        ours, theirs = (net.get_submodule(name) for net in (quantized.network, checkpoint.network))
        torch.testing.assert_close(ours.weight, theirs.weight, atol=0, rtol=0)


def test_report_names_each_layer(checkpoint: Checkpoint) -> None:
    quantized = quantize(checkpoint, "int8")
    layers = dict(quantized_layers(quantized.network))
    assert [row.name for row in quantized.report] == list(layers)
    for row in quantized.report:
        source = checkpoint.network.get_submodule(row.name).weight.detach()
        source = source.reshape(source.size(0), -1)
        assert row.shape == tuple(source.shape) == tuple(layers[row.name].weight.shape)
        integers, scale = quantize_weight(source)
        torch.testing.assert_close(layers[row.name].weight, integers, atol=0, rtol=0)
        difference = np.linalg.norm((integers.float() * scale[:, None] - source).numpy())
        expected = difference / np.linalg.norm(source.numpy())
        assert row.weight_error == pytest.approx(expected, rel=1e-3)
        assert 0 < row.weight_error < 0.01


def test_the_checkpoint_stays_as_it_was(checkpoint: Checkpoint) -> None:
    before = {name: tensor.clone() for name, tensor in checkpoint.network.state_dict().items()}
    quantize(checkpoint, "int8")
    assert not quantized_layers(checkpoint.network)
    for name, tensor in checkpoint.network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)


def test_fp32_is_the_checkpoints_own_network(checkpoint: Checkpoint) -> None:
    plain = quantize(checkpoint, "fp32")
    assert plain.network is checkpoint.network and plain.report == ()


def test_int8_is_close_to_fp32(checkpoint: Checkpoint) -> None:
    feats = 10 + 3 * torch.randn(1, 131, 80, generator=torch.Generator().manual_seed(0))
    quantized = quantize(checkpoint, "int8")
    with torch.inference_mode():
        state = checkpoint.network.encoder.zero_state(8)
        plain, rounded = (
            net.step(feats, torch.tensor([0]), state)[1]
            for net in (checkpoint.network, quantized.network)
        )
    difference = (plain - rounded).abs()
    assert 0 < difference.mean() < 0.05


@pytest.fixture
def integers(tmp_path: Path) -> Path:
    assert main([str(DATA / "wenet-moe"), "-o", str(tmp_path / "int8")]) == 0
    return tmp_path / "int8"


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out_folder = tmp_path / "int8"
    assert main([str(DATA / "wenet-dense"), "-o", str(out_folder)]) == 0
    names = sorted(path.name for path in out_folder.iterdir())
    assert names == ["quant_report.json", INTEGERS, "train.yaml", "units.txt"]
    rows = json.loads((out_folder / "quant_report.json").read_text())
    errors = [row["weight_error"] for row in rows]
    assert errors == sorted(errors, reverse=True)
    out = capsys.readouterr().out
    assert f"{len(rows)} layers" in out and rows[0]["name"] in out


def test_integers_there_and_back(integers: Path) -> None:
    (loaded,) = load_at(integers, ["int8"])
    (direct,) = load_at(DATA / "wenet-moe", ["int8"])
    assert loaded.source_sha256 == direct.source_sha256 and len(loaded.source_sha256) == 64
    assert loaded.described == direct.described
    assert loaded.float_network is None and direct.float_network is not None
    ours, theirs = loaded.network.state_dict(), direct.network.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        torch.testing.assert_close(tensor, theirs[name], atol=0, rtol=0)
    assert any(tensor.dtype == torch.int8 for tensor in ours.values())


@pytest.mark.parametrize("precisions", [["fp32"], ["int8", "fp32"]])
def test_integers_alone_are_not_fp32(integers: Path, precisions: list[Any]) -> None:
    with pytest.raises(ConfigError, match="int8"):
        load_at(integers, precisions)


def test_both_precisions_of_a_checkpoint() -> None:
    found = load_at(DATA / "wenet-dense", ["int8", "fp32"])
    assert [quantized.precision for quantized in found] == ["int8", "fp32"]
    kinds = [isinstance(q.network.ctc.ctc_lo, QuantLinear) for q in found]
    assert kinds == [True, False]


def damage(folder: Path, how: str) -> None:
    path = folder / INTEGERS
    content = torch.load(path, weights_only=True)
    if how == "cut off":
        path.write_bytes(path.read_bytes()[:-500])
        return
    if how == "another network":
        shutil.copy(DATA / "wenet-dense" / "train.yaml", folder / "train.yaml")
    elif how == "a missing tensor":
        del content["weights"]["ctc.ctc_lo.weight_scale"]
    elif how == "floats":
        content["weights"]["ctc.ctc_lo.weight"] = content["weights"]["ctc.ctc_lo.weight"].float()
    elif how == "a bare state_dict":
        content = content["weights"]
    elif how == "a list":
        content = [1, 2]
    torch.save(content, path)


@pytest.mark.parametrize(
    "how",
    ["cut off", "another network", "a missing tensor", "floats", "a bare state_dict", "a list"],
)
def test_damaged_integers(integers: Path, how: str) -> None:
    damage(integers, how)
    with pytest.raises(ConfigError, match=INTEGERS) as caught:
        load_integers(integers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "kind"), [("nowhere", InputMissingError), ("empty", InputMissingError)]
)
def test_nothing_to_load(source: str, kind: type[EdgeAsrError], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(kind, match=source):
        load_at(tmp_path / source, ["int8"])


def test_errors_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere"), "-o", str(tmp_path / "out")]) == 66
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("in the way")
    assert main([str(DATA / "wenet-dense"), "-o", str(tmp_path / "file")]) == 73
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and all(line.startswith("quant: ") for line in lines)
