"""What rounding does to a network: each rounded layer and expert compared with the float one's, on
the float network's own rows, and the texts of clips.

A program equals its quantized network; whether that is still the network that was trained is asked
here, so that too coarse integers are not taken for a wrong program, nor the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jiwer
import numpy as np
import torch
from torch import Tensor, nn

from edge_asr.backends import FloatArray
from edge_asr.package.manifest import EncoderSpec
from export.parity import ParityError
from model.feed_forward import MoeFeedForward
from model.masks import chunk_mask
from model.network import Network
from quant.convolution import QuantConv2d
from quant.linear import QuantLinear
from quant.linear4 import QuantLinear4

# Of what a layer gives, relative to its size. Rows of normal numbers lose 0.8 % to 255 steps,
# weights about as much, and int4 weights 10 %; a channel that is much larger than the others takes
# the steps from them.
NOTABLE = {"int8": 0.05, "int4": 0.25}
LARGEST = {"int8": 0.25, "int4": 0.5}
FEWEST_ROWS = 4  # of an expert; one that is chosen less often is run on all rows of its layer
_ROUNDED = (QuantLinear, QuantLinear4, QuantConv2d)
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Words:
    """Texts of clips, as the rounded network and the float one hear them."""

    ours: list[str]
    floats: list[str]
    said: list[str]

    def row(self) -> dict[str, Any]:
        """The entry of parity.json; word error rates in percent."""
        equal = sum(map(str.__eq__, self.ours, self.floats))
        row: dict[str, Any] = {"texts": len(self.ours), "texts_equal_to_float": equal}
        if any(self.said):
            row |= {
                "word_errors": self._rate(self.ours),
                "float_word_errors": self._rate(self.floats),
            }
        return row

    def _rate(self, heard: list[str]) -> float:
        pairs = [(said, text) for said, text in zip(self.said, heard, strict=True) if said.strip()]
        said, text = ([one.lower() for one in each] for each in zip(*pairs, strict=True))
        return round(100 * float(jiwer.wer(list(said), list(text))), 1)


@dataclass(frozen=True)
class Rounding:
    """Relative errors of the rounded layers, and of the experts, by name."""

    precision: str
    layers: dict[str, float]
    experts: dict[str, float]
    words: Words

    def row(self) -> dict[str, Any]:
        """The entry of parity.json."""
        row: dict[str, Any] = {"by_layer": {name: round(e, 4) for name, e in self.layers.items()}}
        if self.experts:
            values = list(self.experts.values())
            row["by_expert"] = {
                f"{q:.0%}": round(float(np.quantile(values, q)), 4) for q in _QUANTILES
            } | {"largest": max(self.experts, key=self.experts.__getitem__)}
        return row | self.words.row()

    def notable(self) -> str | None:
        """What to say of layers that lose much, or None."""
        limit = NOTABLE[self.precision]
        coarse = {name: e for name, e in (self.layers | self.experts).items() if not e <= limit}
        if not coarse:
            return None
        worst = max(coarse, key=coarse.__getitem__)
        return (
            f"{self.precision}: rounding changes what {len(coarse)} layers give by more than "
            f"{limit:.0%}, {worst} by {coarse[worst]:.0%}: some of their channels are much larger "
            "than the others"
        )

    def refuse(self) -> None:
        """Raise ParityError where integers are too coarse for a layer."""
        errors = self.layers | self.experts
        # NaN is largest.
        worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
        if not errors[worst] <= LARGEST[self.precision]:
            raise ParityError(
                f"{self.precision}: rounding, not a program, changes what {worst} gives by "
                f"{errors[worst]:.0%}, allowed {LARGEST[self.precision]:.0%}: the integers are too "
                "coarse for this checkpoint; export it with --precision fp32"
            )

    def __str__(self) -> str:
        """For who waits for the export."""
        row = self.words.row()
        errors = list((self.layers | self.experts).values())
        line = (
            f"rounding changes a layer by {np.median(errors):.1%} in the median, {max(errors):.1%} "
            f"at most; {row['texts_equal_to_float']} of {row['texts']} texts are those of float32"
        )
        if "word_errors" in row:
            line += f", word errors {row['word_errors']} % and {row['float_word_errors']} %"
        return line


def measure_rounding(
    network: Network,
    float_network: Network,
    frames: FloatArray,
    words: Words,
    spec: EncoderSpec,
    precision: str,
) -> Rounding:
    """Compare the layers of two networks on chains (N, T, F) of feature frames."""
    read = _what_layers_read(float_network, frames, spec)
    ours = dict(network.named_modules())
    layers: dict[str, float] = {}
    experts: dict[str, float] = {}
    with torch.inference_mode():
        for name, (module, x) in read.items():
            if isinstance(module, MoeFeedForward):
                rows = x.reshape(-1, x.size(-1))
                _, chosen = module.route(rows)
                for index, expert in enumerate(module.experts):
                    own = rows[(chosen == index).any(1)]
                    own = rows if len(own) < FEWEST_ROWS else own
                    label = f"{name}.experts.{index}"
                    experts[label] = _error(ours[label], expert, own)
            elif ".experts." not in name:
                layers[name] = _error(ours[name], module, x)
    return Rounding(precision, layers, experts, words)


def _what_layers_read(
    network: Network, frames: FloatArray, spec: EncoderSpec
) -> dict[str, tuple[nn.Module, Tensor]]:
    """The layers that rounding changes, and the expert layers, with what each reads."""
    read: dict[str, tuple[nn.Module, Tensor]] = {}
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, MoeFeedForward)

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def see(_: nn.Module, inputs: tuple[Tensor]) -> None:
            read[name] = module, inputs[0]

        return module.register_forward_pre_hook(see)

    handles = [watch(n, m) for n, m in network.named_modules() if isinstance(m, kinds)]
    count = 1 + (frames.shape[1] - spec.input_frames(1)) // spec.subsampling_rate
    state = network.encoder.zero_state(0, len(frames))
    mask = chunk_mask(count, 1, spec.left_context)
    try:
        with torch.inference_mode():
            out, _ = network.encoder(torch.from_numpy(frames), torch.tensor([0]), state, mask)
            network.ctc(out)
    finally:
        for handle in handles:
            handle.remove()
    return read


def _error(rounded: nn.Module, plain: nn.Module, x: Tensor) -> float:
    """Of what a layer gives, relative to its size."""
    wanted = plain(x)
    return float((rounded(x) - wanted).norm() / wanted.norm().clamp(min=1e-12))
