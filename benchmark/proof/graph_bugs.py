"""Bugs in the operators of programs: what is computed is wrong, the numbers are right."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from benchmark.proof.graph import Graph, Rng, pick
from benchmark.proof.tensor_bugs import GraphBug

_STATES = ("key", "value", "score", "conv")
_BLOCKS = ("feed_forward", "attn", "conv_module", "_out")


def _without_cmvn(graph: Graph, rng: Rng) -> str | None:
    part, value = (("mean", 0.0), ("istd", 1.0))[int(rng.integers(2))]
    name = f"encoder.global_cmvn.{part}"
    if name not in graph.tensors:
        return None
    graph.put(name, np.full_like(graph.array(name), value))
    return part


def _activations(graph: Graph) -> list[Any]:
    """Products of a value with its own sigmoid, and ReLUs."""
    silu = []
    for node in graph.nodes("Mul"):
        one, other = (graph.maker.get(name) for name in node.input[:2])
        for sigmoid, x in ((one, node.input[1]), (other, node.input[0])):
            if sigmoid is not None and sigmoid.op_type == "Sigmoid" and sigmoid.input[0] == x:
                silu.append(node)
    return silu + graph.nodes("Relu")


def _other_activation(graph: Graph, rng: Rng) -> str | None:
    node = pick(_activations(graph), rng)
    if node is None:
        return None
    if node.op_type == "Relu":
        graph.replace(node, "Elu", list(node.input))
        return f"ELU for ReLU: {node.output[0]}"
    sigmoids = [n for n in node.input if getattr(graph.maker.get(n), "op_type", "") == "Sigmoid"]
    graph.replace(node, "Relu", [graph.maker[sigmoids[0]].input[0]])
    return f"ReLU for SiLU: {node.output[0]}"


def _factor(value: Any) -> bool:
    return bool(
        value.size == 1 and value.dtype == np.float32 and float(value.reshape(-1)[0]) == 0.5
    )


def _other_factor(graph: Graph, rng: Rng) -> str | None:
    found = pick(graph.numbers(graph.nodes("Mul"), _factor), rng)
    if found is None:
        return None
    node, name = found
    value = graph.constant(name)
    assert value is not None
    graph.put_constant(name, np.full_like(value, 1.0))
    return f"1.0 for 0.5: {node.output[0]}"


def _sums(graph: Graph) -> list[tuple[Any, int]]:
    """Sums of a block and what it adds to: which input of the sum is the block's own."""
    found = []
    for node in graph.nodes("Add"):
        makers = [graph.maker.get(name) for name in node.input]
        names = ["" if m is None or m.op_type == "Constant" else str(m.name) for m in makers]
        own = [i for i, name in enumerate(names) if any(word in name for word in _BLOCKS)]
        if all(names) and own and (len(own) == 1 or node.name.count("/") <= 3):
            found.append((node, own[-1]))
    return found


def _left_out(graph: Graph, rng: Rng) -> str | None:
    blocks = graph.nodes("moe_ffn", "attention", "convolution")
    blocks = [node for node in blocks if "encoder" not in node.name or node.domain]
    if blocks:
        node = pick(blocks, rng)
        graph.bypass(node)
        return f"{node.op_type} {node.output[0]}"
    found = pick(_sums(graph), rng)
    if found is None:
        return None
    node, own = found
    graph.bypass(node, 1 - own)
    return f"{node.output[0]}"


def _without_norm(graph: Graph, rng: Rng) -> str | None:
    node = pick(graph.nodes("LayerNormalization"), rng)
    if node is None:
        return None
    graph.bypass(node)
    return str(node.output[0])


def _other_block(graph: Graph, rng: Rng) -> str | None:
    kind = pick([k for k in ("moe_ffn", "attention", "convolution", "linear")
                 if len(graph.nodes(k)) > 1], rng)  # fmt: skip
    if kind is None:
        return None
    one, other = rng.choice(len(graph.nodes(kind)), 2, replace=False)
    first, second = (graph.nodes(kind)[int(index)] for index in (one, other))
    for attribute in first.attribute:
        if attribute.name == "layer":
            attribute.i = next(a.i for a in second.attribute if a.name == "layer")
    return f"{first.output[0]} computes {second.output[0]}"


