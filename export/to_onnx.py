"""Lowering to ONNX: stock operators of onnxruntime, sparse expert dispatch, exact integers.

The network is traced once. Only two layers are written in operators here: the quantized
linear layer and the expert layer, which runs each expert on just its rows:

    route -> order the (row, expert) pairs by expert -> one product per expert on its slice
          -> back to row order -> weighted sum

An expert without rows multiplies an empty matrix, which costs nothing.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn

from export.native import DOMAIN, on_native
from export.program import Interface, with_replaced
from model.feed_forward import FeedForward, MoeFeedForward
from quant.linear import SMALLEST_SCALE, QuantLinear

OPSET = 17
# Activations are sent as q + 128: unsigned times signed is the pair that processors multiply
# fastest, and the integers stay the same.
STEPS = 255


class _Graph:
    """Shorthand over the tracer's graph context."""

    def __init__(self, g: Any) -> None:
        self.g = g

    def __call__(self, name: str, *inputs: Any, **attributes: Any) -> Any:
        return self.g.op(name, *inputs, **attributes)

    def constant(self, tensor: Tensor) -> Any:
        return self.g.op("Constant", value_t=tensor)

    def ints(self, *values: int) -> Any:
        return self.constant(torch.tensor(values, dtype=torch.int64))

    def number(self, value: float) -> Any:
        return self.constant(torch.tensor(value))

    def quantize(self, rows: Any) -> tuple[Any, Any, Any]:
        """float (N, I) to uint8 (N, I), minus its zero points (N, 1) int32, and its scales (N, 1);
        see ``quant.linear``."""
        low = self("Min", self("ReduceMin", rows, axes_i=[-1], keepdims_i=1), self.number(0.0))
        high = self("Max", self("ReduceMax", rows, axes_i=[-1], keepdims_i=1), self.number(0.0))
        scale = self("Div", self("Sub", high, low), self.number(float(STEPS)))
        scale = self("Max", scale, self.number(SMALLEST_SCALE))
        lowest = self("Round", self("Div", low, scale))
        shifted = self("Sub", self("Round", self("Div", rows, scale)), lowest)
        integers = self("Cast", self("Min", shifted, self.number(float(STEPS))), to_i=2)
        return integers, self("Cast", lowest, to_i=6), scale

    def like(self, out: Any, x: Any, width: int) -> Any:
        """``out`` declared to have the shape of ``x`` but for its last axis: the exporter does
        not know what these operators give."""
        sizes = x.type().sizes()
        if sizes is not None:
            out.setType(x.type().with_sizes([*sizes[:-1], width]))
        return out

    def silu_or_relu(self, x: Any, activation: str) -> Any:
        return self("Relu", x) if activation == "relu" else self("Mul", x, self("Sigmoid", x))


class _LinearFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, weight_sum: Tensor, scale: Tensor, bias: Tensor
    ) -> Tensor:
        return QuantLinear(weight.t(), scale, bias)(x)

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, weight_sum: Any, scale: Any, bias: Any) -> Any:
        op = _Graph(g)
        integers, lowest, row_scale = op.quantize(x)
        product = op("MatMulInteger", integers, weight)
        product = op("Cast", op("Add", product, op("Mul", lowest, weight_sum)), to_i=1)
        scaled = op("Mul", op("Mul", product, row_scale), scale)
        out = op("Add", scaled, bias)
        return op.like(out, x, weight.type().sizes()[1])


class OnnxLinear(nn.Module):
    """``QuantLinear`` with its weight stored (I, O)."""

    def __init__(self, layer: QuantLinear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.t().contiguous())
        self.register_buffer("weight_sum", layer.weight_sum)
        self.register_buffer("scale", layer.weight_scale)
        self.register_buffer("bias", layer.bias)
        self.bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return _LinearFunction.apply(x, self.weight, self.weight_sum, self.scale, self.bias)


