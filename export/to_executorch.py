"""Lowering to ExecuTorch: XNNPACK for the arithmetic, portable kernels for routing and caches.

The layers are written again, over rows (R, D) without the batch dimension, in the forms that
XNNPACK's partitioner takes: no slices of dynamic size, one inferred dimension per view, one
linear layer per result. Those of both programs are in ``export.executorch_layers``, those of the
decoder in ``export.executorch_decoder``, those of the encoder here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from executorch import exir
from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir.backend.partitioner import DelegationSpec
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.passes.infra.partitioner import Partition
from torch.nn import functional as F

from export.executorch_blocks import Block, fold, regions, unfold
from export.executorch_decoder import RowScorer
from export.executorch_delegate import PlannedBackend
from export.executorch_layers import FeedForwardBlock, RowLinear, RowLinears, merge, split
from export.native import on_native
from export.program import MASKED, EncoderProgram, Interface, Scorer, with_replaced
from model.attention import PlainAttention, PositionAttention
from model.convolution import CausalConvolution
from model.encoder import (
    Encoder,
    EncoderLayer,
    EncoderState,
    subsampled_frames,
    with_positions,
)
from quant.linear import QuantLinear


class _Attention(Block):
    """The attention of a layer, with its norm and residual."""

    results = 4

    def __init__(self, layer: PositionAttention | PlainAttention, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.heads = layer.heads
        self.qkv = RowLinears([layer.linear_q, layer.linear_k, layer.linear_v])
        self.out = RowLinear(layer.linear_out)
        self.pos: nn.Module | None = None
        if isinstance(layer, PlainAttention):
            return
        self.pos = RowLinear(layer.linear_pos)
        # (T', D) @ (D, H): every head's keys times its own bias.
        blocks = torch.eye(self.heads).repeat_interleave(layer.pos_bias_u.size(1), 1)
        self.register_buffer("u", blocks * layer.pos_bias_u.detach().reshape(1, -1))
        self.register_buffer("v", blocks * layer.pos_bias_v.detach().reshape(1, -1))

    def forward(
        self, x: Tensor, key: Tensor, value: Tensor, score: Tensor, positions: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (T', D), caches (H, C, d), (H, C, d), (H, C), positions (T', D), bias (1, 1, C + T')
        to x and the caches after it."""
        frames = x.size(0)
        q, k, v = self.qkv(self.norm(x))
        if self.pos is None:
            new_score = torch.zeros_like(k[:, : self.heads])
        else:
            p = self.pos(positions)
            new_score = F.linear(k, self.u) + F.linear(p, self.v)
            k = k + p
        key = torch.cat([key, split(k, self.heads)], dim=1)
        value = torch.cat([value, split(v, self.heads)], dim=1)
        score = torch.cat([score, new_score.permute(1, 0)], dim=1)
        heads = score.size(0)
        scores = torch.bmm(split(q, self.heads), key.permute(0, 2, 1)) + score.view(heads, 1, -1)
        scores = scores * (1 / math.sqrt(key.size(2))) + bias
        attended = torch.bmm(torch.softmax(scores, dim=-1), value)
        x = x + self.out(merge(attended))
        return x, key[:, frames:], value[:, frames:], score[:, frames:]