def _other_state(graph: Graph, rng: Rng) -> str | None:
    """Reads of a layer's own part of a state."""
    gathers = [node for node in graph.nodes("Gather") if node.input[0] in _STATES]
    node = pick(gathers, rng)
    if node is None:
        return None
    value = graph.constant(node.input[1])
    if value is None:
        return None
    others = {int(graph.constant(n.input[1])) for n in gathers} - {int(value)}  # type: ignore[arg-type]
    other = int(rng.choice(sorted(others)))
    graph.put_constant(node.input[1], np.full_like(value, other))
    return f"{node.input[0]} of layer {other} for {int(value)}"


def _other_next_state(graph: Graph, rng: Rng) -> str | None:
    """Two layers' parts of the next state change places."""
    makers = [graph.maker[o.name] for o in graph.graph.output if o.name.startswith("next_")]
    node = pick([maker for maker in makers if maker.op_type == "Concat"], rng)
    if node is None:
        return None
    at = int(rng.integers(len(node.input) - 1))
    node.input[at], node.input[at + 1] = node.input[at + 1], node.input[at]
    return f"{node.output[0]}: layers {at} and {at + 1}"


def _positions(graph: Graph, rng: Rng) -> str | None:
    """Positions that begin one late."""
    ranges = [n for n in graph.nodes("Range") if _leads_to(graph, n, ("Sin",), 6)]
    node = pick(ranges, rng)
    if node is None:
        return None
    begin, end = node.input[0], node.input[1]
    value = graph.constant(begin)
    if value is None:
        return None
    _shift(graph, node, begin, value)
    _shift(graph, node, end, value)
    return f"{node.output[0]} from 1 on"


def _shift(graph: Graph, node: Any, name: str, like: Any) -> None:
    """Let a node read a number that is larger by one."""
    added, one = f"{name}_one_more", f"{name}_one"
    tensor = graph.graph.initializer.add()
    tensor.CopyFrom(numpy_helper.from_array(np.ones_like(like), one))
    index = list(graph.graph.node).index(node)
    graph.graph.node.insert(index, helper.make_node("Add", [name, one], [added]))
    graph.read_instead(graph.graph.node[index + 1], name, added)


def _leads_to(graph: Graph, node: Any, kinds: tuple[str, ...], steps: int) -> bool:
    names = set(node.output)
    for _ in range(steps):
        readers = [reader for name in names for reader in graph.readers(name)]
        if any(reader.op_type in kinds for reader in readers):
            return True
        names = {name for reader in readers for name in reader.output}
    return False


def _context(graph: Graph, rng: Rng) -> str | None:
    """How many of the remembered frames are hidden is wrong by one."""
    found = [
        (node, node.input[0])
        for node in graph.nodes("Sub")
        if len(node.input) > 1 and node.input[1] == "offset"
        and graph.constant(node.input[0]) is not None
    ]  # fmt: skip
    if not found:
        return None
    _, name = pick(found, rng)
    value = graph.constant(name)
    assert value is not None
    amount = int(rng.choice([-1, 1]))
    graph.put_constant(name, value + np.array(amount, value.dtype))
    return f"{int(value.reshape(-1)[0]) + amount} for {int(value.reshape(-1)[0])}"


def _without(kind: str) -> GraphBug:
    def bug(graph: Graph, rng: Rng) -> str | None:
        node = pick(graph.nodes(kind), rng)
        if node is None:
            return None
        graph.bypass(node)
        return str(node.output[0])

    return bug


def _scalars(value: Any) -> bool:
    return bool(value.size == 1 and value.dtype == np.float32 and abs(value.reshape(-1)[0]) > 1)


