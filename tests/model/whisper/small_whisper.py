"""A Whisper of random numbers, as CTranslate2 writes it, and as its paper computes it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

DIM, HEADS, LAYERS, TOKENS = 8, 2, 2, 40
_TYPES = {np.dtype("f4"): 0, np.dtype("i1"): 1, np.dtype("i4"): 3, np.dtype("f2"): 4}


def random_weights(seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 0.3) -> Tensor:
        return torch.randn(*shape, generator=rng) * std

    weights: dict[str, Tensor] = {
        "encoder/conv1/weight": normal(DIM, 80, 3, std=0.1), "encoder/conv1/bias": normal(DIM),
        "encoder/conv2/weight": normal(DIM, DIM, 3), "encoder/conv2/bias": normal(DIM),
        "decoder/embeddings/weight": normal(TOKENS, DIM, std=1.0),
        "decoder/position_encodings/encodings": normal(448, DIM),
    }  # fmt: skip

    def norm(place: str) -> None:
        weights[f"{place}/gamma"] = 1 + normal(DIM, std=0.2)
        weights[f"{place}/beta"] = normal(DIM)

    def linears(place: str, *shapes: tuple[int, int]) -> None:
        norm(f"{place}/layer_norm")
        for index, shape in enumerate(shapes):
            weights[f"{place}/linear_{index}/weight"] = normal(*shape)
            weights[f"{place}/linear_{index}/bias"] = normal(shape[0])

    for stack in ("encoder", "decoder"):
        norm(f"{stack}/layer_norm")
        for layer in range(LAYERS):
            place = f"{stack}/layer_{layer}"
            linears(f"{place}/self_attention", (3 * DIM, DIM), (DIM, DIM))
            linears(f"{place}/ffn", (4 * DIM, DIM), (DIM, 4 * DIM))
            if stack == "decoder":
                linears(f"{place}/attention", (DIM, DIM), (2 * DIM, DIM), (DIM, DIM))
    return weights


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<I", 3)]
    parts.append(struct.pack("<I", len(arrays)))
    for name, array in arrays.items():
        parts += [text(name), struct.pack("<B", array.ndim)]
        parts += [struct.pack("<I", size) for size in array.shape]
        parts += [struct.pack("<BI", _TYPES[array.dtype], array.nbytes), array.tobytes()]
    path.write_bytes(b"".join(parts))


def norm(x: Tensor, weights: dict[str, Tensor], place: str) -> Tensor:
    return F.layer_norm(x, (DIM,), weights[f"{place}/gamma"], weights[f"{place}/beta"])


def linear(x: Tensor, weights: dict[str, Tensor], place: str) -> Tensor:
    return F.linear(x, weights[f"{place}/weight"], weights[f"{place}/bias"])


def feed_forward(x: Tensor, weights: dict[str, Tensor], place: str) -> Tensor:
    """x (T, D) plus its feed-forward."""
    hidden = F.gelu(linear(norm(x, weights, f"{place}/layer_norm"), weights, f"{place}/linear_0"))
    return x + linear(hidden, weights, f"{place}/linear_1")


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """(T, D) over (S, D)."""
    q, k, v = (part.unflatten(1, (HEADS, -1)).transpose(0, 1) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(0, 1).flatten(1)


def self_attention(x: Tensor, weights: dict[str, Tensor], place: str, causal: bool) -> Tensor:
    normed = norm(x, weights, f"{place}/layer_norm")
    q, k, v = linear(normed, weights, f"{place}/linear_0").chunk(3, 1)
    return x + linear(attention(q, k, v, causal), weights, f"{place}/linear_1")


def decode(tokens: Tensor, memory: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Logits (U, TOKENS) of tokens (U,) over memory (T, D), as Whisper's decoder gives them for
    tokens from its second place on."""
    places = weights["decoder/position_encodings/encodings"]
    x = weights["decoder/embeddings/weight"][tokens] + places[1 : 1 + len(tokens)]
    for layer in range(LAYERS):
        place = f"decoder/layer_{layer}"
        x = self_attention(x, weights, f"{place}/self_attention", True)
        q = linear(norm(x, weights, f"{place}/attention/layer_norm"), weights,
                   f"{place}/attention/linear_0")  # fmt: skip
        k, v = linear(memory, weights, f"{place}/attention/linear_1").chunk(2, 1)
        x = x + linear(attention(q, k, v, False), weights, f"{place}/attention/linear_2")
        x = feed_forward(x, weights, f"{place}/ffn")
    return norm(x, weights, "decoder/layer_norm") @ weights["decoder/embeddings/weight"].T