class _Convolution(Block):
    """The convolution of a layer, with its norm and residual."""

    results = 2

    def __init__(self, layer: CausalConvolution, norm: nn.Module) -> None:
        super().__init__()
        self.before = norm
        first = layer.pointwise_conv1
        half = first.weight.size(0) // 2
        self.pointwise_1 = RowLinears([_rows_of(first, 0, half), _rows_of(first, half, 2 * half)])
        bias = first.bias.detach()
        self.register_buffer("rest", F.glu(bias, dim=0))
        depthwise = layer.depthwise_conv
        self.history = depthwise.kernel_size[0] - 1
        # Convolving (window + rest) is convolving the window with another bias.
        weight = depthwise.weight.detach()
        offset = (weight.sum(dim=(1, 2)) * self.rest) if self.history else torch.zeros(half)
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", depthwise.bias.detach() + offset)
        self.norm = layer.norm
        self.activation = layer.activation
        self.pointwise_2 = RowLinear(layer.pointwise_conv2)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """x (T', D) and the cache (K - 1, D) to both after it."""
        left, right = self.pointwise_1(self.before(x))
        gated = left * torch.sigmoid(right)
        if self.history:
            window = torch.cat([cache, gated - self.rest])
        else:
            window = gated
        y = F.conv1d(
            window.permute(1, 0).unsqueeze(0), self.weight, self.bias, groups=len(self.bias)
        )
        if isinstance(self.norm, nn.BatchNorm1d):
            y = self.norm(y)
            y = y.squeeze(0).permute(1, 0)
        else:
            y = self.norm(y.squeeze(0).permute(1, 0))
        return x + self.pointwise_2(self.activation(y)), window[x.size(0) :]


def _rows_of(layer: nn.Module, start: int, stop: int) -> nn.Module:
    """The linear layer that gives outputs ``start`` to ``stop`` of ``layer``."""
    # Copies: XNNPACK writes a tensor from the beginning of its storage.
    weight, bias = (t.detach()[start:stop].clone() for t in (layer.weight, layer.bias))
    if isinstance(layer, QuantLinear):
        return QuantLinear(weight, layer.weight_scale[start:stop].clone(), bias)
    part = nn.Linear(1, 1)
    part.weight, part.bias = nn.Parameter(weight), nn.Parameter(bias)
    return part


