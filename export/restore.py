"""A checkpoint out of a package: ``python -m export.restore PACKAGE RECIPE.yaml -o FOLDER``.

For a package whose checkpoint was not kept. Its portable int8 programs for ONNX Runtime name their
tensors as the network does, so the weights come back as the numbers that the programs compute with:
int8 programs made of this checkpoint hold the same integers. Which network it is the recipe says.
The result must agree with the package's golden output.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from edge_asr.audio.features import fbank
from edge_asr.errors import ConfigError
from edge_asr.exits import errors_as_lines
from edge_asr.package.files import Package, open_package
from edge_asr.package.manifest import Role
from model.checkpoint import save_checkpoint
from model.config import network_config
from model.network import Network
from model.recipe import read_recipe

AGREEING = 0.95  # of the golden frames, in the best unit: rounding decides where two are close
_EXPERT = re.compile(r"(.+)\.experts\.(\d+)\.(w_[12])\.(weight|bias)")
_BLOCK = re.compile(r"encoder\.encoders\.(\d+)\.self_attn\.pos_bias_([uv])")


def read_tensors(package: Package, role: Role) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The tensors of a portable int8 program, by name, and those whose name the exporter lost, in
    the order in which they are needed.

    Raises:
        PackageError: the package has no such program, or it is damaged.
    """
    program = package.program(role, "onnx", "int8", "portable")
    graph = onnx.load_model_from_string(package.read_program(program)).graph
    named: dict[str, Tensor] = {}
    nameless: list[Tensor] = []
    for initializer in graph.initializer:
        tensor = torch.from_numpy(numpy_helper.to_array(initializer).copy())
        if initializer.name.startswith("onnx::"):
            nameless.append(tensor)
        else:
            named[initializer.name] = tensor
    return named, nameless


def restored(
    network: Network, named: Mapping[str, Tensor], nameless: Sequence[Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The state of ``network``, tensor by tensor, in float32.

    Raises:
        KeyError, IndexError, RuntimeError: the programs are of another network.
    """

    def rows(name: str, scale: Tensor) -> Tensor:
        """(I, O) of integers as (O, I)."""
        return (named[name].float() * scale).t()

    for key, tensor in network.state_dict().items():
        # The programs of the second pass hold each direction's decoder apart.
        name = re.sub(r"^decoder\.(?:(left|right)_decoder\.)?", _direction, key)
        stem = name.removesuffix(".weight")
        if match := _EXPERT.fullmatch(name):
            layer, number, linear, kind = match.groups()
            if kind == "weight":
                scale = named[f"{layer}.{linear}_scale"][int(number)]
                found = rows(f"{layer}.{linear}_{number}", scale)
            else:
                found = named[f"{layer}.{linear}_bias"][int(number)]
        elif name.endswith(".gate.weight"):
            found = named[stem].t()
        elif match := _BLOCK.fullmatch(name):
            found = nameless[2 * int(match[1]) + "uv".index(match[2])]
        elif f"{stem}.window.weight" in named:  # a convolution as a linear layer over windows
            windows = rows(f"{stem}.window.weight", named[f"{stem}.window.scale"])
            out, channels, height, width = tensor.shape
            found = windows.reshape(out, height, width, channels).permute(0, 3, 1, 2)
        elif name.endswith(".bias") and name not in named:
            found = named[f"{name.removesuffix('.bias')}.window.bias"]
        elif f"{stem}.scale" in named:
            found = rows(name, named[f"{stem}.scale"])
        else:
            found = named[name]
        yield key, found.float().reshape(tensor.shape)


def _direction(found: re.Match[str]) -> str:
    return f"{found[1] or 'left'}.decoder."


def restore(package: Package, recipe: Path, out: Path) -> float:
    """Write the checkpoint; returns the part of the golden frames in which it has the same best
    unit.

    Raises:
        PackageError: the package lacks a program or is damaged.
        ConfigError: the recipe is of another network, or of one with batch_norm.
    """
    symbols = list(package.units.symbols)
    tree = {name: value for name, value in read_recipe(recipe).items() if name != "train"}
    tree |= {"vocab_size": len(symbols), "output_dim": len(symbols)}
    conf = network_config(tree, str(recipe))
    if conf.conv_norm == "batch_norm":
        raise ConfigError(
            f"{recipe}: cnn_module_norm is batch_norm, which programs hold inside a convolution; "
            "only networks with layer_norm can be restored"
        )
    network = Network(conf).eval()
    named, nameless = read_tensors(package, "encoder")
    named |= read_tensors(package, "decoder")[0]
    try:
        network.load_state_dict(dict(restored(network, named, nameless)))
    except (KeyError, IndexError, RuntimeError) as error:
        raise ConfigError(
            f"{recipe}: not the network of {package.root} ({str(error).splitlines()[0]}); name the "
            "recipe that it was trained with"
        ) from error
    agreement = _agreement(network, package)
    if agreement < AGREEING:
        raise ConfigError(
            f"{recipe}: its network says what {package.root} says in {agreement:.0%} of frames; "
            "name the recipe that it was trained with"
        )
    save_checkpoint(network, symbols, tree, out, torch.float32)
    return agreement


@torch.inference_mode()
def _agreement(network: Network, package: Package) -> float:
    golden, spec = package.golden(), package.manifest.encoder
    frames = torch.from_numpy(fbank(golden["samples"], package.manifest.features)).unsqueeze(0)
    size = torch.tensor([frames.size(1)])
    out, _ = network.whole(frames, size, spec.default_chunk, spec.left_context)
    ours = network.ctc(out)[0].argmax(dim=-1).numpy()
    theirs = golden["log_probs_int8"].argmax(axis=-1)  # with the frames that flush adds
    count = min(len(ours), len(theirs))
    return float(np.mean(ours[:count] == theirs[:count]))


@errors_as_lines("export.restore")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m export.restore", description=__doc__)
    parser.add_argument("package", type=Path, help="the package's directory")
    parser.add_argument("recipe", type=Path, help="the recipe that it was trained with")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the checkpoint")
    options = parser.parse_args(arguments)
    package = open_package(options.package)
    package.check_files()
    agreement = restore(package, options.recipe, options.out)
    print(f"{options.out}: a checkpoint that agrees in {agreement:.1%} of the golden frames")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
