"""ExecuTorch's lowering without the work that changes nothing.

Stock ExecuTorch sorts, copies and compiles the whole graph after each delegate that it takes out,
so that its time grows with the square of the layers, and traces every delegate once in each of
XNNPACK's passes. Functions of the pinned release are replaced for as long as a program is lowered;
the tests of this module fail with a release that no longer has them or no longer needs that.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

from executorch.backends.xnnpack import _passes
from executorch.exir.backend import backend_api
from executorch.exir.pass_base import ExportPass
from torch.fx import Graph, Node
from torch.fx.passes.infra.pass_base import PassResult
from torch.utils import _pytree as pytree

# What a pass overrides that changes a graph while it is traced; every class has its own _abc_impl.
HOOKS = [
    name
    for name in dir(ExportPass)
    if not name.startswith("__") and name not in ("call", "_abc_impl")
]


@contextmanager
def lean_lowering() -> Iterator[None]:
    """For a ``with`` block: the same delegates, and an order of calls that is nearer the model's.

    Not for several threads: what is replaced is replaced for all.
    """
    take_out = partial(backend_api.create_submodule_from_nodes, skip_legalize_graph=True)
    take_all_out = _sorting_once(backend_api._create_partitions_in_graph_module)
    transform = _tracing_changes(_passes._transform)
    with (
        mock.patch.object(backend_api, "create_submodule_from_nodes", take_out),
        mock.patch.object(backend_api, "_create_partitions_in_graph_module", take_all_out),
        mock.patch.object(_passes, "_transform", transform),
    ):
        yield


def _sorting_once(take_all_out: Callable[..., Any]) -> Callable[..., Any]:
    """Delegates leave a graph unsorted; nothing reads it in order until all are out."""

    def wrapped(graph_module: Any, *arguments: Any) -> Any:
        taken = take_all_out(graph_module, *arguments)
        sort(graph_module.graph)
        return taken

    return wrapped


def _tracing_changes(transform: Callable[..., Any]) -> Callable[..., Any]:
    """A pass traces a delegate only where it has changed it, which most passes never do."""

    def wrapped(program: Any, transform_pass: Any) -> Any:
        kind = type(transform_pass)
        if any(getattr(kind, hook) is not getattr(ExportPass, hook) for hook in HOOKS):
            return transform(program, transform_pass)
        before, trace = _content(program.graph), ExportPass.call

        def trace_if_changed(self: Any, graph_module: Any) -> Any:
            if _content(graph_module.graph) == before:
                return PassResult(graph_module, False)
            return trace(self, graph_module)

        with mock.patch.object(ExportPass, "call", trace_if_changed):
            return transform(program, transform_pass)

    return wrapped


def _content(graph: Graph) -> list[Any]:
    """What a graph computes, and which values its nodes have, in a form that can be compared."""
    place = {node: index for index, node in enumerate(graph.nodes)}
    return [
        (
            node.op,
            node.target,
            pytree.tree_map_only(Node, place.get, (node.args, node.kwargs)),
            id(node.meta.get("val")),
        )
        for node in graph.nodes
    ]


def sort(graph: Graph) -> None:
    """Put every node after its inputs, in place; else nodes stay in their order."""
    nodes = list(graph.nodes)
    place = {node: index for index, node in enumerate(nodes)}
    missing = {node: len(node.all_input_nodes) for node in nodes}
    ready = [index for node, index in place.items() if not missing[node]]
    while ready:
        node = nodes[heapq.heappop(ready)]
        graph._root.prepend(node)
        for user in node.users:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, place[user])