class OnnxMoe(nn.Module):
    """``MoeFeedForward`` with quantized or float experts."""

    def __init__(self, layer: MoeFeedForward) -> None:
        super().__init__()
        experts = [expert for expert in layer.experts if isinstance(expert, FeedForward)]
        self.eager = [layer]  # in a list: its tensors are not part of the program
        self.n_expert = len(experts)
        self.k = layer.n_expert_activated
        self.activation = "relu" if isinstance(experts[0].activation, nn.ReLU) else "silu"
        self.quantized = isinstance(experts[0].w_1, QuantLinear)
        self.register_buffer("gate", layer.gate.weight.detach().t().contiguous())
        self.gate: Tensor
        for name in ("w_1", "w_2"):
            linears = [getattr(expert, name) for expert in experts]
            for index, linear in enumerate(linears):
                self.register_buffer(f"{name}_{index}", linear.weight.detach().t().contiguous())
            self.register_buffer(f"{name}_bias", torch.stack([e.bias.detach() for e in linears]))
            if self.quantized:
                sums = torch.stack([e.weight_sum for e in linears])
                self.register_buffer(f"{name}_sum", sums)
                scales = torch.stack([e.weight_scale for e in linears])
                self.register_buffer(f"{name}_scale", scales)

    def forward(self, x: Tensor) -> Tensor:
        tensors = [self.gate]
        for name in ("w_1", "w_2"):
            tensors += [getattr(self, f"{name}_{index}") for index in range(self.n_expert)]
            tensors.append(getattr(self, f"{name}_bias"))
            if self.quantized:
                tensors += [getattr(self, f"{name}_sum"), getattr(self, f"{name}_scale")]
        return self._function().apply(x, *tensors)

    def _function(self) -> Any:
        """An autograd function that knows this layer: how the tracer takes custom operators."""
        layer = self

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor, *tensors: Tensor) -> Tensor:
                return layer.eager[0](x)

            @staticmethod
            def symbolic(g: Any, x: Any, *tensors: Any) -> Any:
                return layer._symbolic(_Graph(g), x, list(tensors))

        return Function

    def _symbolic(self, op: _Graph, x: Any, tensors: list[Any]) -> Any:
        dim = self.gate.size(0)
        gate = tensors.pop(0)
        rows = op("Reshape", x, op.ints(-1, dim))
        value, expert = op.g.op(
            "TopK", op("MatMul", rows, gate), op.ints(self.k), axis_i=1, outputs=2
        )
        weight = op("Reshape", op("Softmax", value, axis_i=1), op.ints(-1, 1))
        flat = op("Reshape", expert, op.ints(1, -1))
        # NonZero lists the pairs expert by expert, and within an expert in row order.
        hit = op("Equal", flat, op.constant(torch.arange(self.n_expert).unsqueeze(1)))
        pairs = op("NonZero", hit)
        expert_of = op("Gather", pairs, op.constant(torch.tensor(0)), axis_i=0)
        order = op("Gather", pairs, op.constant(torch.tensor(1)), axis_i=0)
        counts = op("ReduceSum", op("Cast", hit, to_i=7), op.ints(1), keepdims_i=0)
        row = op("Div", order, op.constant(torch.tensor(self.k)))

        if self.quantized:
            parts = [op("Gather", part, row, axis_i=0) for part in op.quantize(rows)]
            h = self._grouped(op, parts, expert_of, counts, tensors)
            parts = list(op.quantize(op.silu_or_relu(h, self.activation)))
            y = self._grouped(op, parts, expert_of, counts, tensors)
        else:
            parts = [op("Gather", rows, row, axis_i=0)]
            h = self._grouped(op, parts, expert_of, counts, tensors)
            parts = [op.silu_or_relu(h, self.activation)]
            y = self._grouped(op, parts, expert_of, counts, tensors)

        # Back to row order: pair p of the sorted list goes to place order[p].
        size = op("Shape", order)
        ramp = op(
            "Range", op.constant(torch.tensor(0)), op("Squeeze", size), op.constant(torch.tensor(1))
        )
        place = op("ScatterElements", ramp, order, ramp, axis_i=0)
        y = op("Mul", op("Gather", y, place, axis_i=0), weight)
        y = op("ReduceSum", op("Reshape", y, op.ints(-1, self.k, dim)), op.ints(1), keepdims_i=0)
        return op.like(op("Reshape", y, op("Shape", x)), x, dim)

    def _grouped(
        self, op: _Graph, parts: list[Any], expert_of: Any, counts: Any, tensors: list[Any]
    ) -> Any:
        """One product per expert on its slice of the sorted rows, then bias (and scales).

        ``parts`` are the rows, and what ``quantize`` gives beside them.
        """
        weights = [tensors.pop(0) for _ in range(self.n_expert)]
        bias = op("Gather", tensors.pop(0), expert_of, axis_i=0)
        slices = op.g.op("Split", parts[0], counts, axis_i=0, outputs=self.n_expert)
        name = "MatMulInteger" if self.quantized else "MatMul"
        outs = [op(name, rows, w) for rows, w in zip(slices, weights, strict=True)]
        product = op("Concat", *outs, axis_i=0)
        if not self.quantized:
            return op("Add", product, bias)
        _, lowest, scale = parts
        weight_sum = op("Gather", tensors.pop(0), expert_of, axis_i=0)
        product = op("Cast", op("Add", product, op("Mul", lowest, weight_sum)), to_i=1)
        weight_scale = op("Gather", tensors.pop(0), expert_of, axis_i=0)
        return op("Add", op("Mul", op("Mul", product, scale), weight_scale), bias)


def lower(program: nn.Module, interface: Interface) -> bytes:
    """The program as one ONNX file; sizes that vary have no bound, the other ones are fixed."""
    lowered = with_replaced(program, {MoeFeedForward: OnnxMoe, QuantLinear: OnnxLinear})
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            lowered,
            interface.example,
            file,
            input_names=list(interface.inputs),
            output_names=list(interface.outputs),
            dynamic_axes={name: dict(axes) for name, axes in interface.varying.items()},
            opset_version=OPSET,
            custom_opsets={DOMAIN: 1} if on_native(lowered) else None,
            dynamo=False,
        )
    return file.getvalue()
