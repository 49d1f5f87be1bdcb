"""A checkpoint at half its size: ``python -m model.compact CHECKPOINT -o FOLDER``.

Large weights become int8 with one scale per output channel, as ``quant`` rounds them when it makes
int8 programs; the rest becomes float16. Made of a checkpoint in float16, such programs are the same
from either. ``model.checkpoint`` reads both; programs in float32 see the rounded weights.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from torch import Tensor, nn

from edge_asr.errors import ConfigError
from edge_asr.exits import errors_as_lines
from model.checkpoint import SCALE, load_checkpoint, save_weights
from model.quantizable import quantizable

SMALLEST = 4096  # weights with fewer elements stay as they are
LARGEST = 127


def compact(network: nn.Module) -> dict[str, Tensor]:
    """The state_dict of ``network`` with int8 tensors where int8 programs have them, each followed
    by its scales (O,) float32; the rest float16, statistics as they were."""
    found: dict[str, Tensor] = {}
    rounded = {f"{name}.weight" for name, _ in quantizable(network)}
    for name, tensor in network.state_dict().items():
        if name not in rounded or tensor.numel() < SMALLEST:
            keep = "cmvn" in name or not tensor.is_floating_point()
            found[name] = tensor if keep else tensor.half()
            continue
        rows = tensor.float().flatten(1)
        scale = (rows.abs().amax(dim=1) / LARGEST).clamp(min=1e-12)
        found[name] = (rows / scale.unsqueeze(1)).round().char().reshape(tensor.shape)
        found[name + SCALE] = scale
    return found


@errors_as_lines("model.compact")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.compact", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the smaller one")
    options = parser.parse_args(arguments)
    if options.out.resolve() == options.checkpoint.resolve():
        raise ConfigError(f"{options.out}: is the checkpoint itself; name another folder")
    checkpoint = load_checkpoint(options.checkpoint)
    options.out.mkdir(parents=True, exist_ok=True)
    save_weights(compact(checkpoint.network), options.out / "final.pt")
    for name in ("train.yaml", "units.txt"):
        shutil.copy(options.checkpoint / name, options.out / name)
    size = (options.out / "final.pt").stat().st_size
    print(f"{options.out / 'final.pt'}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
