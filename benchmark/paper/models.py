"""Random checkpoints of the sizes of the U2++ MoE paper, to measure speed with.

Speed does not depend on what the weights say, but for one thing: where routers send frames. So
the routers are centred (see ``benchmark.paper.routing``), and what they do is measured and written
next to the weights. A checkpoint has WeNet's layout and WeNet's names, and both toolkits load it.
"""

from __future__ import annotations

import argparse
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmark.paper.floors import FACTS, ROUTING
from benchmark.paper.routing import centre_routers, measure_routing
from benchmark.paper.workload import FEATURE_DEVIATION, FEATURE_MEAN, SOS
from edge_asr.errors import UsageError
from edge_asr.exits import errors_as_lines
from model.config import network_config
from model.network import Network
from model.tokenizer import write_units

BLANK = 0
_CMVN_FRAMES = 1000
# Random attention gives every frame the same mean of all: at full strength, frames of a chunk
# would be alike past a few layers, and go to the same experts.
_ATTENTION_GAIN = 0.3
# Far above what other units get. Units at random would differ between any two programs, each of
# which rounds in its own way; so the exporter's comparison of texts would be of noise.
_BLANK_BIAS = 20.0


@dataclass(frozen=True)
class Size:
    """What distinguishes the models; ``n_expert`` 0 is dense."""

    name: str
    dim: int
    hidden: int
    heads: int
    n_expert: int = 0
    n_expert_activated: int = 0
    blocks: int = 12
    decoder_blocks: int = 3
    kernel: int = 15
    vocab_size: int = 5538


_TINY = {"blocks": 2, "decoder_blocks": 1, "kernel": 5, "vocab_size": 40}
SCALES: dict[str, tuple[Size, ...]] = {
    "paper": (
        Size("dense-225m", 768, 2560, 12),
        Size("moe-1b", 768, 2560, 12, n_expert=8, n_expert_activated=2),
        Size("dense-1b", 1600, 6400, 25),
    ),
    "tiny": (
        Size("dense-225m", 64, 96, 4, **_TINY),
        Size("moe-1b", 64, 96, 4, n_expert=8, n_expert_activated=2, **_TINY),
        Size("dense-1b", 128, 192, 8, **_TINY),
    ),
}


def size_of(scale: str, name: str) -> Size:
    """The size of a model.

    Raises:
        UsageError: no such scale or model.
    """
    if scale not in SCALES:
        raise UsageError(f"scale {scale!r} is unknown; choose one of: {', '.join(SCALES)}")
    for size in SCALES[scale]:
        if size.name == name:
            return size
    names = ", ".join(size.name for size in SCALES[scale])
    raise UsageError(f"model {name!r} is unknown; choose from: {names}")


def config_tree(size: Size) -> dict[str, Any]:
    """The train.yaml of a model, as WeNet writes it."""
    experts: dict[str, Any] = {"mlp_type": "moe", "n_expert": size.n_expert,
               "n_expert_activated": size.n_expert_activated}  # fmt: skip
    stack: dict[str, Any] = {"attention_heads": size.heads, "linear_units": size.hidden}
    stack |= experts if size.n_expert else {}
    return {
        "input_dim": 80,
        "output_dim": size.vocab_size,
        "vocab_size": size.vocab_size,
        "encoder": "conformer",
        "encoder_conf": stack | {
            "output_size": size.dim, "num_blocks": size.blocks, "input_layer": "conv2d",
            "pos_enc_layer_type": "rel_pos", "selfattention_layer_type": "rel_selfattn",
            "normalize_before": True, "activation_type": "swish", "macaron_style": True,
            "use_cnn_module": True, "cnn_module_kernel": size.kernel, "causal": True,
            "cnn_module_norm": "layer_norm", "use_dynamic_chunk": True,
            "use_dynamic_left_chunk": False,
        },
        "decoder": "bitransformer",
        "decoder_conf": stack | {
            "num_blocks": size.decoder_blocks, "r_num_blocks": size.decoder_blocks,
        },
        "ctc": "ctc",
        "ctc_conf": {"ctc_blank_id": BLANK},
        "cmvn": "global_cmvn",
        "cmvn_conf": {"cmvn_file": "global_cmvn", "is_json_cmvn": True},
        "model": "asr_model",
        "model_conf": {"ctc_weight": 0.3, "reverse_weight": 0.3, "lsm_weight": 0.1,
                       "length_normalized_loss": False},
        "tokenizer": "char",
        "tokenizer_conf": {
            "special_tokens": {"<blank>": BLANK, "<unk>": 1, "<sos>": SOS, "<eos>": SOS},
        },
        "dataset_conf": {
            "resample_conf": {"resample_rate": 16000},
            "fbank_conf": {"num_mel_bins": 80, "frame_shift": 10, "frame_length": 25,
                           "dither": 0.0},
        },
    }  # fmt: skip


