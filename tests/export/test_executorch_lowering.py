"""Lowering without needless work makes the delegates and the results of the stock one.

What is counted of the stock one says why it is replaced: where a release of ExecuTorch no longer
does that work, the counts fail, and ``export/executorch_lowering.py`` can go.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from executorch.backends.xnnpack import _passes
from executorch.backends.xnnpack._passes.xnnpack_pass import XNNPACKPass
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import lowered_backend_module
from executorch.exir.backend import backend_api
from executorch.exir.lowered_backend_module import get_lowered_submodules
from executorch.exir.pass_base import ExportPass
from torch import Tensor, nn
from torch.fx import Graph

from edge_asr.backends import FloatArray
from edge_asr.backends.executorch_binding import choose_binding
from export import to_executorch
from export.executorch_layers import row_feed_forward
from export.executorch_lowering import lean_lowering, sort
from model.config import FeedForwardConfig
from model.feed_forward import MoeFeedForward
from quant.linear import quantize_linear
from quant.plan import quantizable, replace_module

DIM, MAX_ROWS = 8, 16

pytestmark = pytest.mark.timeout(300)


class Layers(nn.Module):  # type: ignore[misc]
    """Quantized expert layers with norms between them, over rows (R, D)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        conf = FeedForwardConfig(hidden=12, activation="swish", n_expert=2, n_expert_activated=1)
        layers = [MoeFeedForward(DIM, conf).eval().requires_grad_(False) for _ in range(count)]
        for layer in layers:
            for name, linear in list(quantizable(layer)):
                replace_module(layer, name, quantize_linear(linear.weight, linear.bias))
        self.layers = nn.ModuleList(row_feed_forward(layer, MAX_ROWS) for layer in layers)
        self.norm = nn.LayerNorm(DIM)

    def forward(self, rows: Tensor) -> Tensor:
        """rows (R, D) to the same."""
        for layer in self.layers:
            rows = rows + layer(self.norm(rows))
        return rows


@dataclass
class Lowered:
    """A program, the operators of each delegate, and how often its lowering did what."""

    program: bytes
    delegates: list[list[str]]
    sorts: int
    traces: int

    def run(self, rows: FloatArray) -> FloatArray:
        return choose_binding()(self.program, 1).run([rows])[0].astype(np.float32, copy=False)


def lower() -> Lowered:
    counts = {"sorts": 0, "traces": 0}
    shapes = ({0: torch.export.Dim("R", min=1, max=MAX_ROWS)},)
    stock_sort, stock_trace = lowered_backend_module.legalize_graph, ExportPass.call

    def counted_sort(*arguments: Any) -> Any:
        counts["sorts"] += 1
        return stock_sort(*arguments)

    def counted_trace(self: Any, graph_module: Any) -> Any:
        counts["traces"] += isinstance(self, XNNPACKPass)
        return stock_trace(self, graph_module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowered_backend_module, "legalize_graph", counted_sort)
        patch.setattr(ExportPass, "call", counted_trace)
        edge = to_executorch.to_edge(Layers(2).eval(), (torch.randn(4, DIM),), shapes)
    modules = get_lowered_submodules(edge.exported_program().graph_module)
    delegates = sorted(_operators(module.original_module.graph) for _, module, _ in modules)
    return Lowered(bytes(edge.to_executorch().buffer), delegates, **counts)


def _operators(graph: Graph) -> list[str]:
    """Sorted: a graph whose nodes stood in another order has its delegates' in another."""
    return sorted(str(node.target) for node in graph.nodes if node.op == "call_function")


@contextmanager
def stock_lowering() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_executorch, "lean_lowering", nullcontext)
        patch.setattr(to_executorch, "WholeOperators", XnnpackPartitioner)
        yield


@pytest.fixture(scope="module")
def stock() -> Lowered:
    with stock_lowering():
        return lower()


@pytest.fixture(scope="module")
def lean() -> Lowered:
    return lower()


@pytest.mark.slow
def test_delegates_are_the_same(stock: Lowered, lean: Lowered) -> None:
    assert len(lean.delegates) > 2
    assert lean.delegates == stock.delegates


@pytest.mark.slow
def test_results_are_the_same(stock: Lowered, lean: Lowered) -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, MAX_ROWS):
        rows = rng.standard_normal((count, DIM)).astype(np.float32)
        np.testing.assert_array_equal(lean.run(rows), stock.run(rows))
        assert np.abs(lean.run(rows) - rows).max() > 0.01


@pytest.mark.slow
def test_stock_sorts_the_graph_for_each_delegate(stock: Lowered, lean: Lowered) -> None:
    assert stock.sorts == len(stock.delegates)
    assert lean.sorts == 0


@pytest.mark.slow
def test_stock_traces_a_delegate_in_each_pass(stock: Lowered, lean: Lowered) -> None:
    assert stock.traces >= 5 * len(stock.delegates)
    assert lean.traces <= stock.traces / 2


def test_what_is_replaced_comes_back() -> None:
    replaced = [
        (backend_api, "create_submodule_from_nodes"),
        (backend_api, "_create_partitions_in_graph_module"),
        (_passes, "_transform"),
        (ExportPass, "call"),
    ]
    before = [getattr(owner, name) for owner, name in replaced]
    with pytest.raises(RuntimeError), lean_lowering():
        assert all(
            getattr(owner, name) is not known
            for (owner, name), known in zip(replaced[:3], before[:3], strict=True)
        )
        raise RuntimeError
    assert [getattr(owner, name) for owner, name in replaced] == before


def test_sort_puts_nodes_after_their_inputs() -> None:
    exported = torch.export.export(Layers(1).eval(), (torch.randn(4, DIM),), strict=False)
    graph: Graph = exported.graph
    nodes = list(graph.nodes)
    sort(graph)
    assert list(graph.nodes) == nodes  # of a sorted graph nothing moves
    shuffled = random.Random(0).sample(nodes[:-1], len(nodes) - 1)
    for node in shuffled:
        graph._root.append(node)
    with pytest.raises(RuntimeError, match="used before it has been defined"):
        graph.lint()
    sort(graph)
    graph.lint()
    assert set(graph.nodes) == set(nodes)
