"""Blocks of one structure are lowered to ExecuTorch once; the rest are copies with other weights.

    fold -> the first block of a structure stands between two marks, every further one is one operator
         -> torch.export, edge dialect and delegates for what is left
    unfold -> in the place of each operator a copy of the lowered block, with its own weights

ExecuTorch's lowering takes a second for about a hundred operators, and a network has thousands, most
of them in layers that differ in their weights alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from executorch.exir.delegate import get_lowered_module_name
from torch import Tensor, nn
from torch.export.exported_program import ExportedProgram, InputSpec, TensorArgument
from torch.fx import Graph, Node

from export.executorch_delegate import Delegate

NAMESPACE = "edge_asr_blocks"


def _shapes(inputs: Sequence[Tensor], results: int) -> list[Tensor]:
    return [torch.empty_like(one) for one in inputs[:results]]


@torch.library.custom_op(f"{NAMESPACE}::enter", mutates_args=())
def enter(inputs: Sequence[Tensor], block: int) -> list[Tensor]:
    """Where the first block of structure number ``block`` begins."""
    raise NotImplementedError


@torch.library.custom_op(f"{NAMESPACE}::leave", mutates_args=())
def leave(results: Sequence[Tensor], block: int) -> list[Tensor]:
    """Where it ends."""
    raise NotImplementedError


@torch.library.custom_op(f"{NAMESPACE}::repeat", mutates_args=())
def repeat(inputs: Sequence[Tensor], results: int, block: int, copy: int) -> list[Tensor]:
    """Copy number ``copy`` of that block."""
    raise NotImplementedError


enter.register_fake(lambda inputs, block: _shapes(inputs, len(inputs)))
leave.register_fake(lambda results, block: _shapes(results, len(results)))
repeat.register_fake(lambda inputs, results, block, copy: _shapes(inputs, results))


class Block(nn.Module):
    """A part of a network that may occur again with other weights.

    It takes tensors by position and gives a tuple of as many as ``results``, each of the shape and
    dtype of the input in the same place.
    """

    results = 1


class _First(nn.Module):
    def __init__(self, block: Block, number: int) -> None:
        super().__init__()
        self.block, self.number = block, number

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        results = self.block(*torch.ops.edge_asr_blocks.enter(list(inputs), self.number))
        return tuple(torch.ops.edge_asr_blocks.leave(list(results), self.number))


class _Again(nn.Module):
    def __init__(self, results: int, number: int, copy: int) -> None:
        super().__init__()
        self.results, self.number, self.copy = results, number, copy

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = torch.ops.edge_asr_blocks.repeat(list(inputs), self.results, self.number, self.copy)
        return tuple(given)


@dataclass
class Folded:
    """The blocks of one structure: the name of the first, and the others' names and modules."""

    first: str
    copies: list[tuple[str, Block]] = field(default_factory=list)


def fold(program: nn.Module) -> list[Folded]:
    """Leave the first block of each structure in the program, and put marks for the others."""
    found: dict[str, list[tuple[str, Block]]] = {}
    for name, module in program.named_modules():
        if isinstance(module, Block):
            found.setdefault(_structure(module), []).append((name, module))
    folded = []
    for blocks in found.values():
        if len(blocks) == 1:
            continue
        number = len(folded)
        (first, block), *others = blocks
        _put(program, first, _First(block, number))
        for index, (name, module) in enumerate(others):
            _put(program, name, _Again(module.results, number, index))
        folded.append(Folded(f"{first}.block", others))
    return folded


