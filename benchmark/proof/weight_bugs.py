"""Bugs of a file of native weights, and of the code that packs or reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchmark.proof.layers import Layer, Matrix, floats, put_header, square
from export.native_weights import ATTENTION, CONVOLUTION, LINEAR, RESIDUAL

Rng = np.random.Generator
# Changes the bytes and says what it did; None where the layer cannot have the bug.
Bug = Callable[[bytearray, Sequence[Layer], Layer, Rng], str | None]


def _header(what: str, **changes: object) -> Bug:
    def bug(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
        if not layer.header.flags & RESIDUAL:
            return None
        put_header(data, layer, **changes)
        return what

    return bug


def _other_factor(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    if not layer.header.flags & RESIDUAL:
        return None
    factor = 1.0 if layer.header.residual == 0.5 else 0.5
    put_header(data, layer, residual=factor)
    return f"{factor} for {layer.header.residual}"


def _other_slot(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    slots = {one.header.slot for one in layers if one.header.kind in (ATTENTION, CONVOLUTION)}
    others = sorted(slots - {layer.header.slot})
    if layer.header.kind not in (ATTENTION, CONVOLUTION) or not others:
        return None
    slot = int(rng.choice(others))
    put_header(data, layer, slot=slot)
    return f"reads the state of layer {slot}"


def _other_activation(
    data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng
) -> str | None:
    if not layer.header.activation:
        return None
    put_header(data, layer, activation=3 - layer.header.activation)
    return ("ReLU for SiLU", "SiLU for ReLU")[layer.header.activation == 1]


def _fewer_experts(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    if layer.header.top_k < 2:
        return None
    put_header(data, layer, top_k=1)
    return f"one expert for {layer.header.top_k}"


def _zeroed(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    if not layer.header.experts:
        return None
    expert = int(rng.integers(layer.header.experts))
    place = layer.expert(expert)
    data[place] = bytes(place.stop - place.start)
    return f"expert {expert}"


def _two_experts(layer: Layer, rng: Rng) -> tuple[int, int] | None:
    if layer.header.experts < 2:
        return None
    first, second = rng.choice(layer.header.experts, 2, replace=False)
    return int(first), int(second)


def _swapped(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    if (pair := _two_experts(layer, rng)) is None:
        return None
    one, other = map(layer.expert, pair)
    data[one], data[other] = data[other], data[one]
    return f"experts {pair[0]} and {pair[1]}"


def _doubled(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    if (pair := _two_experts(layer, rng)) is None:
        return None
    one, other = map(layer.expert, pair)
    data[one] = data[other]
    return f"expert {pair[1]} in the place of {pair[0]}"


def _permuted_router(
    data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng
) -> str | None:
    if "router" not in layer.vectors:
        return None
    rows = floats(data, layer.vectors["router"]).reshape(layer.header.experts, -1)
    rows[:] = np.roll(rows, 1, axis=0)
    return "rows of the router moved by one"


def _matrix(layer: Layer, rng: Rng) -> tuple[int, Matrix]:
    index = int(rng.integers(len(layer.matrices)))
    return index, layer.matrices[index]


def _scaled(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    index, matrix = _matrix(layer, rng)
    if matrix.bits == 4:
        return None
    scale = np.frombuffer(data, np.float32, matrix.out, matrix.scale)
    scale *= np.float32(1.04)
    return f"matrix {index}"


def _one_scale(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    index, matrix = _matrix(layer, rng)
    if matrix.bits == 4:
        return None
    channel = int(rng.integers(matrix.out))
    scale = np.frombuffer(data, np.float32, matrix.out, matrix.scale)
    scale[channel] *= np.float32(1.04)
    return f"channel {channel} of matrix {index}"


def _without(part: str, until: str) -> Bug:
    def bug(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
        index, matrix = _matrix(layer, rng)
        begin, end = getattr(matrix, part), getattr(matrix, until)
        data[begin:end] = bytes(end - begin)
        return f"matrix {index}"

    return bug


def _moved_channels(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    index, matrix = _matrix(layer, rng)
    if matrix.bits == 4:
        return None
    scale = np.frombuffer(data, np.float32, matrix.out, matrix.scale)
    scale[:] = np.roll(scale, 1)
    return f"scales of matrix {index} moved by one channel"


def _transposed(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    fitting = [
        (index, matrix)
        for index, matrix in enumerate(layer.matrices)
        if matrix.out == matrix.columns and matrix.out % 32 == 0 and matrix.bits == 8
    ]
    if not fitting:
        return None
    index, matrix = fitting[int(rng.integers(len(fitting)))]
    packed = square(data, matrix)
    rows = packed.transpose(0, 2, 1, 3).reshape(matrix.out, matrix.out).T.copy()
    packed[:] = rows.reshape(len(packed), 32, -1, 4).transpose(0, 2, 1, 3)
    return f"matrix {index}"


def _int_bit(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    index, matrix = _matrix(layer, rng)
    place, bit = int(rng.integers(matrix.panels, matrix.end)), int(rng.integers(8))
    data[place] ^= 1 << bit
    return f"bit {bit} of byte {place} of matrix {index}"


def _float_bit(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    index, matrix = _matrix(layer, rng)
    places = layer.vectors | {
        f"bias of matrix {index}": slice(matrix.bias, matrix.bias + 4 * matrix.out)
    }
    if matrix.bits == 8:
        scales = slice(matrix.scale, matrix.scale + 4 * matrix.out)
        places |= {f"scales of matrix {index}": scales}
    name = list(places)[int(rng.integers(len(places)))]
    number = int(rng.integers((places[name].stop - places[name].start) // 4))
    bit = int(rng.integers(32))
    data[places[name].start + 4 * number + bit // 8] ^= 1 << bit % 8
    return f"bit {bit} of number {number} of {name}"


def _nibbles(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    index, matrix = _matrix(layer, rng)
    if matrix.bits != 4:
        return None
    group = 64 + 16 * layer.header.group
    begin = matrix.panels + group * int(rng.integers((matrix.end - matrix.panels) // group))
    part = np.frombuffer(data, np.uint8, group - 64, begin + 64)
    part[:] = part >> 4 | part << 4
    return f"a group of matrix {index}"


def _without_norm(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    names = [name for name in ("norm", "inner norm") if f"{name} scale" in layer.vectors]
    if not names:
        return None
    name = names[int(rng.integers(len(names)))]
    floats(data, layer.vectors[f"{name} scale"])[:] = 1.0
    floats(data, layer.vectors[f"{name} shift"])[:] = 0.0
    return f"{name} without scale and shift"


def _swap_vectors(data: bytearray, pairs: Iterable[tuple[slice, slice]]) -> None:
    for one, other in pairs:
        data[one], data[other] = data[other], data[one]


def _swapped_norms(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    others = [
        one
        for one in layers
        if one is not layer and "norm scale" in one.vectors and one.header.dim == layer.header.dim
    ]
    if "norm scale" not in layer.vectors or not others:
        return None
    near = min(others, key=lambda one: (abs(one.index - layer.index), one.index))
    names = ("norm scale", "norm shift")
    _swap_vectors(data, [(layer.vectors[name], near.vectors[name]) for name in names])
    return f"with that of layer {near.index}"


def _swapped_u_v(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    if "u" not in layer.vectors:
        return None
    _swap_vectors(data, [(layer.vectors["u"], layer.vectors["v"])])
    return "u and v"


def _moved_taps(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    if layer.header.kernel < 2:
        return None
    taps = floats(data, layer.vectors["taps"]).reshape(layer.header.kernel, -1)
    taps[:] = np.roll(taps, 1, axis=0)
    return "taps moved by one frame"


def _other_layer(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    others = [one for one in layers if layer.is_like(one)]
    if not others:
        return None
    other = others[int(rng.integers(len(others)))]
    data[layer.place] = data[other.place]
    return f"the numbers of layer {other.index}"


def _swapped_sides(data: bytearray, layers: Sequence[Layer], layer: Layer, rng: Rng) -> str | None:
    half, rest = divmod(len(layers), 2)
    if rest or any(one.header.kind in (ATTENTION, CONVOLUTION) for one in layers):
        return None  # no decoders of two directions
    partner = layers[(layer.index + half) % len(layers)]
    if layer.header.kind != LINEAR or not layer.is_like(partner):
        return None
    _swap_vectors(data, [(layer.place, partner.place)])
    return f"with layer {partner.index} of the other direction"


WEIGHT_BUGS: dict[str, Bug] = {
    "an expert is zero": _zeroed,
    "two experts are swapped": _swapped,
    "an expert stands twice": _doubled,
    "rows of a router are permuted": _permuted_router,
    "one expert for two": _fewer_experts,
    "another factor of a residual": _other_factor,
    "a block is left out": _header("the block", residual=0.0),
    "another layer's state": _other_slot,
    "another activation": _other_activation,
    "all scales of a matrix off by 4 %": _scaled,
    "one channel's scale off by 4 %": _one_scale,
    "scales moved by one channel": _moved_channels,
    "a matrix without its bias": _without("bias", "panels"),
    "a matrix without its sums": _without("total", "bias"),
    "a matrix is transposed": _transposed,
    "a norm is left out": _without_norm,
    "two norms are swapped": _swapped_norms,
    "u and v are swapped": _swapped_u_v,
    "taps moved by one frame": _moved_taps,
    "another layer's weights": _other_layer,
    "the decoders' directions are swapped": _swapped_sides,
    "halves of int4 bytes are swapped": _nibbles,
    "a bit of an integer": _int_bit,
    "a bit of a float": _float_bit,
}


def put_bug(kind: str, data: bytes, layers: Sequence[Layer], rng: Rng) -> tuple[str, bytes] | None:
    """Where a bug of a kind is, and the file with it; None where no layer can have it."""
    for index in rng.permutation(len(layers)):
        changed = bytearray(data)
        layer = layers[int(index)]
        what = WEIGHT_BUGS[kind](changed, layers, layer, rng)
        if what is not None and changed != data:
            return f"layer {layer.index}: {what}", bytes(changed)
    return None