def _factor_off(graph: Graph, rng: Rng) -> str | None:
    """A constant factor, as the root of the dimension, is off by 4 %."""
    nodes = [n for n in graph.nodes("Mul", "Div") if "quant" not in n.name]
    found = [
        (node, name)
        for node, name in graph.numbers(nodes, _scalars)
        if float(graph.constant(name).reshape(-1)[0]) != 255.0  # type: ignore[union-attr]
    ]
    picked = pick(found, rng)
    if picked is None:
        return None
    node, name = picked
    value = graph.constant(name)
    assert value is not None
    graph.put_constant(name, value * np.float32(1.04))
    return f"{float(value.reshape(-1)[0]):g} of {node.output[0]}"


def _rounding(graph: Graph, rng: Rng) -> str | None:
    """Numbers are cut off where they are to be rounded."""
    node = pick(graph.nodes("Round"), rng)
    if node is None:
        return None
    node.op_type = "Floor"
    return f"floor for round: {node.output[0]}"


def _other_end(kind: str) -> GraphBug:
    def bug(graph: Graph, rng: Rng) -> str | None:
        whole = graph.numbers(
            graph.nodes(kind), lambda v: v.size == 1 and v.dtype == np.int64 and v.min() > 0
        )
        found = pick(whole, rng)
        if found is None:
            return None
        node, name = found
        value = graph.constant(name)
        assert value is not None
        graph.put_constant(name, value - 1)
        unit = int(value.reshape(-1)[0])
        return f"unit {unit - 1} for {unit}: {node.output[0]}"

    return bug


def _swapped_scores(graph: Graph, rng: Rng) -> str | None:
    outputs = {o.name for o in graph.graph.output}
    if outputs != {"left_scores", "right_scores"}:
        return None
    for node in graph.graph.node:
        names = {"left_scores": "right_scores", "right_scores": "left_scores"}
        for index, name in enumerate(node.output):
            node.output[index] = names.get(name, name)
    return "left_scores and right_scores"


def _not_mirrored(graph: Graph, rng: Rng) -> str | None:
    node = pick([n for n in graph.nodes("GatherElements") if not n.name.count("left/")
                 and "Where" in n.input[1]], rng)  # fmt: skip
    if node is None:
        return None
    graph.bypass(node)
    return str(node.output[0])


def _swapped_tables(graph: Graph, rng: Rng) -> str | None:
    nodes = [n for n in graph.nodes("Gather") if n.input[0] in graph.tensors
             and n.input[0].endswith("embed.0.weight")]  # fmt: skip
    if len(nodes) < 2:
        return None
    node = pick(nodes, rng)
    other = next(n.input[0] for n in nodes if n.input[0] != node.input[0])
    node.input[0] = other
    return f"{node.output[0]} reads {other}"


def _swapped_inputs(graph: Graph, rng: Rng) -> str | None:
    """A difference, a quotient or a choice with its operands the wrong way round."""
    able = [n for n in graph.nodes("Sub", "Div", "Less", "LessOrEqual", "Greater")
            if len(n.input) == 2]  # fmt: skip
    node = pick(able, rng)
    if node is None:
        return None
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return f"{node.op_type} {node.output[0]}"


GRAPH_BUGS: dict[str, GraphBug] = {
    "CMVN is left out": _without_cmvn,
    "another activation": _other_activation,
    "another factor of a residual": _other_factor,
    "a block is left out": _left_out,
    "a norm is bypassed": _without_norm,
    "another layer's operator": _other_block,
    "another layer's state": _other_state,
    "another layer's next state": _other_next_state,
    "positions off by one": _positions,
    "the left context off by one": _context,
    "a constant factor off by 4 %": _factor_off,
    "floor for round": _rounding,
    "no softmax": _without("Softmax"),
    "no log-softmax": _without("LogSoftmax"),
    "another unit for sos": _other_end("Pad"),
    "another unit for eos": _other_end("Where"),
    "scores of the directions are swapped": _swapped_scores,
    "the right decoder reads forwards": _not_mirrored,
    "the other decoder's embeddings": _swapped_tables,
    "operands are swapped": _swapped_inputs,
}