def random_weights(size: Size, seed: int) -> dict[str, Tensor]:
    """A state_dict in float16 that keeps every activation near a deviation of 1.

    float16 is half the file; both toolkits compute from it in float32.
    """
    with torch.device("meta"):
        shapes = Network(network_config(config_tree(size), size.name)).state_dict()
    return {name: _random(name, shape.shape, seed) for name, shape in shapes.items()}


def _random(name: str, shape: torch.Size, seed: int) -> Tensor:
    if "cmvn" in name:
        return torch.full(shape, FEATURE_MEAN if "mean" in name else 1 / FEATURE_DEVIATION)
    # Each tensor has its own seed, so that none depends on the order of the others. (The generator
    # takes 32 bits of it.)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    values = torch.empty(shape).normal_(generator=generator)
    if "norm" in name:
        values = values.mul_(0.05).add_(1.0 if name.endswith("weight") else 0.0)
    elif name.endswith(".bias") or "pos_bias" in name:
        values.mul_(0.05)
    else:
        fan_in = shape[-1] if "embed.0" in name and len(shape) == 2 else values[0].numel()
        mixes = name.startswith("encoder.") and name.endswith("self_attn.linear_out.weight")
        values.mul_((_ATTENTION_GAIN if mixes else 1.0) * fan_in**-0.5)
    if name == "ctc.ctc_lo.bias":
        values[BLANK] = _BLANK_BIAS
    return values.half()


def write_model(size: Size, folder: Path, seed: int = 0) -> None:
    """Write the checkpoint of a model and its routing; nothing is left where it fails."""
    staging = folder.with_name(folder.name + ".part")
    staging.mkdir(parents=True, exist_ok=True)
    tree = config_tree(size)
    (staging / "train.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    symbols = ["<blank>", "<unk>", "<sos/eos>"]
    symbols += [chr(0x4E00 + index) for index in range(size.vocab_size - len(symbols))]
    write_units(symbols, staging / "units.txt")
    (staging / "global_cmvn").write_text(json.dumps(_cmvn_statistics()), encoding="utf-8")
    weights = random_weights(size, seed)
    torch.save(weights, staging / "final.pt")
    facts = {"parameters": sum(tensor.numel() for tensor in weights.values())}
    (staging / FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")
    del weights
    if size.n_expert:
        _route(staging, seed)
    staging.rename(folder)


def _route(folder: Path, seed: int) -> None:
    network = _load(folder)
    gates = centre_routers(network, seed)
    weights = torch.load(folder / "final.pt", mmap=True, weights_only=True)
    weights |= {name: gate.half() for name, gate in gates.items()}
    torch.save(weights, folder / "final.pt.part")
    del weights
    (folder / "final.pt.part").rename(folder / "final.pt")
    routing = measure_routing(network)
    (folder / ROUTING).write_text(json.dumps(routing, indent=1) + "\n", encoding="utf-8")


def _load(folder: Path) -> Network:
    """The network in float32, with one copy of its weights in memory at any time.

    ``load_checkpoint`` holds three for a while, which is 12 GB for the largest models.
    """
    tree = yaml.safe_load((folder / "train.yaml").read_text(encoding="utf-8"))
    with torch.device("meta"):
        network = Network(network_config(tree, str(folder)))
    stored = torch.load(folder / "final.pt", mmap=True, weights_only=True)
    weights = {name: tensor.float() for name, tensor in stored.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def _cmvn_statistics() -> dict[str, Any]:
    mean, square = FEATURE_MEAN, FEATURE_DEVIATION**2 + FEATURE_MEAN**2
    return {
        "mean_stat": [mean * _CMVN_FRAMES] * 80,
        "var_stat": [square * _CMVN_FRAMES] * 80,
        "frame_num": _CMVN_FRAMES,
    }


@errors_as_lines("benchmark.paper.models")
def main(arguments: list[str] | None = None) -> int:
    """Write the models that a folder lacks; prints the folder of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.paper.models", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/paper"), help="default: out/paper")
    parser.add_argument("--scale", default="paper", help=f"one of {', '.join(SCALES)}")
    parser.add_argument("--models", help="names with a comma (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    names = options.models.split(",") if options.models else None
    sizes = [size_of(options.scale, name) for name in names] if names else None
    for size in sizes or SCALES.get(options.scale) or [size_of(options.scale, "")]:
        folder = options.work / size.name
        if not folder.exists():
            write_model(size, folder, options.seed)
        print(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