class _Layer(nn.Module):
    def __init__(self, layer: EncoderLayer, max_rows: int) -> None:
        super().__init__()
        self.feed_forward_macaron = FeedForwardBlock(
            layer.feed_forward_macaron, layer.norm_ff_macaron, max_rows, 0.5
        )
        self.attention = _Attention(layer.self_attn, layer.norm_mha)
        self.convolution = _Convolution(layer.conv_module, layer.norm_conv)
        self.feed_forward = FeedForwardBlock(layer.feed_forward, layer.norm_ff, max_rows, 0.5)
        self.norm_final = layer.norm_final

    def forward(
        self, x: Tensor, positions: Tensor, bias: Tensor, key: Tensor, value: Tensor, score: Tensor,
        conv: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        (x,) = self.feed_forward_macaron(x)
        x, key, value, score = self.attention(x, key, value, score, positions, bias)
        x, conv = self.convolution(x, conv)
        (x,) = self.feed_forward(x)
        return self.norm_final(x), key, value, score, conv


class _Encoder(nn.Module):
    """``Encoder.step`` for a batch of one."""

    def __init__(self, encoder: Encoder, max_rows: int) -> None:
        super().__init__()
        self.conf = encoder.conf
        self.global_cmvn = encoder.global_cmvn
        # nn.Linear where the network is not quantized; the windows of its convolutions otherwise.
        self.embed = with_replaced(encoder.embed, {QuantLinear: RowLinear, nn.Linear: RowLinear})
        self.layers = nn.ModuleList(_Layer(layer, max_rows) for layer in encoder.encoders)
        self.after_norm = encoder.after_norm

    def step(
        self, feats: Tensor, offset: Tensor, state: EncoderState
    ) -> tuple[Tensor, EncoderState]:
        embedded = self.embed(self.global_cmvn(feats))
        x, positions = (part.squeeze(0) for part in with_positions(embedded, offset, self.conf))
        frames, left = x.size(0), state.key.size(3)
        hidden = torch.arange(left + frames) < left - offset
        bias = (hidden.to(torch.float32) * MASKED).reshape(1, 1, -1)
        keys, values, scores, convs = [], [], [], []
        for index, layer in enumerate(self.layers):
            x, key, value, score, conv = layer(
                x, positions, bias, state.key[index, 0], state.value[index, 0],
                state.score[index, 0], state.conv[index, 0],
            )  # fmt: skip
            keys.append(key)
            values.append(value)
            scores.append(score)
            convs.append(conv)
        new = (torch.stack(part).unsqueeze(1) for part in (keys, values, scores, convs))
        return self.after_norm(x).unsqueeze(0), EncoderState(*new)


class WholeOperators(XnnpackPartitioner):
    """XNNPACK's, for programs whose operators it takes wherever they stand, block by block.

    With a filter of single nodes, ExecuTorch traces the whole program twice more.
    """

    def __init__(self) -> None:
        configs = [
            type(config.__name__, (_AcceptsUnknownSizes, config), {})
            for config in ALL_PARTITIONER_CONFIGS
        ]
        super().__init__(configs=configs)
        self.delegation_spec = DelegationSpec(PlannedBackend.__name__, [])

    def ops_to_not_decompose(self, ep: Any) -> tuple[list[Any], None]:
        operators, _ = super().ops_to_not_decompose(ep)
        return operators, None

    def generate_partitions(self, ep: Any) -> list[Any]:
        """Stock partitions, of which none reaches over the border of a block."""
        inside = regions(ep.graph)
        parts: list[list[Node]] = []
        for whole in super().generate_partitions(ep):
            nodes: dict[int | None, list[Node]] = {}
            for node in whole.nodes:
                nodes.setdefault(inside.get(node), []).append(node)
            parts += nodes.values()
        return [Partition(index, part) for index, part in enumerate(parts)]


class _AcceptsUnknownSizes:
    """A partitioner config that takes tensors of data-dependent size.

    The stock check refuses them because they might be empty. XNNPACK skips an empty product,
    and the parity tests run empty experts. Its check of types stays.
    """

    def _check_inputs_are_valid_dtypes(self, node: Any, valid_dtypes: set[torch.dtype]) -> bool:
        values = [arg.meta.get("val") for arg in node.all_input_nodes]
        tensors = [value for value in values if isinstance(value, Tensor)]
        return all(t.dtype in valid_dtypes for t in tensors)


def lower_edge(program: nn.Module, interface: Interface) -> Any:
    """The program before its last step, an EdgeProgramManager, whose delegates can be listed."""
    largest, dim = interface.largest, torch.export.Dim
    if isinstance(program, EncoderProgram):
        conf = program.encoder.conf
        max_chunk = subsampled_frames(largest["T"], conf)
        table = {Encoder: lambda encoder: _Encoder(encoder, max_chunk), QuantLinear: RowLinear}
        chunk = dim("chunk", min=1, max=max_chunk)
        frames = conf.subsampling_rate * chunk + conf.right_context + 1 - conf.subsampling_rate
        sizes = {"T": frames}
    else:
        max_rows = largest["N"] * (largest["U"] + 1)
        table = {Scorer: lambda scorer: RowScorer(scorer, max_rows), QuantLinear: RowLinear}
        sizes = {letter: dim(letter, min=1, max=size) for letter, size in largest.items()}
    shapes = tuple(
        {axis: sizes[letter] for axis, letter in interface.varying.get(name, {}).items()} or None
        for name in interface.inputs
    )
    lowered = program if on_native(program) else with_replaced(program, table).eval()
    return to_edge(lowered, interface.example, shapes)


def to_edge(
    lowered: nn.Module, example: tuple[Tensor, ...], shapes: tuple[Any, ...]
) -> exir.EdgeProgramManager:
    """A module in the forms of ``executorch_layers``, or on native layers, which is used up."""
    folded = fold(lowered)
    with torch.no_grad():
        exported = torch.export.export(lowered, example, dynamic_shapes=shapes, strict=False)
    config = exir.EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    if on_native(lowered):  # between native operators there is nothing to gain from a delegate
        return exir.to_edge(exported, compile_config=config)
    edge = exir.to_edge_transform_and_lower(
        exported, partitioner=[WholeOperators()], compile_config=config
    )
    whole = unfold(edge.exported_program(), folded)
    return exir.EdgeProgramManager(whole, compile_config=config)


def lower(program: nn.Module, interface: Interface) -> bytes:
    """The program as one ExecuTorch file, for sizes up to the interface's largest."""
    return bytes(lower_edge(program, interface).to_executorch().buffer)
