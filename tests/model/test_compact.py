"""Checkpoints of int8 weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edge_asr.errors import ConfigError
from model.checkpoint import SCALE, load_checkpoint, save_checkpoint
from model.compact import SMALLEST, compact, main
from quant.checkpoint import quantize
from quant.linear import quantize_weight
from tests.model.networks import SYMBOLS, network, tree
from tests.model.test_train import trainer


def test_int8_programs_are_the_same_of_either(tmp_path: Path) -> None:
    trainer(tmp_path / "whole", {"output_size": 64, "linear_units": 96}).save()
    assert main([str(tmp_path / "whole"), "-o", str(tmp_path / "small")]) == 0
    whole, small = (load_checkpoint(tmp_path / name) for name in ("whole", "small"))
    assert whole.symbols == small.symbols and whole.described.tree == small.described.tree
    rounded = 0
    theirs = small.network.state_dict()
    for name, tensor in whole.network.state_dict().items():
        if torch.equal(theirs[name], tensor):
            continue
        rounded += 1
        assert tensor.numel() >= SMALLEST and "gate" not in name
        expected, scale = quantize_weight(tensor.flatten(1))
        found, again = quantize_weight(theirs[name].flatten(1))
        assert torch.equal(found, expected)
        torch.testing.assert_close(again, scale, rtol=1e-6, atol=0)
    assert rounded > 10
    sizes = [(tmp_path / name / "final.pt").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < 0.7 * sizes[0]


@pytest.mark.parametrize(
    "encoder",
    [
        {"output_size": 256, "cnn_module_kernel": 31},  # a wide depthwise convolution
        {"output_size": 512},  # a wide first convolution too
        {"output_size": 128, "input_layer": "conv1d4"},
        {"output_size": 64, "n_expert": 64},  # a wide router
    ],
)
def test_what_programs_keep_in_float_is_not_rounded(
    tmp_path: Path, encoder: dict[str, Any]
) -> None:
    encoder = {"num_blocks": 1} | encoder
    made = network(encoder)
    save_checkpoint(made, SYMBOLS, tree(encoder), tmp_path, torch.float32)
    programs = {layer.name for layer in quantize(load_checkpoint(tmp_path), "int8").report}
    found = compact(made)
    rounded = {name.removesuffix(SCALE) for name in found if name.endswith(SCALE)}
    assert rounded
    for name, tensor in made.state_dict().items():
        is_integer = name.removesuffix(".weight") in programs
        assert (name in rounded) == (is_integer and tensor.numel() >= SMALLEST), name


def test_a_checkpoint_is_not_written_over_itself(tmp_path: Path) -> None:
    trainer(tmp_path).save()
    before = (tmp_path / "final.pt").read_bytes()
    assert main([str(tmp_path), "-o", str(tmp_path)]) == 78
    assert (tmp_path / "final.pt").read_bytes() == before


def test_integers_without_scales(tmp_path: Path) -> None:
    ours = trainer(tmp_path, {"output_size": 64})
    ours.save()
    weights = compact(ours.average)
    del weights[next(name for name in weights if name.endswith(SCALE))]
    torch.save(weights, tmp_path / "final.pt")
    with pytest.raises(ConfigError, match="scales"):
        load_checkpoint(tmp_path)
