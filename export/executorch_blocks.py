"""Blocks of one structure are lowered to ExecuTorch once; the others are copies with other weights.

    fold    the first block of a structure gets marks where it begins and ends, and each further one
            becomes a single operator
            -> torch.export, edge dialect, delegates
    unfold  in the place of each such operator comes a copy of what the first block has become;
            all delegates get their weights

ExecuTorch traces a program about fifteen times, a millisecond per node and trace: seconds for a
block, minutes for all of them. Times: docs/benchmarks/export_time.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from executorch.exir.delegate import get_lowered_module_name
from torch import Tensor, nn
from torch.export.exported_program import ExportedProgram, InputSpec, TensorArgument
from torch.fx import Graph, Node

from export.executorch_delegate import Delegate

NAMESPACE = "edge_asr_blocks"


@torch.library.custom_op(f"{NAMESPACE}::enter", mutates_args=())
def enter(inputs: Sequence[Tensor], structure: int) -> list[Tensor]:
    """Where the first block of a structure begins."""
    raise NotImplementedError


@torch.library.custom_op(f"{NAMESPACE}::leave", mutates_args=())
def leave(results: Sequence[Tensor], structure: int) -> list[Tensor]:
    """Where it ends."""
    raise NotImplementedError


@torch.library.custom_op(f"{NAMESPACE}::again", mutates_args=())
def again(inputs: Sequence[Tensor], structure: int, index: int, results: int) -> list[Tensor]:
    """The block of that index among the further ones."""
    raise NotImplementedError


enter.register_fake(lambda inputs, structure: [torch.empty_like(one) for one in inputs])
leave.register_fake(lambda results, structure: [torch.empty_like(one) for one in results])
again.register_fake(
    lambda inputs, structure, index, results: [torch.empty_like(one) for one in inputs[:results]]
)


class Block(nn.Module):
    """A part of a network that occurs again with other weights; not within another.

    It takes tensors by position and gives a tuple of ``results`` tensors, each of the shape and
    dtype of the input in the same place. A norm at its beginning costs nothing: XNNPACK has none,
    so no delegate would reach over this border.
    """

    results = 1


class _First(nn.Module):
    def __init__(self, block: Block, structure: int) -> None:
        super().__init__()
        self.block, self.structure = block, structure

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        results = self.block(*enter(inputs, self.structure))
        return tuple(leave(results, self.structure))


class _Again(nn.Module):
    def __init__(self, structure: int, index: int, results: int) -> None:
        super().__init__()
        self.place = (structure, index, results)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(again(inputs, *self.place))


@dataclass(frozen=True)
class Folded:
    """The blocks of one structure: the name of the first, and names and modules of the others."""

    first: str
    others: Sequence[tuple[str, Block]]


def fold(program: nn.Module) -> list[Folded]:
    """Take all blocks but the first of each structure out of a program, in place."""
    found: dict[str, list[tuple[str, Block]]] = {}
    for name, module in program.named_modules():
        if isinstance(module, Block):
            found.setdefault(_structure(module), []).append((name, module))
    folded: list[Folded] = []
    for (first, block), *others in found.values():
        if others:
            structure = len(folded)
            _put(program, first, _First(block, structure))
            for index, (name, other) in enumerate(others):
                _put(program, name, _Again(structure, index, other.results))
            folded.append(Folded(f"{first}.block", others))
    return folded


def _put(program: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(program.get_submodule(parent), leaf, module)


def _structure(block: Block) -> str:
    """What a trace sees of a block: all but the values of its tensors."""
    modules = [
        (name, type(module), {key: value for key, value in vars(module).items() if key[0] != "_"})
        for name, module in block.named_modules()
    ]
    tensors = [(name, one.shape, one.dtype) for name, one in _tensors(block).items()]
    return repr((modules, tensors))


def _tensors(block: Block) -> dict[str, Tensor]:
    return dict(block.named_parameters()) | dict(block.named_buffers())


def _is(node: Node, *marks: str) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.name in {f"{NAMESPACE}::{mark}" for mark in marks}


def regions(graph: Graph) -> dict[Node, int]:
    """The nodes of blocks between marks, with the structures' numbers.

    They are what begins at the first mark and not at the second, and what only these use.
    """
    inside: dict[Node, int] = {}
    for node in graph.nodes:
        if _is(node, "enter"):
            inside[node] = node.args[1]
        elif not _is(node, "leave"):
            for given in node.all_input_nodes:
                if given in inside:
                    inside[node] = inside[given]
    marks = {node for node in inside if _is(node, "enter")}
    for node in reversed(graph.nodes):
        if node not in inside and node.op in ("call_function", "get_attr") and node.users:
            users = {None if user in marks else inside.get(user) for user in node.users}
            (only,) = users if len(users) == 1 else (None,)
            if only is not None:
                inside[node] = only
    return {node: structure for node, structure in inside.items() if node not in marks}


def unfold(program: ExportedProgram, folded: Sequence[Folded]) -> ExportedProgram:
    """A program with planned delegates, with all of its blocks and delegates of XNNPACK; the one
    given is used up."""
    inside = regions(program.graph)
    delegates = {
        node: Delegate(getattr(program.graph_module, node.target).original_module)
        for node in program.graph.nodes
        if node.op == "get_attr"
    }
    for structure, blocks in enumerate(folded):
        body = [node for node in program.graph.nodes if inside.get(node) == structure]
        _Unfolding(program, structure, blocks, body, delegates).run()
    for node, delegate in delegates.items():
        setattr(program.graph_module, node.target, delegate.lowered({}))
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
    """Puts the blocks of one structure into a program, in place."""

    def __init__(
        self,
        program: ExportedProgram,
        structure: int,
        blocks: Folded,
        body: Sequence[Node],
        delegates: Mapping[Node, Delegate],
    ) -> None:
        self.program, self.graph = program, program.graph
        self.structure, self.blocks, self.body = structure, blocks, body
        self.delegates = delegates
        (self.begin,) = self._marks("enter")
        (self.end,) = self._marks("leave")

    def _marks(self, kind: str) -> Iterator[Node]:
        for node in self.graph.nodes:
            if _is(node, kind) and node.args[1] == self.structure:
                yield node

    def run(self) -> None:
        for place in list(self._marks("again")):
            self._copy_to(place, *self.blocks.others[place.args[2]])
        for mark in (self.end, self.begin):
            _replace(mark, mark.args[0])

    def _copy_to(self, place: Node, name: str, block: Block) -> None:
        """The block of that name, in the place of an operator."""
        tensors = {f"{self.blocks.first}.{key}": one for key, one in _tensors(block).items()}
        made = {given: place.args[0][given.args[1]] for given in self.begin.users}

        def of(node: Node) -> Node:
            if node.op == "placeholder" and node not in made:
                made[node] = self._input(node, name, tensors)
            return made.get(node, node)

        for node in self.body:
            if node in self.begin.users:
                continue
            for given in node.all_input_nodes:
                of(given)  # inputs of the program stand before its nodes
            with self.graph.inserting_before(place):
                if delegate := self.delegates.get(node):
                    module = delegate.lowered(tensors)
                    target = get_lowered_module_name(self.program.graph_module, module)
                    made[node] = self.graph.get_attr(target)
                else:
                    made[node] = self.graph.node_copy(node, of)
        _replace(place, [of(result) for result in self.end.args[0]])

    def _input(self, node: Node, name: str, tensors: Mapping[str, Tensor]) -> Node:
        """What the block ``name`` has for an input of the program: its own where ``tensors``,
        which have the names of the first block's, are in its place."""
        specs = self.program.graph_signature.input_specs
        index = next(i for i, spec in enumerate(specs) if spec.arg.name == node.name)
        spec = specs[index]
        if spec.target not in tensors:
            return node
        target = name + spec.target.removeprefix(self.blocks.first)
        with self.graph.inserting_after(node):
            new = self.graph.placeholder(f"{node.name}_{len(specs)}")
        new.meta = copy.copy(node.meta)
        argument = TensorArgument(new.name)
        specs.insert(index + 1, InputSpec(spec.kind, argument, target, spec.persistent))
        store = self.program.constants if spec.persistent is False else self.program.state_dict
        store[target] = tensors[spec.target]
        return new


def _replace(mark: Node, values: Sequence[Node]) -> None:
    """Use ``values`` where results of a mark are used."""
    for result in list(mark.users):
        result.replace_all_uses_with(values[result.args[1]])
        mark.graph.erase_node(result)
    mark.graph.erase_node(mark)
