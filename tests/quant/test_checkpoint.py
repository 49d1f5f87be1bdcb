"""Quantized checkpoints: one set of integers, from a checkpoint or from disk."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edge_asr.errors import ConfigError, EdgeAsrError, InputMissingError
from edge_asr.package.manifest import Precision
from model.checkpoint import Checkpoint, load_checkpoint
from model.convolution import PointwiseConv
from quant.__main__ import main
from quant.checkpoint import (
    INTEGERS,
    load_at,
    load_integers,
    quantize,
    quantized_layers,
    save_integers,
)
from quant.convolution import QuantConv2d, conv2d_rows
from quant.linear import QuantLinear, quantize_weight
from quant.linear4 import QuantLinear4
from tests.paths import DATA


@pytest.fixture(scope="module", params=["wenet-dense", "wenet-moe"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return load_checkpoint(DATA / request.param)


WINDOW = "encoder.embed.conv.2"  # the subsampling's second convolution, of several channels


def linear_layers(root: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in root.named_modules()
        if isinstance(module, nn.Linear | PointwiseConv) or name == WINDOW
    }


def test_every_linear_layer_but_the_routers(checkpoint: Checkpoint) -> None:
    quantized = quantize(checkpoint, "int8")
    before = linear_layers(checkpoint.network)
    gates = ("feed_forward.gate", "feed_forward_macaron.gate")
    routers = {name for name in before if name.endswith(gates)}
    assert bool(routers) == (checkpoint.conf.feed_forward.n_expert > 0)
    assert set(linear_layers(quantized.network)) == routers | {WINDOW}
    assert isinstance(quantized.network.get_submodule(WINDOW), QuantConv2d)
    found = {name.removesuffix(".window") for name, _ in quantized_layers(quantized.network)}
    assert found == before.keys() - routers
    for name in routers:
        ours, theirs = (net.get_submodule(name) for net in (quantized.network, checkpoint.network))
        torch.testing.assert_close(ours.weight, theirs.weight, atol=0, rtol=0)


def test_report_names_each_layer(checkpoint: Checkpoint) -> None:
    quantized = quantize(checkpoint, "int8")
    layers = dict(quantized_layers(quantized.network))
    assert [row.name for row in quantized.report] == [n.removesuffix(".window") for n in layers]
    for row, layer in zip(quantized.report, layers.values(), strict=True):
        source = source_weight(checkpoint, row.name)
        assert (row.bits, row.group) == (8, 0)
        assert row.shape == tuple(source.shape) == tuple(layer.weight.shape)
        integers, scale = quantize_weight(source)
        torch.testing.assert_close(layer.weight, integers, atol=0, rtol=0)
        difference = np.linalg.norm((integers.float() * scale[:, None] - source).numpy())
        expected = difference / np.linalg.norm(source.numpy())
        assert row.weight_error == pytest.approx(expected, rel=1e-3)
        assert 0 < row.weight_error < 0.01


def source_weight(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """The float weight (O, I) of a layer."""
    layer = checkpoint.network.get_submodule(name)
    if isinstance(layer, nn.Conv2d):
        return conv2d_rows(layer)
    weight = layer.weight.detach()
    return weight.reshape(weight.size(0), -1)


@pytest.mark.slow
def test_int4_is_for_experts() -> None:
    """Their matrices have four bits, all other integers are those of int8."""
    checkpoint = load_checkpoint(DATA / "wenet-moe")
    plain, small = (quantize(checkpoint, precision, 64) for precision in ("int8", "int4"))
    assert (plain.group, small.group) == (0, 64)
    before, after = (dict(quantized_layers(one.network)) for one in (plain, small))
    assert before.keys() == after.keys()
    experts = {name for name in after if ".experts." in name}
    assert experts
    for row, (name, layer) in zip(small.report, after.items(), strict=True):
        if name in experts:
            assert isinstance(layer, QuantLinear4) and layer.group == row.group == 64
            error = (layer.dequantized() - source_weight(checkpoint, row.name)).norm()
            error = error / source_weight(checkpoint, row.name).norm()
            assert row.bits == 4 and row.weight_error == pytest.approx(float(error), rel=1e-4)
            assert 0 < row.weight_error < 0.15
        else:
            assert isinstance(layer, QuantLinear) and (row.bits, row.group) == (8, 0)
            torch.testing.assert_close(layer.weight, before[name].weight, atol=0, rtol=0)


def test_int4_without_experts_is_refused() -> None:
    with pytest.raises(ConfigError, match="experts"):
        quantize(load_checkpoint(DATA / "wenet-dense"), "int4")


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


@pytest.fixture
def integers4(tmp_path: Path) -> Path:
    out = tmp_path / "int4"
    options = ["--precision", "int4", "--group", "64"]
    assert main([str(DATA / "wenet-moe"), "-o", str(out), *options]) == 0
    return out


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fixture", "precision", "group"), [("integers", "int8", 0), ("integers4", "int4", 64)]
)
def test_integers_there_and_back(
    fixture: str, precision: Any, group: int, request: pytest.FixtureRequest
) -> None:
    (loaded,) = load_at(request.getfixturevalue(fixture), [precision])
    (direct,) = load_at(DATA / "wenet-moe", [precision], group or None)
    assert (loaded.precision, loaded.group) == (direct.precision, direct.group)
    assert loaded.group == group
    assert loaded.source_sha256 == direct.source_sha256 and len(loaded.source_sha256) == 64
    assert loaded.described == direct.described
    assert loaded.float_network is None and direct.float_network is not None
    ours, theirs = loaded.network.state_dict(), direct.network.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        torch.testing.assert_close(tensor, theirs[name], atol=0, rtol=0)
    assert any(tensor.dtype == torch.int8 for tensor in ours.values())
    feats = 10 + 3 * torch.randn(1, 67, 80, generator=torch.Generator().manual_seed(0))
    state = loaded.network.encoder.zero_state(8)
    with torch.inference_mode():
        said = [
            one.network.encoder.step(feats, torch.tensor([0]), state)[0] for one in (loaded, direct)
        ]
    torch.testing.assert_close(said[0], said[1], atol=0, rtol=0)


@pytest.mark.slow
def test_int4_integers_are_asked_for_as_what_they_are(integers4: Path) -> None:
    for precisions, group in ((["int8"], None), (["int8", "int4"], None), (["int4"], 32)):
        with pytest.raises(ConfigError, match="int4"):
            load_at(integers4, precisions, group)
    rows = json.loads((integers4 / "quant_report.json").read_text())
    assert {(row["bits"], row["group"]) for row in rows} == {(4, 64), (8, 0)}
    assert rows[0]["bits"] == 4, "the largest error is that of an expert"


@pytest.mark.slow
@pytest.mark.parametrize("precisions", [["fp32"], ["int8", "fp32"]])
def test_integers_alone_are_not_fp32(integers: Path, precisions: list[Any]) -> None:
    with pytest.raises(ConfigError, match="int8"):
        load_at(integers, precisions)


def test_both_precisions_of_a_checkpoint() -> None:
    found = load_at(DATA / "wenet-dense", ["int8", "fp32"])
    assert [quantized.precision for quantized in found] == ["int8", "fp32"]
    kinds = [isinstance(q.network.ctc.ctc_lo, QuantLinear) for q in found]
    assert kinds == [True, False]


EXPERT = "encoder.encoders.0.feed_forward.experts.0.w_1.weight"


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
    elif how == "an unknown precision":
        content["precision"] = "int2"
    elif how == "another precision":
        content["precision"], content["group"] = "int4", 32
    elif how == "an unknown group":
        content["group"] = 48
    elif how == "five bits":
        content["weights"][EXPERT][0, 0] = 15
    elif how == "a bare state_dict":
        content = content["weights"]
    elif how == "a list":
        content = [1, 2]
    torch.save(content, path)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["an unknown precision", "an unknown group", "five bits"])
def test_damaged_int4_integers(integers4: Path, how: str) -> None:
    damage(integers4, how)
    with pytest.raises(ConfigError, match=INTEGERS):
        load_integers(integers4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        "cut off",
        "another precision",
        "another network",
        "a missing tensor",
        "floats",
        "a bare state_dict",
        "a list",
    ],
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
    assert main([str(DATA / "wenet-dense"), "-o", str(tmp_path / "file")]) == 74
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and all(line.startswith("quant: ") for line in lines)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("encoder.encoders.1.feed_forward.experts.3.w_1.weight", float("nan")),
        ("encoder.global_cmvn.istd", float("inf")),
        ("ctc.ctc_lo.bias", float("-inf")),
    ],
)
def test_a_number_that_is_not_finite_is_refused_by_its_name(
    name: str, number: float, precision: Precision
) -> None:
    damaged = load_checkpoint(DATA / "wenet-moe")
    damaged.network.state_dict()[name].view(-1)[0] = number
    with pytest.raises(ConfigError, match=rf"{re.escape(name)} has 1 of \d+ numbers") as caught:
        quantize(damaged, precision)
    assert "\n" not in str(caught.value)


def test_integers_with_a_scale_that_is_not_finite_are_refused(tmp_path: Path) -> None:
    quantized = quantize(load_checkpoint(DATA / "wenet-moe"), "int8")
    for name in ("train.yaml", "units.txt"):
        shutil.copyfile(DATA / "wenet-moe" / name, tmp_path / name)
    name, layer = quantized_layers(quantized.network)[-1]
    layer.weight_scale[0] = float("nan")
    save_integers(quantized, tmp_path / INTEGERS)
    with pytest.raises(ConfigError, match=re.escape(f"{name}.weight_scale has 1 of")):
        load_integers(tmp_path)
