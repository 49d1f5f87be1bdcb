"""An ONNX program as nodes and tensors, so that bugs can be put there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Rng = np.random.Generator
Array = npt.NDArray[Any]


class Graph:
    """A program that is changed in place; one is made for each mutant."""

    def __init__(self, program: bytes) -> None:
        self.model = onnx.load_from_string(program)
        self.graph = self.model.graph
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.maker = {name: node for node in self.graph.node for name in node.output}

    def program(self) -> bytes:
        """As the backend reads it."""
        return self.model.SerializeToString()

    def nodes(self, *kinds: str) -> list[Any]:
        """Those of some operators, in their order."""
        return [node for node in self.graph.node if node.op_type in kinds]

    def readers(self, name: str) -> list[Any]:
        """The nodes that read a value."""
        return [node for node in self.graph.node if name in node.input]

    def array(self, name: str) -> Array:
        """A copy of a tensor's numbers."""
        return numpy_helper.to_array(self.tensors[name]).copy()

    def put(self, name: str, array: Array) -> None:
        """Other numbers for a tensor, of the same type and shape."""
        self.tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))

    def constant(self, name: str) -> Array | None:
        """What a value is, if it is the same in every run."""
        if name in self.tensors:
            return self.array(name)
        node = self.maker.get(name)
        if node is None or node.op_type != "Constant":
            return None
        value: Array = numpy_helper.to_array(node.attribute[0].t).copy()
        return value

    def put_constant(self, name: str, array: Array) -> None:
        """Another value of that name, of the same type."""
        if name in self.tensors:
            self.put(name, array)
        else:
            attribute = self.maker[name].attribute[0]
            attribute.t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array)))

    def numbers(self, nodes: Iterable[Any], fits: Callable[[Array], bool]) -> list[tuple[Any, str]]:
        """Nodes that read a constant which fits, and its name."""
        found = []
        for node in nodes:
            for name in node.input:
                value = self.constant(name)
                if value is not None and fits(value):
                    found.append((node, name))
        return found

    def read_instead(self, node: Any, old: str, new: str) -> None:
        """Let one node read another value."""
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new

    def bypass(self, node: Any, kept: int = 0) -> None:
        """What reads the node's output reads its input; outputs of the program keep their names."""
        old, new = node.output[0], node.input[kept]
        if any(output.name == old for output in self.graph.output):
            self.replace(node, "Identity", [new])
            return
        for reader in self.readers(old):
            self.read_instead(reader, old, new)

    def replace(self, node: Any, kind: str, inputs: list[str]) -> None:
        """Another operator without attributes in a node's place."""
        del node.input[:], node.attribute[:]
        node.op_type, node.domain = kind, ""
        node.input.extend(inputs)


def pick(items: list[Any], rng: Rng) -> Any:
    """One of them, or None where there is none."""
    return items[int(rng.integers(len(items)))] if items else None