def _put(program: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(program.get_submodule(parent), leaf, module)


def _structure(block: nn.Module) -> str:
    """What is traced of a block: everything but the values of its tensors."""
    modules = [
        (name, type(module), {key: value for key, value in vars(module).items() if key[0] != "_"})
        for name, module in block.named_modules()
    ]
    tensors = [(name, tuple(one.shape), one.dtype) for name, one in _tensors(block).items()]
    return repr((modules, tensors))


def _tensors(block: nn.Module) -> dict[str, Tensor]:
    return dict(block.named_parameters()) | dict(block.named_buffers())


def regions(graph: Graph) -> dict[Node, int]:
    """The nodes that belong to a marked block, with its number.

    That is what comes out of its beginning and not out of its end, and what is used there alone.
    """
    inside: dict[Node, int] = {}
    for node in graph.nodes:
        if _is(node, "enter"):
            inside[node] = node.args[1]
        elif not _is(node, "leave") and (found := _numbers(node.all_input_nodes, inside)):
            (inside[node],) = found
    for node in reversed(graph.nodes):
        if node not in inside and node.op in ("call_function", "get_attr") and node.users:
            found = {inside.get(user, -1) for user in node.users}
            if len(found) == 1 and -1 not in found and not any(map(_is_mark, node.users)):
                (inside[node],) = found
    return {node: number for node, number in inside.items() if not _is_mark(node)}


def _numbers(nodes: Sequence[Node], inside: Mapping[Node, int]) -> set[int]:
    return {inside[node] for node in nodes if node in inside}


def _is(node: Node, mark: str) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.name == f"{NAMESPACE}::{mark}"


def _is_mark(node: Node) -> bool:
    return any(_is(node, mark) for mark in ("enter", "leave", "repeat"))


def unfold(program: ExportedProgram, folded: Sequence[Folded]) -> ExportedProgram:
    """A lowered program with all of its blocks; the one given is used up."""
    inside = regions(program.graph)
    for number, fold in enumerate(folded):
        _Unfolding(program, fold, inside, number).run()
    program.graph.lint()
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=program.graph_signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        constants=program.constants,
        verifiers=[program.verifier],
    )


class _Unfolding:
    """The blocks of one structure. Edits the program in place."""

    def __init__(
        self, program: ExportedProgram, folded: Folded, inside: Mapping[Node, int], number: int
    ) -> None:
        self.program, self.folded, self.graph = program, folded, program.graph
        self.body = [node for node in self.graph.nodes if inside.get(node) == number]
        marks = [node for node in self.graph.nodes if _is_mark(node) and number in node.args]
        (self.begin,) = (node for node in marks if _is(node, "enter"))
        (self.end,) = (node for node in marks if _is(node, "leave"))
        self.copies = [node for node in marks if _is(node, "repeat") and node.args[2] == number]
        self.delegates = {
            node: Delegate(getattr(program.graph_module, node.target))
            for node in self.body
            if node.op == "get_attr"
        }

    def run(self) -> None:
        for node in self.copies:
            self._copy(node, *self.folded.copies[node.args[3]])
        for mark in (self.end, self.begin):
            _replace(mark, mark.args[0])

    def _copy(self, place: Node, name: str, block: Block) -> None:
        """The block ``name`` in the place of an operator."""
        prefix = (f"{self.folded.first}.", f"{name}.")
        tensors = {prefix[1] + key: one for key, one in _tensors(block).items()}
        made = {get: place.args[0][get.args[1]] for get in self.begin.users}

        def of(node: Node) -> Node:
            if node.op == "placeholder" and node not in made:
                made[node] = self._input(node, prefix, tensors)
            return made.get(node, node)

        for node in self.body:
            if node in made:
                continue
            if node in self.delegates:
                module = self.delegates[node].with_tensors(prefix, tensors)
                target = get_lowered_module_name(self.program.graph_module, module)
                with self.graph.inserting_before(place):
                    made[node] = self.graph.get_attr(target)
                continue
            for given in node.all_input_nodes:
                of(given)
            with self.graph.inserting_before(place):
                made[node] = self.graph.node_copy(node, of)
        _replace(place, [of(result) for result in self.end.args[0]])

    def _input(self, node: Node, prefix: tuple[str, str], tensors: Mapping[str, Tensor]) -> Node:
        """The input of the copy in the place of ``node``, which stays where all blocks share it."""
        specs = self.program.graph_signature.input_specs
        index = next(i for i, spec in enumerate(specs) if spec.arg.name == node.name)
        spec = specs[index]
        if spec.target is None or not spec.target.startswith(prefix[0]):
            return node
        target = spec.target.replace(*prefix, 1)
        with self.graph.inserting_after(node):
            new = self.graph.placeholder(f"{node.name}_{len(specs)}")
        new.meta = copy.copy(node.meta)
        specs.insert(
            index + 1, InputSpec(spec.kind, TensorArgument(new.name), target, spec.persistent)
        )
        store = self.program.constants if spec.persistent is False else self.program.state_dict
        store[target] = tensors[target]
        return new


def _replace(mark: Node, values: Sequence[Node]) -> None:
    """Put ``values`` where the results of a mark are used."""
    for get in list(mark.users):
        get.replace_all_uses_with(values[get.args[1]])
        mark.graph.erase_node(get)
    mark.graph.erase_node(mark)
