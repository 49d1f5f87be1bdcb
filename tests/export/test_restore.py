"""export.restore: from a package back to the checkpoint that it was made of, as rounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from export.__main__ import main as export
from export.restore import main
from model.checkpoint import load_checkpoint, save_checkpoint
from quant.checkpoint import quantize, quantized_layers
from quant.convolution import QuantConv2d
from quant.linear import QuantLinear
from tests.model.networks import SYMBOLS, network, tree

DENSE = {"input_layer": "conv2d6", "mlp_type": "position_wise_feed_forward"}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "experts": ({}, {}),
    "dense": (DENSE, {"decoder": "transformer"}),
}


def checkpoint_of(kind: str, folder: Path) -> Path:
    encoder, changes = KINDS[kind]
    made = network(encoder, **changes)
    save_checkpoint(made, SYMBOLS, tree(encoder, **changes), folder / kind, torch.float32)
    return folder / kind


def package_of(checkpoint: Path, folder: Path, *options: str) -> Path:
    command = [str(checkpoint), "-o", str(folder / "package"), "--backends", "onnx", *options]
    assert export(command) == 0
    return folder / "package"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_back_is_what_the_programs_compute_with(kind: str, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(kind, tmp_path)
    package = package_of(checkpoint, tmp_path)
    recipe = checkpoint / "train.yaml"
    assert main([str(package), str(recipe), "-o", str(tmp_path / "back")]) == 0
    back, origin = load_checkpoint(tmp_path / "back"), load_checkpoint(checkpoint)
    assert back.symbols == origin.symbols and back.conf == origin.conf
    rounded = quantize(origin, "int8").network
    expected = origin.network.state_dict()
    for layer_name, layer in quantized_layers(rounded):
        assert isinstance(layer, QuantLinear)
        stem = layer_name.removesuffix(".window")
        weight = layer.dequantized()
        if isinstance(owner := rounded.get_submodule(stem), QuantConv2d):
            side = owner.kernel
            weight = weight.reshape(len(weight), side, side, -1).permute(0, 3, 1, 2)
        expected[f"{stem}.weight"] = weight.reshape(expected[f"{stem}.weight"].shape)
    for key, tensor in back.network.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], atol=0, rtol=0, msg=key)
    # And from there the same integers.
    again = dict(quantized_layers(quantize(back, "int8").network))
    for layer_name, layer in quantized_layers(rounded):
        assert torch.equal(again[layer_name].weight, layer.weight), layer_name


@pytest.mark.slow
def test_what_cannot_be_restored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = checkpoint_of("experts", tmp_path)
    package, out = str(package_of(checkpoint, tmp_path)), str(tmp_path / "back")
    conf = yaml.safe_load((checkpoint / "train.yaml").read_text())

    def refused(**encoder: Any) -> str:
        path = tmp_path / "other.yaml"
        path.write_text(yaml.safe_dump(conf | {"encoder_conf": conf["encoder_conf"] | encoder}))
        assert main([package, str(path), "-o", out]) == 78
        return capsys.readouterr().err

    assert "not the network" in refused(num_blocks=3)
    assert "not the network" in refused(output_size=16)
    assert "batch_norm" in refused(cnn_module_norm="batch_norm")
    assert "of frames" in refused(num_blocks=1)  # all that it asks for is there, and not enough

    float_package = package_of(checkpoint, tmp_path / "float", "--precision", "fp32")
    assert main([str(float_package), str(checkpoint / "train.yaml"), "-o", out]) == 78
    assert "no encoder program for onnx int8" in capsys.readouterr().err
    assert not Path(out).exists()
