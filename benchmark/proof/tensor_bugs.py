"""Bugs in the tensors of portable programs: the numbers are wrong, the operators are right."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmark.proof.graph import Graph, Rng, pick

# Changes the program and says what it did; None where it cannot have the bug.
GraphBug = Callable[[Graph, Rng], str | None]

_EXPERT = re.compile(r"(.*)\.w_([12])_(\d+)$")
_BLOCK = re.compile(r"((?:.*\.)?(?:encoders|decoders|layers)\.)(\d+)(\..*)$")
_FLOAT, _INT8, _INT32 = 1, 3, 6


def _names(graph: Graph, pattern: str, kind: int | None = None) -> list[str]:
    return [
        name
        for name, tensor in graph.tensors.items()
        if re.search(pattern, name) and kind in (None, tensor.data_type)
    ]


def _expert_layers(graph: Graph) -> dict[str, int]:
    """Expert layers and how many experts each has."""
    found: dict[str, int] = {}
    for name in graph.tensors:
        if match := _EXPERT.match(name):
            found[match[1]] = max(found.get(match[1], 0), int(match[3]) + 1)
    return found


def _put_expert(graph: Graph, layer: str, expert: int, source: int | None) -> dict[str, Any]:
    """Let an expert have another one's numbers, or zeros; returns what it had."""
    old: dict[str, Any] = {}
    for matrix in ("w_1", "w_2"):
        whole = f"{layer}.{matrix}_{expert}"
        old[whole] = graph.array(whole)
        new = (
            np.zeros_like(old[whole])
            if source is None
            else graph.array(f"{layer}.{matrix}_{source}")
        )
        graph.put(whole, new)
        for part in ("bias", "sum", "scale"):
            rows = f"{layer}.{matrix}_{part}"
            if rows in graph.tensors:
                array = graph.array(rows)
                old[rows] = array[expert].copy()
                array[expert] = 0 if source is None else array[source]
                graph.put(rows, array)
    return old


def _zeroed(graph: Graph, rng: Rng) -> str | None:
    layers = _expert_layers(graph)
    layer = pick(list(layers), rng)
    if layer is None:
        return None
    expert = int(rng.integers(layers[layer]))
    _put_expert(graph, layer, expert, None)
    return f"{layer}: expert {expert}"


def _two(graph: Graph, rng: Rng, both: bool) -> str | None:
    layers = _expert_layers(graph)
    layer = pick(list(layers), rng)
    if layer is None or layers[layer] < 2:
        return None
    one, other = (int(n) for n in rng.choice(layers[layer], 2, replace=False))
    old = _put_expert(graph, layer, one, other)
    if both:
        for name, array in old.items():
            if name.endswith(("_bias", "_sum", "_scale")):
                rows = graph.array(name)
                rows[other] = array
                graph.put(name, rows)
            else:
                graph.put(f"{name.rsplit('_', 1)[0]}_{other}", array)
    return f"{layer}: experts {one} and {other}"


def _swapped(graph: Graph, rng: Rng) -> str | None:
    return _two(graph, rng, both=True)


def _doubled(graph: Graph, rng: Rng) -> str | None:
    return _two(graph, rng, both=False)


def _changed(pattern: str, change: Callable[[Any, Rng], Any], kind: int | None = None) -> GraphBug:
    """A bug of one tensor of those whose names fit."""

    def bug(graph: Graph, rng: Rng) -> str | None:
        name = pick(_names(graph, pattern, kind), rng)
        if name is None:
            return None
        graph.put(name, change(graph.array(name), rng))
        return str(name)

    return bug


def _times(array: Any, rng: Rng) -> Any:
    return array * np.float32(1.04)


def _one_times(array: Any, rng: Rng) -> Any:
    flat = array.reshape(-1)
    flat[int(rng.integers(len(flat)))] *= np.float32(1.04)
    return array


def _rolled(array: Any, rng: Rng) -> Any:
    return np.roll(array, 1, axis=-1)


def _zero(array: Any, rng: Rng) -> Any:
    return np.zeros_like(array)


def _bit(array: Any, rng: Rng) -> Any:
    data = array.view(np.uint8).reshape(-1)
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return array


def _transposed(graph: Graph, rng: Rng) -> str | None:
    names = [
        name
        for name in _names(graph, "", _INT8)
        if len(set(graph.tensors[name].dims)) == 1 and len(graph.tensors[name].dims) == 2
    ]
    name = pick(names, rng)
    if name is None:
        return None
    graph.put(name, graph.array(name).T)
    return str(name)


