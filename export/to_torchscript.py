"""Lowering to TorchScript: the eager network traced, the expert loop scripted.

A trace would bake the number of rows per expert into the program; scripting keeps the loop.
"""

from __future__ import annotations

import io
import zipfile

import torch
from torch import Tensor, nn

from export.program import Interface, with_replaced
from model.feed_forward import MoeFeedForward


class ScriptMoe(nn.Module):
    """``MoeFeedForward`` in the part of Python that TorchScript compiles."""

    def __init__(self, layer: MoeFeedForward) -> None:
        super().__init__()
        self.register_buffer("gate", layer.gate.weight.detach())
        self.gate: Tensor
        self.experts = layer.experts
        self.k = layer.n_expert_activated
        self.n_expert = len(layer.experts)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.size(-1))
        value, expert = torch.matmul(rows, self.gate.t()).topk(self.k, dim=-1)
        weight = torch.softmax(value, dim=-1).reshape(-1)
        order = torch.argsort(expert.reshape(-1), stable=True)
        row = torch.div(order, self.k, rounding_mode="floor")
        parts = rows.index_select(0, row)
        ends: list[int] = (
            torch.bincount(expert.reshape(-1), minlength=self.n_expert).cumsum(0).tolist()
        )
        outputs = torch.empty_like(parts)
        begin = 0
        for index, run in enumerate(self.experts):
            end = ends[index]
            if end > begin:
                outputs[begin:end] = run(parts[begin:end])
            begin = end
        weighted = outputs * weight[order].unsqueeze(1)
        return torch.zeros_like(rows).index_add(0, row, weighted).reshape(x.shape)


def lower(program: nn.Module, interface: Interface) -> bytes:
    """The program as one TorchScript archive; no size that varies has a bound."""
    lowered = with_replaced(
        program, {MoeFeedForward: lambda layer: torch.jit.script(ScriptMoe(layer))}
    )
    with torch.no_grad():
        traced = torch.jit.trace(lowered, interface.example, check_trace=False)
    file = io.BytesIO()
    # Not frozen: that makes one function of all layers, which takes seconds and gigabytes to load.
    torch.jit.save(traced.eval(), file)
    return _unpacked(file.getvalue())


def _unpacked(archive: bytes) -> bytes:
    """The archive with no member compressed, so that a reader knows its size beforehand."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            # Without a date, which would make two exports differ.
            target.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_STORED)
    return file.getvalue()
