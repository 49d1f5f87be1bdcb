"""Native dispatch: the blocks of the network as operators on one shared file of weights.

The operators are the same in every backend, so the lowerings are too: a program whose layers were
replaced here is lowered like any other. What is left of the encoder between its blocks, and the
decoders' attention, stay stock operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.onnx import symbolic_helper

from edge_asr.native.library import (
    NativeWeights,
    library,
    library_path,
    operator_counts,
    output_shapes,
    share_weights,
    weights_id,
)
from export.native_weights import (
    Residual,
    WeightsFile,
    WeightsWriter,
    is_native_subsampling,
)
from export.program import MASKED, Scorer, with_replaced
from model.attention import merge_heads, split_heads
from model.decoder import DecoderLayer
from model.encoder import Encoder, EncoderLayer, EncoderState, with_positions
from model.feed_forward import FeedForward, MoeFeedForward
from quant.linear import QuantLinear

# operator -> the names of its inputs beside the two numbers
OPERATORS: dict[str, tuple[str, ...]] = {
    "linear": ("x",),
    "moe_ffn": ("x",),
    "subsampling": ("x",),
    "attention": ("x", "positions", "hidden", "key", "value", "score"),
    "convolution": ("x", "past"),
}
DOMAIN = "edge_asr"


@dataclass(frozen=True)
class PackedProgram:
    """A program on native operators, and the file of weights that it names."""

    program: nn.Module
    file: WeightsFile
    native_ops: tuple[str, ...]


class NativeLayer(nn.Module):
    """One layer of a file of weights."""

    def __init__(self, operator: str, layer: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.operator = operator
        self.weights = 0  # until the whole file is known
        self.layer = layer
        self.register_buffer("bias", bias)  # the convolution module pads with what it gives

    def forward(self, *inputs: Tensor) -> Any:
        """See edge_asr/native/src/blocks.h."""
        operator = getattr(torch.ops.edge_asr, self.operator)
        return operator(*inputs, self.weights, self.layer)


class NativeEncoderLayer(nn.Module):
    """An ``EncoderLayer`` of four blocks and a norm."""

    def __init__(self, layer: EncoderLayer, slot: int, writer: WeightsWriter) -> None:
        super().__init__()

        def block(name: str, module: nn.Module, norm: nn.LayerNorm, factor: float) -> NativeLayer:
            return NativeLayer(name, writer.add(module, Residual(norm, factor, slot)))

        self.feed_forward_macaron = block(
            "moe_ffn", layer.feed_forward_macaron, layer.norm_ff_macaron, 0.5
        )
        self.attention = block("attention", layer.self_attn, layer.norm_mha, 1.0)
        self.convolution = block("convolution", layer.conv_module, layer.norm_conv, 1.0)
        self.feed_forward = block("moe_ffn", layer.feed_forward, layer.norm_ff, 0.5)
        self.norm = layer.norm_final

    def forward(
        self, x: Tensor, positions: Tensor, hidden: Tensor, state: EncoderState
    ) -> tuple[Tensor, ...]:
        """x (1, T', D) and the state of all layers to the output and this layer's state (1, ...)
        after it."""
        key, value, score, past = state
        x = self.feed_forward_macaron(x)
        x, key, value, score = self.attention(x, positions, hidden, key, value, score)
        x, past = self.convolution(x, past)
        return self.norm(self.feed_forward(x)), key, value, score, past


class NativeEncoder(nn.Module):
    """An ``Encoder`` of native blocks."""

    def __init__(self, encoder: Encoder, writer: WeightsWriter) -> None:
        super().__init__()
        self.conf = encoder.conf
        self.global_cmvn = encoder.global_cmvn
        self.embed: nn.Module
        if is_native_subsampling(encoder.embed):
            self.embed = NativeLayer("subsampling", writer.add(encoder.embed))
        else:
            self.embed = with_replaced(encoder.embed, layer_table(writer))
        self.layers = nn.ModuleList(
            NativeEncoderLayer(layer, slot, writer)
            for slot, layer in enumerate(encoder.encoders)
            if isinstance(layer, EncoderLayer)
        )
        self.after_norm = encoder.after_norm

    def step(
        self, feats: Tensor, offset: Tensor, state: EncoderState
    ) -> tuple[Tensor, EncoderState]:
        """See ``Encoder.step``."""
        x, positions = with_positions(self.embed(self.global_cmvn(feats)), offset, self.conf)
        left = state.key.size(3)
        hidden = (left - offset).clamp(0, left).float()
        layers = []
        for layer in self.layers:
            x, *after = layer(x, positions, hidden, state)
            layers.append(after)
        parts = [torch.cat(part) for part in zip(*layers, strict=True)]
        return self.after_norm(x), EncoderState(*parts)


class NativeScorer(nn.Module):
    """A ``Scorer`` on native layers: one product for what reads the same rows, and the
    feed-forward blocks with their norms and residuals."""

    def __init__(self, scorer: Scorer, writer: WeightsWriter) -> None:
        super().__init__()
        decoder = scorer.decoder
        self.embed = decoder.embed
        self.layers = nn.ModuleList(
            NativeDecoderLayer(layer, writer)
            for layer in decoder.decoders
            if isinstance(layer, DecoderLayer)
        )
        self.after_norm = decoder.after_norm
        self.output = NativeLayer("linear", writer.add(decoder.output_layer))

    def forward(self, tokens: Tensor, targets: Tensor, memory: Tensor) -> Tensor:
        """See ``Scorer``."""
        places = torch.arange(tokens.size(1))
        x = self.embed(tokens)
        # Added to the scores: a unit sees only what is before it.
        later = (places > places.unsqueeze(1)).float() * MASKED
        for layer in self.layers:
            x = layer(x, memory, later)
        logits = self.output(self.after_norm(x))
        # The logarithm of the sum by hand: ONNX Runtime's own takes three times as long.
        logits = logits - logits.amax(2, keepdim=True)
        chosen = logits.gather(2, targets.unsqueeze(2)).squeeze(2)
        return chosen - logits.exp().sum(2).log()


class NativeDecoderLayer(nn.Module):
    """A ``DecoderLayer`` without masks of padding: what is behind a hypothesis is not scored."""

    def __init__(self, layer: DecoderLayer, writer: WeightsWriter) -> None:
        super().__init__()
        own, other = layer.self_attn, layer.src_attn
        self.heads = own.heads
        self.own = _linears(writer, own.linear_q, own.linear_k, own.linear_v)
        self.own_out = _linears(writer, own.linear_out)
        self.query = _linears(writer, other.linear_q)
        self.memory = _linears(writer, other.linear_k, other.linear_v)
        self.other_out = _linears(writer, other.linear_out)
        block = writer.add(layer.feed_forward, Residual(layer.norm3, 1.0))
        self.feed_forward = NativeLayer("moe_ffn", block)
        self.norm1, self.norm2 = layer.norm1, layer.norm2

    def forward(self, x: Tensor, memory: Tensor, later: Tensor) -> Tensor:
        """x (N, U, D) over memory (1, T', D) to (N, U, D)."""
        dim = x.size(2)
        own = self.own(self.norm1(x))
        q, k, v = (split_heads(part, self.heads) for part in own.split(dim, 2))
        x = x + self.own_out(merge_heads(self.attend(q, k, later) @ v))
        rows = self.query(self.norm2(x).reshape(1, -1, dim))
        k, v = (split_heads(part, self.heads) for part in self.memory(memory).split(dim, 2))
        attended = merge_heads(self.attend(split_heads(rows, self.heads), k, None) @ v)
        return self.feed_forward(x + self.other_out(attended).reshape(x.shape))

    def attend(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
        """Weights (B, H, T, S) of queries (B, H, T, d) on keys (B, H, S, d)."""
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
        return torch.softmax(scores if bias is None else scores + bias, dim=-1)


def _linears(writer: WeightsWriter, *layers: nn.Module) -> NativeLayer:
    return NativeLayer("linear", writer.add_linears(layers))


def layer_table(writer: WeightsWriter) -> dict[type, Callable[..., nn.Module]]:
    """What ``with_replaced`` puts in the place of layers outside the encoder's blocks."""

    def layer(module: nn.Module) -> NativeLayer:
        name = "linear" if isinstance(module, QuantLinear) else "moe_ffn"
        return NativeLayer(name, writer.add(module), getattr(module, "bias", None))

    return {QuantLinear: layer, FeedForward: layer, MoeFeedForward: layer}


def pack(program: nn.Module) -> PackedProgram:
    """The quantized program with its layers moved into a file of weights. Nothing of ours needs to
    be built, until it is run."""
    writer = WeightsWriter()
    placed = with_replaced(
        program,
        {
            Encoder: lambda encoder: NativeEncoder(encoder, writer),
            Scorer: lambda scorer: NativeScorer(scorer, writer),
        }
        | layer_table(writer),
    )
    file = writer.finish()
    layers = [module for module in placed.modules() if isinstance(module, NativeLayer)]
    for layer in layers:
        layer.weights = weights_id(file.sha256)
    used = sorted({layer.operator for layer in layers})
    return PackedProgram(placed, file, tuple(f"{DOMAIN}::{name}" for name in used))


def load(packed: PackedProgram) -> NativeWeights:
    """Its weights in memory, and its operators known to torch: what tracing and running it need.

    Raises:
        BackendError: the native libraries are not built.
    """
    define_operators()
    file = packed.file

    def read(memory: memoryview) -> None:
        memory[:] = file.data

    return share_weights(weights_id(file.sha256), len(file.data), read)


def on_native(program: nn.Module) -> bool:
    """Whether the program has native layers."""
    return any(isinstance(module, NativeLayer) for module in program.modules())


_defined = False


def define_operators() -> None:
    """Make torch and its exporters know the operators; once in a process.

    Raises:
        BackendError: the native libraries are not built.
    """
    global _defined
    if _defined:
        return
    library()
    torch.ops.load_library(str(library_path("torch")))
    for name, inputs in OPERATORS.items():
        outputs = operator_counts(name)[1]
        torch.library.register_fake(f"{DOMAIN}::{name}", _shapes(name, outputs))
        # What ExecuTorch calls: the same, into memory that it has planned.
        given = ", ".join(f"Tensor {one}" for one in inputs)
        taken = ", ".join(f"Tensor({chr(97 + i)}!) out{i}" for i in range(outputs))
        results = ", ".join(f"Tensor({chr(97 + i)}!)" for i in range(outputs))
        torch.library.define(
            f"{DOMAIN}::{name}.out",
            f"({given}, int weights, int layer, *, {taken}) -> "
            + (results if outputs == 1 else f"({results})"),
        )
        torch.onnx.register_custom_op_symbolic(
            f"{DOMAIN}::{name}", _symbolic(name, len(inputs), outputs), 1
        )
    _defined = True


def _shapes(name: str, outputs: int) -> Callable[..., Any]:
    """The operator on tensors without data, whose sizes may be symbols."""

    def shapes(*arguments: Any) -> Any:
        *inputs, weights, layer = arguments
        x = inputs[0]
        if outputs > 1:  # blocks with a state: all layers' comes in, their own goes out
            states = [one.new_empty(1, *one.shape[1:]) for one in inputs[1 - outputs :]]
            return x.new_empty(x.shape), *states
        if name == "subsampling":
            width = _width(weights, layer, (1, 7, x.size(2)))
            return x.new_empty(1, ((x.size(1) - 1) // 2 - 1) // 2, width)
        return x.new_empty(*x.shape[:-1], _width(weights, layer, (1, x.size(-1))))

    return shapes


def _width(weights: int, layer: int, shape: tuple[int, ...]) -> int:
    return output_shapes(weights, layer, [shape], 1)[0][-1]


def _symbolic(name: str, inputs: int, outputs: int) -> Any:
    def symbolic(g: Any, *arguments: Any) -> Any:
        # The tracer gives numbers as constant nodes.
        weights, layer = (
            symbolic_helper._get_const(number, "i", "number") for number in arguments[inputs:]
        )
        given = arguments[:inputs]
        out = g.op(f"{DOMAIN}::{name}", *given, weights_i=weights, layer_i=layer, outputs=outputs)
        # The exporter does not know what these operators give.
        if outputs > 1:
            out[0].setType(given[0].type())
            for one, state in zip(out[1:], given[1 - outputs :], strict=True):
                one.setType(state.type().with_sizes([1, *state.type().sizes()[1:]]))
        elif name != "subsampling" and (sizes := given[0].type().sizes()) is not None:
            width = _width(weights, layer, (1, sizes[-1]))
            out.setType(given[0].type().with_sizes([*sizes[:-1], width]))
        return out

    return symbolic
