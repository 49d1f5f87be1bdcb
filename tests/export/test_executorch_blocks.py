"""A program whose blocks were lowered once is the program of blocks lowered one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from executorch.exir.lowered_backend_module import get_lowered_submodules
from torch import Tensor, nn

from edge_asr.backends import FloatArray
from edge_asr.backends.executorch_binding import choose_binding
from export import to_executorch
from export.executorch_blocks import Block, fold, regions
from export.executorch_layers import FeedForwardBlock
from model.config import FeedForwardConfig
from model.feed_forward import FeedForward, MoeFeedForward
from quant.linear import quantize_linear
from quant.plan import quantizable, replace_module

DIM, MAX_ROWS = 8, 16
pytestmark = pytest.mark.timeout(300)


def sparse() -> nn.Module:
    return MoeFeedForward(DIM, FeedForwardConfig(12, "swish", n_expert=2, n_expert_activated=1))


def dense(hidden: int = 12, activation: str = "swish") -> nn.Module:
    return FeedForward(DIM, hidden, activation)


def block(layer: nn.Module, factor: float = 0.5) -> Block:
    """The feed-forward block of a layer, at int8, with a random norm."""
    layer.eval().requires_grad_(False)
    for name, linear in list(quantizable(layer)):
        replace_module(layer, name, quantize_linear(linear.weight, linear.bias))
    norm = nn.LayerNorm(DIM)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.normal_(norm.bias)
    return FeedForwardBlock(layer, norm, MAX_ROWS, factor)


class Blocks(nn.Module):
    """Blocks over rows (R, D), and what is not theirs."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(DIM)

    def forward(self, rows: Tensor) -> Tensor:
        """rows (R, D) to the same."""
        gate = torch.sigmoid(rows)
        for each in self.blocks:
            (rows,) = each(self.norm(rows))
        return self.norm(rows) * gate


def blocks(count: int) -> Blocks:
    torch.manual_seed(0)
    return Blocks([block(sparse()) for _ in range(count)]).eval()


def export(module: nn.Module) -> torch.fx.Graph:
    shapes = ({0: torch.export.Dim("R", min=1, max=MAX_ROWS)},)
    exported = torch.export.export(
        module, (torch.randn(4, DIM),), dynamic_shapes=shapes, strict=False
    )
    graph: torch.fx.Graph = exported.graph
    return graph


def test_blocks_of_one_structure_are_folded() -> None:
    torch.manual_seed(0)
    kinds = [
        block(sparse()),
        block(sparse(), factor=1.0),
        block(dense()),
        block(sparse()),
        block(sparse(), factor=1.0),
        block(sparse()),
    ]
    module = Blocks(list(kinds))
    folded = fold(module)
    assert [(each.first, [name for name, _ in each.others]) for each in folded] == [
        ("blocks.0.block", ["blocks.3", "blocks.5"]),
        ("blocks.1.block", ["blocks.4"]),
    ]
    assert [other for each in folded for _, other in each.others] == [kinds[3], kinds[5], kinds[4]]
    assert module.blocks[2] is kinds[2]  # alone of its structure, it stays as it is
    left = {name.split(".")[1] for name, _ in module.blocks.named_parameters("blocks")}
    assert left == {"0", "1", "2"}


@pytest.mark.parametrize(
    "other",
    [
        lambda: block(dense(hidden=16)),
        lambda: block(dense(activation="relu")),
        lambda: block(dense()).double(),
    ],
)
def test_another_structure_is_no_copy(other: Callable[[], Block]) -> None:
    assert len(fold(Blocks([block(dense()), block(dense())]))) == 1
    assert fold(Blocks([block(dense()), other()])) == []


def test_a_further_block_is_one_operator_in_a_trace() -> None:
    sizes = []
    for count in (2, 4):
        module = blocks(count)
        fold(module)
        sizes.append(len(export(module).nodes))
    assert sizes[1] - sizes[0] == 2 * 3  # with the norm before it and its result after it


def test_regions_are_what_was_traced_of_blocks() -> None:
    module = Blocks([block(sparse()), block(dense()), block(sparse()), block(dense())])
    fold(module)
    graph = export(module)
    inside = regions(graph)
    for number, name in enumerate(("blocks.0.block", "blocks.1.block")):
        traced = {
            node
            for node in graph.nodes
            if node.op == "call_function"
            and name in {path for path, _ in node.meta.get("nn_module_stack", {}).values()}
        }
        found = {node for node, region in inside.items() if region == number}
        assert len(traced) > 10 and traced <= found
        # Else it has only the tensors from the mark, and sizes of them.
        assert all(node.name.startswith(("getitem", "sym_size")) for node in found - traced)


@dataclass
class Lowered:
    """A program, and the operators that delegates run."""

    program: bytes
    operators: list[str]

    def run(self, rows: FloatArray) -> FloatArray:
        result: FloatArray = choose_binding()(self.program, 1).run([rows])[0]
        return result


def lower(module: nn.Module) -> Lowered:
    shapes = ({0: torch.export.Dim("R", min=1, max=MAX_ROWS)},)
    edge = to_executorch.to_edge(module, (torch.randn(4, DIM),), shapes)
    modules = get_lowered_submodules(edge.exported_program().graph_module)
    nodes = (node for _, each, _ in modules for node in each.original_module.graph.nodes)
    operators = sorted(str(node.target) for node in nodes if node.op == "call_function")
    return Lowered(bytes(edge.to_executorch().buffer), operators)


@pytest.mark.slow
def test_results_are_those_of_blocks_lowered_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = lower(blocks(3))
    monkeypatch.setattr(to_executorch, "fold", lambda program: [])
    stock = lower(blocks(3))
    assert len(folded.operators) > 50 and folded.operators == stock.operators
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, MAX_ROWS):
        rows = rng.standard_normal((count, DIM)).astype(np.float32)
        np.testing.assert_array_equal(folded.run(rows), stock.run(rows))


@pytest.mark.slow
def test_blocks_have_their_own_weights() -> None:
    """All blocks as the first one would give the same for blocks that change places."""
    module = blocks(2)
    rows = np.random.default_rng(1).standard_normal((3, DIM)).astype(np.float32)
    swapped = Blocks(list(module.blocks)[::-1]).eval()
    assert np.abs(lower(swapped).run(rows) - lower(module).run(rows)).max() > 0.01