def _norms(graph: Graph) -> list[str]:
    return [
        node.input[1].removesuffix(".weight")
        for node in graph.nodes("LayerNormalization")
        if node.input[1] in graph.tensors and node.input[2] in graph.tensors
    ]


def _without_norm(graph: Graph, rng: Rng) -> str | None:
    name = pick(_norms(graph), rng)
    if name is None:
        return None
    for part, value in (("weight", 1.0), ("bias", 0.0)):
        graph.put(f"{name}.{part}", np.full_like(graph.array(f"{name}.{part}"), value))
    return f"{name} without scale and shift"


def _swapped_norms(graph: Graph, rng: Rng) -> str | None:
    names = _norms(graph)
    if len(names) < 2:
        return None
    at = int(rng.integers(len(names) - 1))
    for part in ("weight", "bias"):
        _swap(graph, f"{names[at]}.{part}", f"{names[at + 1]}.{part}")
    return f"{names[at]} and {names[at + 1]}"


def _swap(graph: Graph, one: str, other: str) -> None:
    kept = graph.array(one)
    graph.put(one, graph.array(other))
    graph.put(other, kept)


def _blocks(graph: Graph) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for name in graph.tensors:
        if match := _BLOCK.match(name):
            found.setdefault(match[1], set()).add(int(match[2]))
    return {stem: blocks for stem, blocks in found.items() if len(blocks) > 1}


def _swapped_blocks(graph: Graph, rng: Rng) -> str | None:
    blocks = _blocks(graph)
    stem = pick(list(blocks), rng)
    if stem is None:
        return None
    at = int(rng.integers(len(blocks[stem]) - 1))
    for name in list(graph.tensors):
        other = name.replace(f"{stem}{at}.", f"{stem}{at + 1}.", 1)
        if other != name and other in graph.tensors:  # the exporter keeps equal ones once
            _swap(graph, name, other)
    return f"{stem}{at} and {at + 1}"


def _other_layer(graph: Graph, rng: Rng) -> str | None:
    blocks = _blocks(graph)
    stem = pick(list(blocks), rng)
    if stem is None:
        return None
    one, other = rng.choice(sorted(blocks[stem]), 2, replace=False)
    suffixes = [
        name.removeprefix(f"{stem}{one}.")
        for name in graph.tensors
        if name.startswith(f"{stem}{one}.")
        and name.replace(f"{stem}{one}.", f"{stem}{other}.", 1) in graph.tensors
    ]
    modules = sorted({suffix.rsplit(".", 1)[0] for suffix in suffixes})
    module = pick(modules, rng)
    for suffix in suffixes:
        if suffix.rsplit(".", 1)[0] == module:
            graph.put(f"{stem}{one}.{suffix}", graph.array(f"{stem}{other}.{suffix}"))
    return f"{stem}{one}.{module} has the numbers of block {other}"


def _swapped_sides(graph: Graph, rng: Rng) -> str | None:
    names = [name for name in graph.tensors if name.startswith("left.")]
    modules = sorted({name.rsplit(".", 1)[0] for name in names})
    module = pick(modules, rng)
    if module is None or not _names(graph, "^right"):
        return None
    for name in names:
        if name.rsplit(".", 1)[0] == module:
            _swap(graph, name, "right." + name.removeprefix("left."))
    return str(module)


_BIAS = r"^(?!.*norm[^.]*\.bias$).*[._]bias$"  # of matrices, not of norms
TENSOR_BUGS: dict[str, GraphBug] = {
    "an expert is zero": _zeroed,
    "two experts are swapped": _swapped,
    "an expert stands twice": _doubled,
    "rows of a router are permuted": _changed(r"\.gate$", _rolled),
    "all scales of a matrix off by 4 %": _changed(r"[._]scale$", _times),
    "one channel's scale off by 4 %": _changed(r"[._]scale$", _one_times),
    "scales moved by one channel": _changed(r"[._]scale$", _rolled),
    "a matrix without its bias": _changed(_BIAS, _zero),
    "a matrix without its sums": _changed(r"_sum$", _zero, _INT32),
    "a matrix is transposed": _transposed,
    "a norm is left out": _without_norm,
    "two norms are swapped": _swapped_norms,
    "two blocks are swapped": _swapped_blocks,
    "another layer's weights": _other_layer,
    "the decoders' directions are swapped": _swapped_sides,
    "taps moved by one frame": _changed(r"depthwise_conv\.weight$", _rolled),
    "embeddings moved by one unit": _changed(
        r"embed\.0\.weight$", lambda array, rng: np.roll(array, 1, axis=0), _FLOAT
    ),
    "a bit of an integer": _changed("", _bit, _INT8),
    "a bit of a float": _changed("", _bit, _FLOAT),
}
