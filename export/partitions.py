"""ExecuTorch's lowering, without work that changes nothing.

Each function here replaces one of the pinned release for as long as a program is lowered.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

from executorch.backends.xnnpack import _passes
from executorch.exir.backend import backend_api
from executorch.exir.pass_base import ExportPass
from torch.fx import Graph, Node
from torch.fx.passes.infra.pass_base import PassResult

# What a pass overrides that changes a graph by tracing it.
HOOKS = ("call_operator", "call_getitem", "call_submodule", "placeholder", "output")


@contextmanager
def sorted_once() -> Iterator[None]:
    """ExecuTorch's lowering, which sorts a graph once for all of its delegates.

    Stock ExecuTorch copies, sorts and compiles the whole graph after each delegate that it takes
    out, and nothing reads the graph's order until all are out. It has an option to leave that out,
    ``skip_legalize_graph``, which no public function passes on.
    """
    take_out = partial(backend_api.create_submodule_from_nodes, skip_legalize_graph=True)
    all_of_module = backend_api._create_partitions_in_graph_module

    def take_all_out(graph_module: Any, *arguments: Any) -> Any:
        taken = all_of_module(graph_module, *arguments)
        sort(graph_module.graph)
        return taken

    with (
        mock.patch.object(backend_api, "create_submodule_from_nodes", take_out),
        mock.patch.object(backend_api, "_create_partitions_in_graph_module", take_all_out),
        mock.patch.object(_passes, "_transform", transform),
    ):
        yield


def transform(program: Any, transform_pass: Any) -> Any:
    """ExecuTorch's function for one pass, which leaves alone what the pass leaves alone."""
    kind = type(transform_pass)
    if any(getattr(kind, hook) is not getattr(ExportPass, hook) for hook in HOOKS):
        return stock_transform(program, transform_pass)
    before = content(program.graph)
    trace = ExportPass.call

    def trace_if_changed(self: Any, graph_module: Any) -> Any:
        if content(graph_module.graph) == before:
            return PassResult(graph_module, False)
        return trace(self, graph_module)

    with mock.patch.object(ExportPass, "call", trace_if_changed):
        return stock_transform(program, transform_pass)


stock_transform = _passes._transform


def content(graph: Graph) -> list[Any]:
    """What a graph computes, in a form that can be compared."""
    place = {node: index for index, node in enumerate(graph.nodes)}

    def of(value: Any) -> Any:
        if isinstance(value, Node):
            return ("node", place[value])
        if isinstance(value, list | tuple):
            return [of(part) for part in value]
        if isinstance(value, dict):
            return {key: of(part) for key, part in value.items()}
        return value

    return [
        (node.op, str(node.target), of(node.args), of(node.kwargs), id(node.meta.get("val")))
        for node in graph.nodes
    ]


def sort(graph: Graph) -> None:
    """Put every node after its inputs, in place, and else leave the order as it is."""
    place = {node: index for index, node in enumerate(graph.nodes)}
    missing = {node: len(node.all_input_nodes) for node in place}
    ready = [index for node, index in place.items() if not missing[node]]
    nodes = list(place)
    heapq.heapify(ready)
    while ready:
        node = nodes[heapq.heappop(ready)]
        graph._root.prepend(node)
        for user in node.users:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, place[user])
