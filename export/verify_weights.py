"""Every number of a program's weights, compared with the network's: steps find what a bug does,
this finds any bit, in experts that no speech reaches too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_asr.package.stripped import Insert, Matrix, found_in
from export.native_reader import Array, Header, StoredLayer, StoredMatrix, read_layers
from export.native_weights import Residual, WeightsFile, WrittenLayer
from export.parity import ParityError
from model.attention import PlainAttention, PositionAttention
from model.convolution import CausalConvolution
from model.feed_forward import FeedForward, MoeFeedForward
from model.subsampling import Subsampling
from quant.convolution import QuantConv2d
from quant.linear import QuantLinear
from quant.linear4 import QuantLinear4

_ACTIVATIONS = {"Identity": 0, "ReLU": 1, "SiLU": 2}
Pairs = Iterator[tuple[str, object, object]]  # what, as stored, as the network has it


def verify_weights(data: bytes, written: Sequence[WrittenLayer], where: str) -> None:
    """Compare a file of native weights with the layers that it was written from.

    Raises:
        ParityError: a number is another.
    """
    try:
        stored = read_layers(data)
    except (ValueError, KeyError, struct.error) as error:
        raise ParityError(
            f"{where}: cannot be read back: {error}; no package was written"
        ) from error
    if len(stored) != len(written):
        raise ParityError(
            f"{where}: holds {len(stored)} layers, expected {len(written)}; no package was written"
        )
    for index, (found, layer) in enumerate(zip(stored, written, strict=True)):
        for what, ours, theirs in _pairs(found, layer):
            if not _equal(ours, theirs):
                raise ParityError(
                    f"{where}: {what} of layer {index} is not the network's; no package was written"
                )


def verify_inserts(
    program: bytes, inserts: Sequence[Insert], file: WeightsFile, where: str
) -> None:
    """Look for every matrix of a file of weights in a portable program, bit for bit.

    Args:
        inserts: those that were found already; see ``find_inserts``.

    Raises:
        ParityError: the program lacks one, or has another in its place.
    """
    having = {_place(insert) for insert in inserts}
    wanted = [place for place in file.places if place.matrix is not None]
    lacking = [place for place in wanted if _place(place) not in having]
    # One of zeros is for attention without relative positions, whose network has no such layer.
    lacking = [place for place in lacking if any(found_in(file.data, place))]
    lacking = [place for place in lacking if not _in_halves(program, place, file.data)]
    if lacking:
        raise ParityError(
            f"{where}: {len(lacking)} of {len(wanted)} matrices are not those of the network; no "
            "package was written"
        )


def _place(insert: Insert) -> tuple[int, int]:
    return insert.offset, insert.matrix.first if insert.matrix else -1


def _in_halves(program: bytes, place: Insert, weights: bytes) -> bool:
    """Whether a matrix is there as two: of a gated layer, values and gates. Short ones are not
    looked for by ``find_inserts``."""
    matrix = place.matrix
    assert matrix is not None
    half = max(1, matrix.rows // 2)
    whole, *halves = (
        any(
            found_in(weights, _part(place, matrix, first, rows, transposed)) in program
            for transposed in (False, True)
        )
        for first, rows in ((0, matrix.rows), (0, half), (half, half))
    )
    return whole or (2 * half == matrix.rows and all(halves))


def _part(place: Insert, matrix: Matrix, first: int, rows: int, transposed: bool) -> Insert:
    part = msgspec.structs.replace(
        matrix, first=matrix.first + first, rows=rows, transposed=transposed
    )
    return msgspec.structs.replace(place, count=rows * matrix.columns, matrix=part)


def _equal(ours: object, theirs: object) -> bool:
    if not isinstance(ours, np.ndarray) or not isinstance(theirs, np.ndarray):
        return ours == theirs
    same_kind = ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return same_kind and ours.tobytes() == theirs.tobytes()


def _pairs(stored: StoredLayer, written: WrittenLayer) -> Pairs:
    residual, modules = written.residual, written.modules
    vectors = list(stored.vectors)
    yield "the residual", stored.header.residual, residual.factor if residual else 0.0
    yield "the number of its state", stored.header.slot, residual.slot if residual else 0
    if residual is not None:
        yield from _norm(vectors, residual)
    layer = modules[0]
    if len(modules) > 1 or isinstance(layer, QuantLinear):
        yield from _matrix("the matrix", stored.matrices[0], modules)
        return
    own = replace(stored, vectors=tuple(vectors))
    for kinds, compare in _COMPARE.items():
        if isinstance(layer, kinds):
            yield from compare(own, layer)
            return
    yield "the kind", stored.header.kind, type(layer).__name__


def _norm(vectors: list[Array], residual: Residual) -> Pairs:
    yield "the norm's scale", vectors.pop(0), _numbers(residual.norm.weight)
    yield "the norm's shift", vectors.pop(0), _numbers(residual.norm.bias)


def _feed_forward(stored: StoredLayer, layer: FeedForward | MoeFeedForward) -> Pairs:
    header, vectors = stored.header, stored.vectors
    experts: list[nn.Module] = [layer]
    if isinstance(layer, MoeFeedForward):
        experts = list(layer.experts)
        yield "the number of experts", header.experts, len(experts)
        yield "the number of chosen experts", header.top_k, layer.n_expert_activated
        yield "the router", vectors[0], _numbers(layer.gate.weight)
    yield from _activation(header, experts[0])
    linears = [getattr(expert, name) for expert in experts for name in ("w_1", "w_2")]
    for index, (matrix, linear) in enumerate(zip(stored.matrices, linears, strict=True)):
        yield from _matrix(f"matrix {index % 2 + 1} of expert {index // 2}", matrix, [linear])


def _attention(stored: StoredLayer, layer: PositionAttention | PlainAttention) -> Pairs:
    yield "the number of heads", stored.header.heads, layer.heads
    both, positions, out = stored.matrices
    yield from _matrix("q, k and v", both, [layer.linear_q, layer.linear_k, layer.linear_v])
    yield from _matrix("the output", out, [layer.linear_out])
    if isinstance(layer, PositionAttention):
        yield "u", stored.vectors[0], _numbers(layer.pos_bias_u)
        yield "v", stored.vectors[1], _numbers(layer.pos_bias_v)
        yield from _matrix("the positions", positions, [layer.linear_pos])
        return
    for array in (*stored.vectors, positions.bias, positions.weight):
        yield "what stands for positions", bool(array.any()), False


def _convolution(stored: StoredLayer, layer: CausalConvolution) -> Pairs:
    header, (depthwise, bias, scale, shift, rest) = stored.header, stored.vectors
    yield from _activation(header, layer)
    yield "the depthwise weights", depthwise, _numbers(layer.depthwise_conv.weight[:, 0].t())
    yield "the depthwise bias", bias, _numbers(layer.depthwise_conv.bias)
    norm, plain = layer.norm, isinstance(layer.norm, nn.LayerNorm)
    yield "the kind of its norm", bool(header.flags & 2), plain
    factor = norm.weight if plain else norm.weight / torch.sqrt(norm.running_var + norm.eps)
    yield "the inner norm's scale", scale, _numbers(factor)
    offset = norm.bias if plain else norm.bias - norm.running_mean * factor
    yield "the inner norm's shift", shift, _numbers(offset)
    nothing = F.glu(layer.pointwise_conv1.bias, dim=0) if header.kernel > 1 else 0 * norm.bias
    yield "what stands for nothing", rest, _numbers(nothing)
    for index, name in enumerate(("pointwise_conv1", "pointwise_conv2")):
        yield from _matrix(name, stored.matrices[index], [getattr(layer, name)])


def _subsampling(stored: StoredLayer, layer: Subsampling) -> Pairs:
    first, second, project = layer.conv[0], layer.conv[2], layer.out[0]
    assert isinstance(second, QuantConv2d)
    yield "the first convolution", stored.vectors[0], _numbers(first.weight.flatten(1).t())
    yield "the first bias", stored.vectors[1], _numbers(first.bias)
    yield from _matrix("the second convolution", stored.matrices[0], [second.window])
    out, channels = project.weight.size(0), first.out_channels
    by_bin = project.weight.unflatten(1, (channels, -1)).transpose(1, 2).reshape(out, -1)
    yield from _matrix("the projection", stored.matrices[1], [project], by_bin)


_COMPARE: dict[tuple[type[nn.Module], ...], Callable[[StoredLayer, Any], Pairs]] = {
    (FeedForward, MoeFeedForward): _feed_forward,
    (PositionAttention, PlainAttention): _attention,
    (CausalConvolution,): _convolution,
    (Subsampling,): _subsampling,
}


def _activation(header: Header, layer: nn.Module) -> Pairs:
    yield "the activation", header.activation, _ACTIVATIONS[type(layer.activation).__name__]


def _matrix(
    name: str, stored: StoredMatrix, layers: Sequence[nn.Module], weight: Tensor | None = None
) -> Pairs:
    """``weight`` is that of the layer in another order."""
    four = isinstance(layers[0], QuantLinear4)
    sums = "scaled_sum" if four else "weight_sum"
    if weight is None:
        weight = torch.cat([layer.weight for layer in layers])
    padded = np.zeros_like(stored.weight)
    padded[: weight.size(0), : weight.size(1)] = weight.numpy()
    yield f"{name}: a weight", stored.weight, padded
    yield f"{name}: a sum", stored.total, _padded(stored.total, [getattr(x, sums) for x in layers])
    yield f"{name}: a bias", stored.bias, _padded(stored.bias, [layer.bias for layer in layers])
    scales = [layer.weight_scale for layer in layers]
    if stored.groups is None:
        yield f"{name}: a scale", stored.scale, _padded(stored.scale, scales)
        return
    yield f"{name}: what stands for a scale", bool(stored.scale.any()), False
    bits = [scale.view(torch.int16) for scale in scales]
    yield f"{name}: a scale", stored.groups, _padded(stored.groups, bits)


def _padded(like: Array, parts: Sequence[Tensor]) -> Array:
    values = torch.cat(list(parts)).numpy()
    padded = np.zeros(like.shape, values.dtype)
    padded[: len(values)] = values
    return padded


def _numbers(values: Tensor) -> Array:
    array: Array = values.detach().float().contiguous().numpy().reshape(-1)
    return array
