"""The eager network behind the runtime's protocol: what every program is compared with."""

from __future__ import annotations

import torch
from torch import nn

from edge_asr.backends import EncoderStep, FloatArray, State
from export.program import EncoderProgram, with_replaced
from model.network import Network
from quant.linear import QuantLinear


class EagerEncoder:
    """``edge_asr.backends.Encoder`` on torch modules."""

    def __init__(self, network: Network, float_activations: bool = False) -> None:
        """``float_activations`` keeps the rounded weights of a quantized network, and rounds
        nothing else: the difference is what rounding activations does."""
        self.program = EncoderProgram(network).eval()
        if float_activations:
            self.program = with_replaced(self.program, {QuantLinear: _float_linear})

    @torch.inference_mode()
    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``edge_asr.backends.Encoder``."""
        tensors = [torch.from_numpy(array) for array in state]
        outputs = self.program(torch.from_numpy(feats), torch.tensor([offset]), *tensors)
        encoder_out, log_probs, *next_state = (tensor.numpy() for tensor in outputs)
        return EncoderStep(encoder_out, log_probs, tuple(next_state))


def _float_linear(layer: QuantLinear) -> nn.Linear:
    outputs, inputs = layer.weight.shape
    linear = nn.Linear(inputs, outputs)
    linear.weight = nn.Parameter(layer.dequantized(), requires_grad=False)
    linear.bias = nn.Parameter(layer.bias, requires_grad=False)
    return linear
